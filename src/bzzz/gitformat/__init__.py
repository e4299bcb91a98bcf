"""Git's own formats, as bytes: objects and packs, and the pkt-lines that carry them.

Pure, and shared by those who push (``ledger``) and those who are pushed to (``forge``), which know nothing
of each other. What arrives is hostile: whatever is not of its form raises ``ValueError`` and nothing else.
"""

"""The claim ledger: git refs as the one authority for who has a task.

``git_ref`` is the adapter for every git server (smart HTTP, or a repository on this machine), ``memory``
one that keeps its refs in this process. The modules beneath them are pure but for ``remote``,
``local_service`` and ``git_process``.
"""

"""Write ``docs/claim-states.md`` from the transition table; with ``--check``, only say whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from bzzz.core.diagram import page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "claim-states.md"


def main() -> int:
    """Write or check the page; the exit status is 1 if it was checked and is not current."""
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        if not current:
            sys.stderr.write(f"{PAGE} is not current; run: python scripts/claim_states.py\n")
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

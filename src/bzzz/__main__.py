"""``python -m bzzz``: the command line."""

from __future__ import annotations

from bzzz.cli.main import main

main()

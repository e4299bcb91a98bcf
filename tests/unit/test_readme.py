"""The README tells what is so."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.settings_table import README, rewritten

from bzzz.cli.main import COMMANDS


def test_the_readme_has_every_setting_as_it_is() -> None:
    text = README.read_text()
    assert rewritten(text) == text, "run: .venv/bin/python scripts/settings_table.py"


def test_the_readme_names_every_command() -> None:
    text = README.read_text()
    missing = [name for name in COMMANDS if not re.search(rf"`(bzzz )?{name}\b", text)]
    assert missing == []


def test_every_page_that_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (Path(README).parent / target).exists(), target

"""What the pages under ``docs`` name is there: tests, modules, flaws, files and each other's sections."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from bzzz.simulation.flaw import Flaw

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def _tests() -> set[str]:
    modules = list((ROOT / "tests").rglob("test_*.py"))
    functions = (re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE) for path in modules)
    return {path.stem for path in modules}.union(*functions)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    assert set(re.findall(r"`(test_\w+)", page.read_text())) - _tests() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(bzzz\.[a-z_.]+)`", page.read_text()))
    assert {name for name in named if importlib.util.find_spec(name) is None} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text()):
        name, _, section = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        assert not section or section in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}, (
            target
        )


def test_the_flaws_that_the_protocol_names_are_the_simulators() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    assert set(re.findall(r"flaw `([a-z-]+)`", text)) == {flaw.value for flaw in Flaw}

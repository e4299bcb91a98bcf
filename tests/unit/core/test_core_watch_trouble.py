"""A repository that cannot be read is told of, in a line for each trouble, and not at each try."""

from __future__ import annotations

from tests.support.one_core import REPOSITORY, OneCore, of

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.watch import TROUBLES_TOLD_MAX


def told(node: OneCore, *details: str) -> list[str]:
    """The lines that these failures, one after another, make a node say."""
    lines = []
    for detail in details:
        node.step(ev.TasksNotListed(REPOSITORY.key, detail))
        lines += [notice.text for notice in of(node.effects, fx.Notice)]
    return lines


def test_the_same_trouble_is_told_once_also_where_another_came_between() -> None:
    node = OneCore()
    node.start()
    lines = told(node, "503", "503", "held back", "503", "held back")
    assert lines == [f"{REPOSITORY.key} cannot be read: {detail}" for detail in ("503", "held back")]


def test_a_trouble_that_comes_back_after_a_good_reading_is_told_again() -> None:
    node = OneCore()
    node.start()
    assert len(told(node, "503")) == 1
    node.listed()
    assert len(told(node, "503")) == 1


def test_troubles_that_never_read_the_same_are_bounded() -> None:
    node = OneCore()
    node.start()
    assert len(told(node, *(f"held back for {second} s" for second in range(100)))) == TROUBLES_TOLD_MAX

"""Task types, priorities, keywords and matching: the predecessor's rules, and hostile text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.capability import KEYWORDS_MAX, keywords, match, priority, task_type
from bzzz.core.task import Task, TaskId, TaskType


@pytest.mark.parametrize(
    ("labels", "title", "body", "kind"),
    [
        (("bug",), "Add a page", "", TaskType.BUG),
        (("type-documentation",), "Fix the crash", "", TaskType.DOCUMENTATION),
        (("type: testing",), "", "", TaskType.TESTING),
        (("ui/ux",), "", "", TaskType.UI_UX),
        (("general",), "Fix the crash", "", TaskType.GENERAL),
        (("help wanted",), "Fix the crash", "refactor", TaskType.BUG),
        ((), "The page", "please refactor this", TaskType.REFACTOR),
        ((), "Debugging", "prefixed", TaskType.GENERAL),
        ((), "A CVE in the parser", "add tests", TaskType.SECURITY),
        ((), "", "", TaskType.GENERAL),
    ],
)
def test_the_type_comes_from_labels_then_title_then_body(
    labels: tuple[str, ...], title: str, body: str, kind: TaskType
) -> None:
    assert task_type(labels, title, body) is kind


@pytest.mark.parametrize(
    ("labels", "number"),
    [
        ((), 0),
        (("priority-3",), 3),
        (("priority-2", "PRIORITY-9"), 9),
        (("priority-9999",), 100),
        (("priority--1",), 0),
        (("priority-x",), 0),
        (("priority-" + "9" * 5000,), 0),
        (("priority-²",), 0),
    ],
)
def test_the_highest_priority_label_counts_within_bounds(labels: tuple[str, ...], number: int) -> None:
    assert priority(labels) == number


def task(labels: tuple[str, ...] = (), title: str = "Fix the gate", body: str = "") -> Task:
    return Task(TaskId("acme/garden", 7), title, task_type(labels, title, body), 0, labels, keywords(title, body))


def test_a_need_that_a_node_has_not_excludes_it() -> None:
    assert match(task(("needs-gpu",)), ("coding",), "", ()) == 0
    assert match(task(("needs-GPU",)), ("gpu",), "", ()) > 0
    assert match(task(("model-llama",)), ("coding",), "", ("mistral:7b",)) == 0
    assert match(task(("model-llama",)), ("coding",), "", ("Llama3:8b",)) > 0


def test_whoever_is_suited_scores_above_whoever_merely_may() -> None:
    plain = match(task(), (), "", ())
    able = match(task(), ("debugging",), "", ())
    special = match(task(), ("debugging",), "bug", ())
    assert 1 == plain < able < special <= 15


HOSTILE = st.text(st.characters(codec="utf-8") | st.sampled_from("\x00\x1b\u202e\n#/.-"), max_size=200)


@given(
    st.lists(HOSTILE, max_size=5).map(tuple), HOSTILE, HOSTILE, st.lists(HOSTILE, max_size=4).map(tuple), HOSTILE
)
def test_any_text_is_only_data(
    labels: tuple[str, ...], title: str, body: str, capabilities: tuple[str, ...], special: str
) -> None:
    found = task(labels, title, body)
    assert 0 <= match(found, capabilities, special, capabilities) <= 15
    assert len(found.keywords) <= KEYWORDS_MAX
    assert all(len(word) <= 40 for word in found.keywords)
    assert 0 <= priority(labels) <= 100


@pytest.mark.parametrize(
    "unit", ["a", "a.", "ab ", "a-", "\u202e", "fix ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "../"]
)
def test_a_megabyte_of_hostile_text_is_read_quickly(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    task((text,), text, text)
    assert time.process_time() - began < 1.0

"""A person's wish for another try is seen once, and only from who may ask."""

from __future__ import annotations

import pytest

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Comment, Pull, TaskId
from bzzz.runtime.again import asked_by_comment, closed_unmerged

TASK = TaskId("acme/shop", 7)


def record(state: RecordState = RecordState.DELIVERED, answered: int = 0) -> ClaimRecord:
    return ClaimRecord(
        TASK, 2, Holder("peer", "walnut"), state, "nonce", branch="bzzz/task-7-aa", answered=answered
    )


def pull(number: int, state: str, *, merged: bool = False, branch: str = "bzzz/task-7-aa") -> Pull:
    return Pull(number, f"http://forge/{number}", state, branch, "main", "title", merged)


def comment(number: int, body: str, association: str = "OWNER") -> Comment:
    return Comment(number, "somebody", association, body, "2026-01-01T00:00:00Z")


def may_ask(one: Comment) -> bool:
    return one.association == "OWNER"


def test_a_pull_request_closed_unmerged_asks_for_another_try() -> None:
    asked = closed_unmerged(record(), [pull(9, "closed")])
    assert asked is not None
    assert (asked.number, "#9" in asked.reason) == (7, True)


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        [pull(9, "open")],
        [pull(9, "closed", merged=True)],
        [pull(9, "closed"), pull(10, "open")],
        [pull(9, "closed", branch="bzzz/task-7-of-an-earlier-epoch")],
    ],
)
def test_an_open_merged_missing_or_other_pull_request_asks_for_nothing(pulls: list[Pull]) -> None:
    assert closed_unmerged(record(), pulls) is None


def test_an_escalated_task_has_no_pull_request_to_be_closed() -> None:
    assert closed_unmerged(record(RecordState.ESCALATED), [pull(9, "closed")]) is None


def test_the_newest_retry_of_who_may_ask_counts() -> None:
    comments = [comment(1, "/bzzz retry"), comment(2, "  /bzzz retry  \nwith care"), comment(3, "thanks")]
    asked = asked_by_comment(record(), comments, may_ask)
    assert asked is not None
    assert asked.comment == 2


def test_a_retry_that_was_acted_upon_is_not_acted_upon_again() -> None:
    assert asked_by_comment(record(answered=2), [comment(2, "/bzzz retry")], may_ask) is None


@pytest.mark.parametrize("body", ["please /bzzz retry", "> /bzzz retry", "/bzzz retrying", "", "   "])
def test_what_only_mentions_the_command_is_no_command(body: str) -> None:
    assert asked_by_comment(record(), [comment(1, body)], may_ask) is None


def test_a_stranger_cannot_ask() -> None:
    assert asked_by_comment(record(), [comment(1, "/bzzz retry", "NONE")], may_ask) is None

"""What the demo makes of events, in whatever order the nodes' streams bring them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from bzzz.core.task import TaskId
from bzzz.demo.board import LOG_LINES_MAX, Board
from bzzz.demo.run import result_of
from bzzz.demo.verdict import TaskVerdict

KEY = "demo/shop#1"


def event(kind: str, at: float = 0.0, epoch: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "at": at, "kind": kind, "level": "info", "task": KEY, "epoch": epoch, **fields}


def report(kind: str, at: float = 0.0, epoch: int = 1, **fields: Any) -> dict[str, Any]:
    return event("report", at, epoch, report=kind, **fields)


@pytest.fixture
def board() -> Board:
    made = Board()
    made.opened(KEY, "Mend the gate", 100.0)
    return made


def test_a_task_goes_from_open_to_delivered(board: Board) -> None:
    task = board.tasks[KEY]
    states = [task.state]
    for told in (
        report("claimed"),
        event("agent_started", 101.5),
        event("attempt_progress", phase="check", text="x"),
        event("attempt_ended", outcome="proved"),
        report("delivered", 103.0, pull_request="http://forge/pull/1"),
    ):
        board.take("walnut", told)
        states.append(task.state)
    assert states == ["open", "claimed", "agent at work", "checking", "delivering", "delivered"]
    assert (task.node, task.seconds, task.pull_request) == ("walnut", 3.0, "http://forge/pull/1")
    assert (board.nodes["walnut"].done, board.nodes["walnut"].doing) == (1, "")
    assert board.all_delivered()
    assert board.start_latency_p50_s() == 1.5


def test_an_old_word_of_a_former_holder_changes_nothing(board: Board) -> None:
    board.take("walnut", report("claimed"))
    board.take("acacia", report("claimed", epoch=2))
    for told in (
        event("attempt_progress", phase="agent"),
        event("attempt_ended", outcome="stopped"),
        report("released", reason="late"),
    ):
        board.take("walnut", told)
        assert (board.tasks[KEY].state, board.tasks[KEY].node) == ("claimed", "acacia")
    board.take("acacia", report("delivered", epoch=2, pull_request="u"))
    board.take("walnut", event("attempt_ended", outcome="stopped"))
    board.take("acacia", event("attempt_progress", epoch=2, phase="agent"))
    assert board.all_delivered()


def test_in_whatever_order_two_streams_are_read_the_end_is_the_same() -> None:
    walnut = [("walnut", report("claimed")), ("walnut", report("released", reason="r"))]
    acacia = [("acacia", report("claimed", epoch=2)), ("acacia", report("delivered", 5.0, 2, pull_request="u"))]
    for order in permutations([*walnut, *acacia]):
        if order.index(walnut[0]) < order.index(walnut[1]) and order.index(acacia[0]) < order.index(acacia[1]):
            board = Board()
            board.opened(KEY, "t", 0.0)
            for name, told in order:
                board.take(name, told)
            assert board.all_delivered()
            assert (board.tasks[KEY].node, board.tasks[KEY].epoch, board.double_claims()) == ("acacia", 2, 0)


def test_two_holders_of_one_epoch_are_a_double_claim(board: Board) -> None:
    for name in ("walnut", "acacia", "walnut"):
        board.take(name, report("claimed"))
    assert board.double_claims() == 1


def test_events_of_unknown_tasks_and_kinds_are_passed_over(board: Board) -> None:
    for told in (
        {"id": 1, "at": 0.0, "kind": "started", "level": "info"},
        {**report("claimed"), "task": "other/repo#1"},
        report("asked"),
        event("whatever"),
    ):
        board.take("walnut", told)
    assert board.tasks[KEY].state == "open"


def test_the_log_is_bounded(board: Board) -> None:
    for epoch in range(1, LOG_LINES_MAX + 20):
        board.take("walnut", report("claimed", epoch=epoch))
    assert len(board.log) == LOG_LINES_MAX
    assert board.log[-1].endswith(f"epoch {LOG_LINES_MAX + 19}")


def test_without_tasks_nothing_is_delivered_and_nothing_measured() -> None:
    assert not Board().all_delivered()
    assert Board().start_latency_p50_s() is None


# --- the sum --------------------------------------------------------------------------------------------


def verdict(number: int, **changes: Any) -> TaskVerdict:
    values: dict[str, Any] = {
        "task": TaskId("demo/shop", number),
        "deliveries": 1,
        "pull_requests": 1,
        "pull_request": "u",
        "node": "walnut",
        "epoch": 1,
        "reclaimed": False,
        "check_passed": True,
    }
    return TaskVerdict(**{**values, **changes})


def good(*verdicts: TaskVerdict, board: Board | None = None) -> bool:
    return result_of(list(verdicts), board or Board(), nodes=3, elapsed_s=1.0, killed=("", "")).good


def test_all_is_good_when_each_task_was_delivered_once_and_passes() -> None:
    assert good(verdict(1), verdict(2, epoch=2, reclaimed=True))


@pytest.mark.parametrize(
    "verdicts",
    [
        [],
        [verdict(1), verdict(2, deliveries=0)],
        [verdict(1), verdict(2, deliveries=2)],
        [verdict(1), verdict(2, check_passed=False)],
        [verdict(1), verdict(2, pull_requests=0)],
        [verdict(1, pull_requests=2), verdict(2, pull_requests=0)],
    ],
)
def test_anything_else_is_not_good(verdicts: list[TaskVerdict]) -> None:
    assert not good(*verdicts)


def test_a_double_claim_is_not_good(board: Board) -> None:
    for name in ("walnut", "acacia"):
        board.take(name, report("claimed"))
    assert not good(verdict(1), board=board)

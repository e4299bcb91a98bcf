"""Every effect that is answered has an answer for when it broke."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from bzzz.core import effect as module
from bzzz.core.effect import (
    ConfirmTask,
    DeliverWork,
    Effect,
    FindRepositories,
    ListTasks,
    OpenPull,
    ProbePeer,
    ReadClaim,
    SaveWork,
    StartAttempt,
    SwapClaim,
)
from bzzz.core.event import AttemptEnded, SwapEnd, SwapEnded
from bzzz.core.record import ClaimRecord, Holder, RecordState, Version
from bzzz.core.task import Task, TaskId
from bzzz.errors import ServiceFaulty, ServiceLimited
from bzzz.runtime.failure import RETRY_AFTER_S_MAX, failure_event, retry_after_ms

ID = TaskId("a/b", 1)
RECORD = ClaimRecord(ID, 2, Holder("p", "a"), RecordState.HELD, "nonce")
SAMPLES: list[Effect] = [
    FindRepositories(),
    ListTasks("a/b"),
    ProbePeer("p", ()),
    ConfirmTask(ID, read_claim=True),
    SwapClaim(ID, None, RECORD, "claim"),
    DeliverWork(ID, Version("0"), RECORD),
    ReadClaim(ID),
    StartAttempt(Task(ID, "t"), RECORD),
    SaveWork(ID, 2),
    OpenPull(Task(ID, "t"), RECORD),
]


def test_every_effect_that_is_answered_is_among_the_samples() -> None:
    answered = {kind for kind in get_args(module.Effect) if "answered by" in (kind.__doc__ or "")}
    assert answered == {type(sample) for sample in SAMPLES}


@pytest.mark.parametrize("effect", SAMPLES, ids=lambda effect: type(effect).__name__)
def test_an_effect_that_broke_is_answered_with_the_reason(effect: Any) -> None:
    event: Any = failure_event(effect, "it broke")
    answers = [word.strip("`.,") for word in (type(effect).__doc__ or "").split("answered by")[1].split()]
    assert type(event).__name__ in answers
    if not isinstance(effect, ProbePeer):
        assert "it broke" in repr(event)


@pytest.mark.parametrize("effect", [SAMPLES[4], SAMPLES[5]])
def test_of_a_write_that_broke_nobody_knows_whether_it_stands(effect: Any) -> None:
    event = failure_event(effect, "it broke")
    assert isinstance(event, SwapEnded)
    assert (event.end, event.nonce) == (SwapEnd.UNCERTAIN, "nonce")


def test_an_attempt_that_could_not_begin_has_no_work() -> None:
    event = failure_event(SAMPLES[7], "it broke")
    assert isinstance(event, AttemptEnded)
    assert (event.epoch, event.has_work) == (2, False)


@pytest.mark.parametrize(
    ("asked_s", "wait_ms"),
    [(None, None), (1.5, 1_500), (-3.0, 0), (math.nan, None), (math.inf, 86_400_000), (1e300, 86_400_000)],
)
def test_a_wait_that_a_service_asks_for_stays_within_a_day(asked_s: float | None, wait_ms: int | None) -> None:
    assert retry_after_ms(ServiceLimited("forge", "GET", retry_after_s=asked_s)) == wait_ms
    assert wait_ms is None or wait_ms <= RETRY_AFTER_S_MAX * 1000


def test_another_error_asks_for_no_wait() -> None:
    assert retry_after_ms(ServiceFaulty("forge", "GET")) is None

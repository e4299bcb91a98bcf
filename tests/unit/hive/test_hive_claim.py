"""The pure half of a claim through Hive.

With test_hive_api.py it speaks for bzzz.hive.standing.
"""

from __future__ import annotations

import pytest

from bzzz.core.record import ClaimRecord, Holder, Observation, RecordState, Version
from bzzz.core.task import TaskId
from bzzz.hive.claim import held_since, next_record

TASK = TaskId("acme/shop", 5)


def standing(state: RecordState, epoch: int = 3, noted_at: str | None = None) -> Observation:
    record = ClaimRecord(TASK, epoch, Holder("12D3peer", "walnut"), state, "nonce", strikes=2, noted_at=noted_at)
    return Observation(Version(f"{state}-{epoch}-{noted_at}"), record)


def wanted(before: Observation | None) -> ClaimRecord | None:
    return next_record(before, TASK, "old", nonce="fresh", noted_at="2026-01-01T00:00:00Z", ttl_s=60)


def test_an_unclaimed_task_begins_at_epoch_1() -> None:
    record = wanted(None)
    assert record is not None
    assert (record.epoch, record.holder, record.nonce, record.ttl_s) == (1, Holder("hive:old", "old"), "fresh", 60)


@pytest.mark.parametrize("state", list(RecordState))
def test_only_a_released_task_may_change_hands_and_its_epoch_then_grows(state: RecordState) -> None:
    record = wanted(standing(state))
    assert (record is not None) is (state is RecordState.RELEASED)
    if record is not None:
        assert (record.epoch, record.strikes) == (4, 2)


@pytest.mark.parametrize(
    ("times", "since"),
    [
        (("1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"), 60),
        (("1970-01-01T01:01:00+01:00", None), 60),
        ((None, "1970-01-01T00:02:00Z"), None),
        (("yesterday", "1970-01-01T00:02:00Z"), None),
    ],
)
def test_a_claim_is_held_since_the_first_record_of_its_epoch(
    times: tuple[str | None, ...], since: int | None
) -> None:
    chain = [standing(RecordState.HELD, 2, "1970-01-01T00:00:09Z")]
    chain += [standing(RecordState.HELD, 3, each) for each in times]
    assert held_since(chain[-1], chain) == since


def test_without_its_history_a_claim_is_held_since_what_stands() -> None:
    assert held_since(standing(RecordState.HELD, 3, "1970-01-01T00:02:00Z"), []) == 120

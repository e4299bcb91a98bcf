"""A record's reason can always be written, whatever an agent or a stranger put into it."""

from __future__ import annotations

from bzzz.core.claimant import REASON_CHARS_MAX, clean
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId


def record(reason: str) -> ClaimRecord:
    return ClaimRecord(TaskId("a/b", 1), 1, Holder("p", "n"), RecordState.RELEASED, "x", reason=reason)


def test_half_a_letter_in_a_reason_is_replaced_before_it_is_written() -> None:
    assert ClaimRecord.from_bytes(record(clean("failed: \ud83d!")).to_bytes())


def test_a_reason_is_bounded() -> None:
    assert len(clean("x" * 10_000)) == REASON_CHARS_MAX

"""Claim records survive the way through JSON, and whatever else stands under a claim ref is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId

FULL = ClaimRecord(
    task=TaskId("bees/honey", 7),
    epoch=3,
    holder=Holder("12D3KooW", "walnut", 2),
    state=RecordState.DELIVERED,
    nonce="n-1",
    ttl_s=60,
    branch="bzzz/task-7-ab12",
    commit="c0ffee",
    pull_request="http://forge.test/bees/honey/pulls/8",
    reason="done",
    strikes=1,
    noted_at="2026-01-01T00:00:00Z",
)
LEAST = ClaimRecord(TaskId("bees/honey", 7), 1, Holder("12D3KooW", "walnut"), RecordState.HELD, "n-2")


@pytest.mark.parametrize("record", [FULL, LEAST], ids=["full", "least"])
def test_a_record_is_read_back_from_its_bytes(record: ClaimRecord) -> None:
    assert ClaimRecord.from_bytes(record.to_bytes()) == record


def test_the_bytes_of_a_record_do_not_depend_on_who_writes_them() -> None:
    assert (
        LEAST.to_bytes() == json.dumps(json.loads(LEAST.to_bytes()), sort_keys=True, separators=(",", ":")).encode()
    )
    assert b'"branch"' not in LEAST.to_bytes()


def _changed(**fields: Any) -> bytes:
    return json.dumps(FULL.to_object() | fields).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b" " * (RECORD_BYTES_MAX + 1), "is above"),
        (b"[]", "not a JSON object"),
        (_changed(version=2), "version 2 is not 1"),
        (_changed(holder="walnut"), "holder is not an object"),
        (_changed(holder={"peer": "p"}), "agent is not a string"),
        (_changed(task="honey"), "not of the form"),
        (_changed(state="stolen"), "stolen"),
        (_changed(nonce=None), "nonce is not a string"),
        (_changed(branch=1), "branch is not a string"),
        (_changed(epoch=0), "epoch is not a whole number of at least 1"),
        (_changed(epoch=True), "epoch is not"),
        (_changed(epoch=1.0), "epoch is not"),
        (_changed(strikes=-1), "strikes is not"),
        (_changed(ttl_s=2**53), "ttl_s is not"),
    ],
)
def test_what_is_no_record_is_refused_with_the_field_that_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ClaimRecord.from_bytes(data)

"""Claim records: a canonical form that comes back the same, and hostile bytes that only give ``ValueError``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
RECORDS = st.builds(
    ClaimRecord,
    st.builds(TaskId, st.just("acme/garden"), st.integers(0, 10**9)),
    st.integers(1, 2**53 - 1),
    st.builds(Holder, TEXT, TEXT, st.integers(0, 2**53 - 1)),
    st.sampled_from(RecordState),
    TEXT,
    st.integers(0, 10**6),
    *[st.none() | TEXT] * 4,
    st.integers(0, 100),
    st.none() | TEXT,
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(RECORDS)
def test_a_record_comes_back_the_same_and_its_form_is_canonical(record: ClaimRecord) -> None:
    data = record.to_bytes()
    again = ClaimRecord.from_bytes(data)
    assert again == record
    assert again.to_bytes() == data


@given(st.binary(max_size=300))
def test_any_bytes_give_a_record_or_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ClaimRecord.from_bytes(data)


@given(RECORDS, st.data())
def test_a_record_with_one_field_spoiled_gives_a_record_or_a_value_error(
    record: ClaimRecord, data: st.DataObject
) -> None:
    value = record.to_object()
    name = data.draw(st.sampled_from(sorted(value)))
    if data.draw(st.booleans()):
        del value[name]
    else:
        value[name] = data.draw(JSON)
    try:
        found = ClaimRecord.from_object(value)
    except ValueError:
        return
    assert found.epoch >= 1
    assert isinstance(found.holder.peer, str)


@pytest.mark.parametrize(
    "spoiled",
    [
        b'{"version":1,"task":"a/b#1","holder":{"peer":"\\ud800","agent":""},"epoch":1,"nonce":"","state":"held"}',
        b"[" * 100_000,
        b"[" * 60_000,
        b'{"version":1' + b" " * RECORD_BYTES_MAX + b"}",
        b'{"version":1e999}',
        b'{"version":true}',
        b"\xff\xfe",
        b'"\\ud800"',
        b"1" * 5_000,
        b"NaN",
    ],
)
def test_bytes_made_to_hurt_only_give_a_value_error(spoiled: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ClaimRecord.from_bytes(spoiled)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", 0),
        ("epoch", True),
        ("epoch", 1.0),
        ("epoch", 2**53),
        ("state", "taken"),
        ("task", "acme#1"),
        ("task", "acme/garden#-1"),
        ("task", "acme/garden#²"),
        ("holder", []),
        ("nonce", None),
        ("ttl_s", -1),
        ("strikes", "1"),
        ("branch", 3),
        ("version", 2),
    ],
)
def test_a_wrong_field_is_named(name: str, value: object) -> None:
    good = ClaimRecord(TaskId("acme/garden", 7), 1, Holder("p", "a"), RecordState.HELD, "n").to_object()
    with pytest.raises(ValueError, match=name if name not in ("state", "task") else "."):
        ClaimRecord.from_object(json.loads(json.dumps({**good, name: value})))

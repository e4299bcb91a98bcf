"""What a push asks for, and what came of it, read from its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzzz.forge.embedded.pktline import ZERO_ID, RefUpdate, pkt, read_accepted, read_updates

A, B = "a" * 40, "b" * 40


def test_the_commands_of_a_push_are_read_once_they_are_whole() -> None:
    head = pkt(f"{ZERO_ID} {A} refs/heads/x\0 report-status atomic\n".encode()) + pkt(
        f"{A} {B} refs/bzzz/claims/1".encode()
    )
    whole = head + b"0000PACK...."
    assert read_updates(whole) == (RefUpdate("refs/heads/x", ZERO_ID, A), RefUpdate("refs/bzzz/claims/1", A, B))
    for cut in range(len(head) + 4):
        assert read_updates(whole[:cut]) is None


def test_accepted_refs_are_read_with_and_without_side_bands() -> None:
    report = pkt(b"unpack ok\n") + pkt(b"ok refs/heads/x\n") + pkt(b"ng refs/heads/y stale info\n") + b"0000"
    assert read_accepted(report) == {"refs/heads/x"}
    half = len(report) // 2
    banded = pkt(b"\x02remote: hi\n") + pkt(b"\x01" + report[:half]) + pkt(b"\x01" + report[half:]) + b"0000"
    assert read_accepted(banded) == {"refs/heads/x"}


@given(st.binary(max_size=300))
def test_garbage_is_no_event_and_no_crash(data: bytes) -> None:
    read_updates(data)
    read_accepted(data)

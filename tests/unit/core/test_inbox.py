"""The gate: replays, floods and stale words stay out, and remembering them is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzzz.core import inbox as module
from bzzz.core.inbox import SENDERS_MAX, WINDOW_MESSAGES_MAX, Inbox

WALL_S = 1_000_000.0


def offer(
    inbox: Inbox, sequence: int | None, *, peer: str = "a", incarnation: int = 1, sent_s: float = WALL_S
) -> str:
    return inbox.admits(
        peer, incarnation=incarnation, sequence=sequence, sent_wall_s=sent_s, wall_s=WALL_S, now_ms=0
    )


def test_a_message_passes_once() -> None:
    inbox = Inbox()
    assert offer(inbox, 1) == ""
    assert offer(inbox, 1) == "replayed"
    assert inbox.dropped == {"replayed": 1}


def test_messages_out_of_order_pass_within_the_window() -> None:
    """Defect 15 of docs/mesh.md: the mesh keeps no order under load, so nothing here may rely on one."""
    inbox = Inbox()
    assert [offer(inbox, sequence) for sequence in (5, 3, 4, 3)] == ["", "", "", "replayed"]


def test_what_is_behind_the_window_is_taken_for_a_replay() -> None:
    inbox = Inbox()
    assert offer(inbox, WINDOW_MESSAGES_MAX + 5) == ""
    assert offer(inbox, 6) == ""
    assert offer(inbox, 5) == "replayed"


@given(st.lists(st.integers(0, 3 * WINDOW_MESSAGES_MAX), max_size=200))
def test_no_order_of_messages_lets_one_pass_twice(sequences: list[int]) -> None:
    inbox = Inbox()
    passed = [sequence for sequence in sequences if offer(inbox, sequence) == ""]
    assert len(passed) == len(set(passed))
    highest = -1
    for sequence in sequences:
        if sequence > highest:
            highest = sequence
            assert sequence in passed


def test_a_huge_step_costs_no_memory_and_forgets_what_was_before() -> None:
    inbox = Inbox()
    assert [offer(inbox, sequence) for sequence in (1, 2**53 - 1, 2**53 - 2, 1)] == ["", "", "", "replayed"]


def test_a_newer_incarnation_begins_anew_and_ends_the_older_one() -> None:
    inbox = Inbox()
    assert offer(inbox, 9, incarnation=1) == ""
    assert offer(inbox, 1, incarnation=2) == ""
    assert offer(inbox, 10, incarnation=1) == "earlier_incarnation"
    assert offer(inbox, 1, incarnation=2) == "replayed"


def test_senders_do_not_disturb_each_other() -> None:
    inbox = Inbox()
    assert offer(inbox, 1, peer="a") == offer(inbox, 1, peer="b") == ""


def test_what_is_too_old_or_from_the_future_is_dropped_and_moves_nothing() -> None:
    inbox = Inbox(age_s_max=60)
    assert offer(inbox, 1, incarnation=9, sent_s=WALL_S - 61) == "stale"
    assert offer(inbox, 1, incarnation=9, sent_s=WALL_S + 61) == "future"
    assert offer(inbox, 1, incarnation=1, sent_s=WALL_S - 60) == ""
    assert inbox.dropped == {"stale": 1, "future": 1}


def test_a_predecessors_message_has_no_sequence_and_passes_by_its_age() -> None:
    inbox = Inbox(age_s_max=60)
    assert offer(inbox, None, incarnation=0) == offer(inbox, None, incarnation=0) == ""
    assert offer(inbox, None, sent_s=WALL_S - 61) == "stale"


def test_a_flood_is_cut_off_until_its_time_is_over() -> None:
    inbox = Inbox(burst_messages_max=3, burst_ms=1_000)
    assert [inbox.counts("a", now_ms) for now_ms in (0, 1, 2, 3, 999)] == [True, True, True, False, False]
    assert inbox.counts("b", 500)
    assert inbox.counts("a", 1_000)
    assert inbox.dropped == {"flood": 2}


def test_senders_are_bounded_and_the_one_that_was_silent_longest_gives_way() -> None:
    inbox = Inbox()
    for number in range(SENDERS_MAX):
        assert offer(inbox, 1, peer=f"peer{number}") == ""
    assert offer(inbox, 2, peer="peer0") == ""
    assert offer(inbox, 1, peer="newcomer") == ""
    assert inbox.dropped["senders_forgotten"] == 1
    assert offer(inbox, 1, peer="peer0") == "replayed"
    assert offer(inbox, 1, peer="peer1") == ""


def test_a_sender_takes_no_more_memory_however_much_it_sends() -> None:
    inbox = Inbox()
    for sequence in range(0, 20 * WINDOW_MESSAGES_MAX, 3):
        offer(inbox, sequence)
    (sender,) = inbox._senders.values()
    assert sender.seen.bit_length() <= WINDOW_MESSAGES_MAX == module.WINDOW_MESSAGES_MAX

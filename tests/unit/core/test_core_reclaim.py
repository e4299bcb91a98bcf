"""The reclaim rule: each kind of evidence at its exact boundary, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.membership import Liveness, Member
from bzzz.core.profile import Policy
from bzzz.core.reclaim import HeldView, judge
from bzzz.core.record import RecordState

POLICY = Policy()
TTL_MS = 900_000
VIEW = HeldView(RecordState.HELD, "holder", 2, listed=True, version_since_ms=1_000, ttl_s=900)


def member(**known: object) -> Member:
    found = Member("holder", incarnation=2, tasks_known=True)
    for name, value in known.items():
        setattr(found, name, value)
    return found


def allowed(view: HeldView, known: Member | None, now_ms: int) -> bool:
    return judge(view, known, "me", now_ms, POLICY).allowed


def test_a_holder_that_left_in_order_is_followed_at_once() -> None:
    assert allowed(VIEW, member(liveness=Liveness.LEFT), 1_001)


def test_an_orderly_leave_of_an_earlier_start_says_nothing_about_a_later_claim() -> None:
    gone = member(liveness=Liveness.LEFT, incarnation=1)
    assert not allowed(VIEW, gone, 1_001)


def test_a_holder_back_with_a_higher_incarnation_and_without_the_task_has_a_moment_to_take_it_up() -> None:
    back = member(incarnation=3, heard_ms=5_000)
    view = replace(VIEW, listed=False)
    due_ms = 5_000 + POLICY.returned_holder_grace_ms
    assert not allowed(view, back, due_ms - 1)
    assert judge(view, back, "me", due_ms - 1, POLICY).at_ms == due_ms
    assert allowed(view, back, due_ms)


def test_a_holder_that_came_back_and_lists_the_task_keeps_it() -> None:
    assert not allowed(VIEW, member(incarnation=3, heard_ms=5_000), 60_000)


def test_a_higher_incarnation_before_its_first_heartbeat_proves_nothing() -> None:
    back = member(incarnation=3, heard_ms=5_000, tasks_known=False)
    assert not allowed(replace(VIEW, listed=False), back, 60_000)


def test_another_node_in_the_holders_place_counts_like_refusals_and_is_named_as_what_it_is() -> None:
    gone = member(refused_first_ms=10_000, refused_last_ms=11_000, replaced=True)
    assert not allowed(VIEW, gone, 14_999)
    verdict = judge(VIEW, gone, "me", 15_000, POLICY)
    assert verdict.allowed
    assert verdict.reason == "another node is where the holder listened"


def test_refusals_count_from_the_fifth_second_and_only_if_two_are_a_second_apart() -> None:
    dead = member(refused_first_ms=10_000, refused_last_ms=11_000)
    assert not allowed(VIEW, dead, 14_999)
    assert allowed(VIEW, dead, 15_000)
    assert not allowed(VIEW, member(refused_first_ms=10_000, refused_last_ms=10_999), 15_000)
    assert not allowed(VIEW, member(refused_first_ms=10_000, refused_last_ms=10_000), 100_000)


def test_refusals_of_an_earlier_start_say_nothing_about_a_later_claim() -> None:
    assert not allowed(VIEW, member(incarnation=1, refused_first_ms=10_000, refused_last_ms=12_000), 20_000)


def test_silence_counts_from_the_last_of_version_word_answer_and_wakefulness() -> None:
    for view, known in (
        (VIEW, None),
        (replace(VIEW, version_since_ms=0), member(heard_ms=1_000)),
        (replace(VIEW, version_since_ms=0), member(answered_ms=1_000)),
        (replace(VIEW, version_since_ms=0, vouched_ms=1_000), None),
        (replace(VIEW, version_since_ms=0, awake_since_ms=1_000), None),
    ):
        assert not allowed(view, known, 1_000 + TTL_MS - 1), view
        verdict = judge(view, known, "me", 1_000 + TTL_MS, POLICY)
        assert verdict.allowed, view
        assert verdict.by_silence


def test_a_version_never_seen_by_oneself_is_never_silent() -> None:
    verdict = judge(replace(VIEW, version_since_ms=None), None, "me", 10**12, POLICY)
    assert not verdict.allowed
    assert verdict.at_ms is None


def test_the_records_own_ttl_is_what_silence_must_last() -> None:
    assert allowed(replace(VIEW, ttl_s=60), None, 61_000)
    assert not allowed(replace(VIEW, ttl_s=60), None, 60_999)


def test_what_is_delivered_or_asked_of_a_person_is_never_taken_over() -> None:
    for state in (RecordState.DELIVERED, RecordState.ESCALATED):
        assert not allowed(replace(VIEW, state=state), member(liveness=Liveness.LEFT), 10**12)


def test_a_nodes_own_claim_of_an_earlier_start_is_its_to_take_up() -> None:
    assert judge(replace(VIEW, peer="me"), None, "me", 1_001, POLICY).allowed


@given(
    st.integers(0, 10**7),
    st.lists(st.integers(0, 10**7), min_size=1, max_size=40),
    st.sampled_from([Liveness.ALIVE, Liveness.SUSPECT]),
)
def test_a_paused_holder_whose_host_answers_is_never_reclaimed(
    paused_ms: int, answers: list[int], liveness: Liveness
) -> None:
    """However long it says nothing: as long as its host answers within each ttl."""
    now_ms = paused_ms
    for wait_ms in answers:
        known = member(liveness=liveness, answered_ms=now_ms, heard_ms=paused_ms)
        view = replace(VIEW, version_since_ms=paused_ms)
        look_ms = now_ms + wait_ms % TTL_MS
        assert not allowed(view, known, look_ms)
        now_ms = look_ms


@given(st.integers(0, TTL_MS - 1), st.integers(0, 10**9))
def test_silence_alone_never_counts_before_the_ttl(wait_ms: int, since_ms: int) -> None:
    for known in (None, member(liveness=Liveness.SUSPECT, heard_ms=since_ms), member(liveness=Liveness.DEAD)):
        assert not allowed(replace(VIEW, version_since_ms=since_ms), known, since_ms + wait_ms)

"""Membership: incarnations order everything, stale words are ignored, bounds hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.event import Probed
from bzzz.core.membership import Liveness, Membership
from bzzz.core.message import Availability, Capability
from bzzz.core.profile import Policy
from bzzz.core.task import TaskId

POLICY = Policy()
TASK = TaskId("acme/garden", 7)


def heartbeat(incarnation: int, *, leaving: bool = False, tasks: dict[TaskId, int] | None = None) -> Availability:
    return Availability("agent", incarnation, 0, 2, tasks or {}, leaving)


def liveness(members: Membership) -> Liveness:
    known = members.get("a")
    assert known is not None
    return known.liveness


def skill(incarnation: int) -> Capability:
    return Capability("agent", incarnation, ("coding",), (), "", "1")


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_an_incarnation_never_falls_and_late_words_of_earlier_ones_change_nothing(
    words: list[tuple[int, bool, bool]],
) -> None:
    members = Membership("me", POLICY)
    newest = 0
    for now_ms, (incarnation, leaving, is_skill) in enumerate(words):
        before = repr(members.get("a"))
        message = skill(incarnation) if is_skill else heartbeat(incarnation, leaving=leaving)
        taken = (
            members.capability("a", message, now_ms)
            if isinstance(message, Capability)
            else members.availability("a", message, now_ms)
        )
        assert taken == (incarnation >= newest)
        if not taken:
            assert repr(members.get("a")) == before
        newest = max(newest, incarnation)
        known = members.get("a")
        assert known is not None
        assert known.incarnation == newest


def test_a_late_leave_of_an_earlier_start_does_not_remove_a_member_that_is_back() -> None:
    members = Membership("me", POLICY)
    members.availability("a", heartbeat(1), 0)
    members.availability("a", heartbeat(2), 10)
    assert not members.availability("a", heartbeat(1, leaving=True), 20)
    assert members.live_peers() == ["me", "a"]
    assert members.stale == 1


def test_a_new_incarnation_holds_nothing_until_its_heartbeat_says_so() -> None:
    members = Membership("me", POLICY)
    members.availability("a", heartbeat(1, tasks={TASK: 1}), 0)
    members.capability("a", skill(2), 10)
    known = members.get("a")
    assert known is not None
    assert not known.tasks
    assert not known.tasks_known


def test_suspicion_begins_at_the_exact_silence_and_ends_with_a_word() -> None:
    members = Membership("me", POLICY)
    members.availability("a", heartbeat(1), 1_000)
    assert not members.suspect_if_silent("a", 1_000 + POLICY.silent_after_ms - 1)
    assert members.suspect_if_silent("a", 1_000 + POLICY.silent_after_ms)
    assert members.live_peers() == ["me"]
    members.hear("a", 200_000)
    assert members.live_peers() == ["me", "a"]


def test_refusals_make_dead_after_five_seconds_and_an_answer_between_starts_them_anew() -> None:
    members = Membership("me", POLICY)
    members.connected("a", ("x",), 0)
    members.disconnected("a")
    members.probed("a", Probed.REFUSED, 1_000)
    members.probed("a", Probed.ANSWERED, 2_000)
    members.probed("a", Probed.REFUSED, 3_000)
    members.probed("a", Probed.REFUSED, 7_999)
    assert liveness(members) is Liveness.SUSPECT
    members.probed("a", Probed.REFUSED, 8_000)
    assert liveness(members) is Liveness.DEAD


def test_another_peer_in_its_place_is_as_good_as_a_refusal() -> None:
    members = Membership("me", POLICY)
    members.connected("a", ("x",), 0)
    members.disconnected("a")
    members.probed("a", Probed.REFUSED, 1_000)
    members.probed("a", Probed.OTHER, 5_999)
    assert liveness(members) is Liveness.SUSPECT
    members.probed("a", Probed.OTHER, 6_000)
    assert liveness(members) is Liveness.DEAD
    known = members.get("a")
    assert known is not None
    assert known.replaced
    members.probed("a", Probed.REFUSED, 7_000)
    assert not known.replaced, "that one is gone too"


def test_silence_of_a_host_is_no_refusal() -> None:
    members = Membership("me", POLICY)
    members.connected("a", ("x",), 0)
    members.disconnected("a")
    for now_ms in range(1_000, 60_000, 1_000):
        members.probed("a", Probed.SILENT, now_ms)
    known = members.get("a")
    assert known is not None
    assert known.liveness is Liveness.SUSPECT
    assert known.refused_first_ms is None


def test_a_probe_of_a_member_that_was_heard_meanwhile_is_ignored() -> None:
    members = Membership("me", POLICY)
    members.connected("a", ("x",), 0)
    members.disconnected("a")
    members.hear("a", 10)
    assert members.probed("a", Probed.REFUSED, 20) is None


def test_members_and_their_tasks_are_bounded_and_what_overflows_is_counted() -> None:
    members = Membership("me", Policy(members_max=2, member_tasks_max=3))
    assert members.hear("a", 0) is not None
    assert members.hear("b", 0) is not None
    assert members.hear("c", 0) is None
    assert members.overflowed == 1
    members.availability("b", heartbeat(1, leaving=True), 1)
    assert members.hear("c", 2) is not None, "who left makes room"
    members.availability("a", heartbeat(1, tasks={TaskId("x/y", n): 1 for n in range(1, 9)}), 3)
    known = members.get("a")
    assert known is not None
    assert len(known.tasks) == 3
    members.holds(known, TASK, 1)
    assert len(known.tasks) == 3
    assert members.overflowed == 1 + 5 + 1

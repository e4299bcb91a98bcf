"""How nodes get to know each other: what a newcomer knows and when, and what that costs a large mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from bzzz.core.effect import Publish
from bzzz.core.event import Heard, PeerDown, PeerUp, Probed, ProbeEnded, Started, Ticked
from bzzz.core.membership import Liveness
from bzzz.core.message import Availability, Capability, Message, Skills
from bzzz.core.node import NodeCore
from bzzz.core.presence import GREETING_NODES_MAX, HELLO_STEPS_MS
from bzzz.core.profile import Policy, Profile

POLICY = Policy()
PERIOD_MS = POLICY.heartbeat_interval_ms


class Fleet:
    """Cores over virtual time; every message reaches every other node at once, unless ``lost`` says otherwise."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.cores: dict[str, NodeCore] = {}
        self.sent: Counter[str] = Counter()
        self.lost: Callable[[str, str, Message], bool] = lambda _, __, ___: False

    def join(self, number: int) -> NodeCore:
        peer = f"peer-{number}"
        core = NodeCore(Profile(peer, f"node-{number}", 1, peer, capabilities=(f"skill-{number}",)), POLICY)
        others = list(self.cores)
        self.cores[peer] = core
        self._step(peer, Started((), ()))
        for other in others:
            self._step(other, PeerUp(peer, ()))
            self._step(peer, PeerUp(other, ()))
        return core

    def _step(self, peer: str, event: Started | PeerUp | PeerDown | Heard | Ticked) -> None:
        for effect in self.cores[peer].step(self.now_ms, event):
            if isinstance(effect, Publish) and isinstance(effect.message, Capability | Availability):
                self.sent[peer] += 1
                for other in self.cores:
                    if other != peer and not self.lost(peer, other, effect.message):
                        self._step(other, Heard(peer, effect.message))

    def run(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while True:
            due = [(core.next_deadline_ms(), peer) for peer, core in self.cores.items()]
            at_ms, peer = min((at, peer) for at, peer in due if at is not None)
            if at_ms > until_ms:
                break
            self.now_ms = at_ms
            self._step(peer, Ticked())
        self.now_ms = until_ms


def knows_all(core: NodeCore, fleet: Fleet) -> bool:
    """Whether what every other node can do, and how busy it is, is known."""
    known = core.context.membership.view()
    return all(
        (member := known.get(peer)) is not None and member.capabilities and member.tasks_known
        for peer in fleet.cores
        if peer != core.context.profile.peer
    )


def mesh_of(nodes: int) -> Fleet:
    fleet = Fleet()
    for number in range(nodes):
        fleet.join(number)
    fleet.run(PERIOD_MS * 3)
    return fleet


def test_in_a_small_mesh_a_newcomer_knows_everybody_at_once() -> None:
    fleet = mesh_of(GREETING_NODES_MAX - 1)
    core = fleet.join(99)
    fleet.run(HELLO_STEPS_MS[0])
    assert knows_all(core, fleet)


@pytest.mark.parametrize("nodes", [3, 40])
def test_a_newcomer_that_missed_every_greeting_knows_everybody_within_one_period(nodes: int) -> None:
    fleet = mesh_of(nodes)
    began_ms = fleet.now_ms
    # Its subscriptions took long to be told, so that nothing reaches it for ten seconds.
    fleet.lost = lambda _, to, __: to == "peer-99" and fleet.now_ms - began_ms < 10_000
    core = fleet.join(99)
    fleet.run(10_000)
    assert not knows_all(core, fleet)
    fleet.run(PERIOD_MS)
    assert knows_all(core, fleet)


def test_a_heartbeat_says_again_what_a_node_can_do_though_nothing_changed() -> None:
    fleet = mesh_of(2)
    fleet.cores["peer-0"].context.membership.view()["peer-1"].capabilities = ()
    fleet.run(PERIOD_MS)
    assert knows_all(fleet.cores["peer-0"], fleet)


def test_many_newcomers_in_a_large_mesh_cost_each_node_a_few_greetings_and_not_one_for_each() -> None:
    nodes, newcomers = 60, 20
    fleet = mesh_of(nodes)
    before = dict(fleet.sent)
    began_ms = fleet.now_ms
    came = []
    for number in range(newcomers):
        came.append(fleet.join(1_000 + number))
        fleet.run(200)
    fleet.run(PERIOD_MS - (fleet.now_ms - began_ms))
    assert all(knows_all(core, fleet) for core in came)
    # A heartbeat and at most two greetings of two messages each, however many came.
    assert max(fleet.sent[peer] - count for peer, count in before.items()) <= 6


def test_a_slow_peer_is_suspected_and_cleared_by_its_own_next_word_and_never_buried() -> None:
    fleet = mesh_of(3)
    judge = fleet.cores["peer-0"]
    fleet.lost = lambda peer, _, __: peer == "peer-1"
    fleet.run(POLICY.silent_after_ms + 1)
    seen = [judge.context.membership.view()["peer-1"].liveness]
    for _ in range(20):
        judge.step(fleet.now_ms, ProbeEnded("peer-1", Probed.ANSWERED))
        fleet.run(PERIOD_MS)
    seen.append(judge.context.membership.view()["peer-1"].liveness)
    fleet.lost = lambda _, __, ___: False
    fleet.run(PERIOD_MS)
    seen.append(judge.context.membership.view()["peer-1"].liveness)
    assert seen == [Liveness.SUSPECT, Liveness.SUSPECT, Liveness.ALIVE]


def test_a_host_that_refuses_is_buried_within_ten_seconds_of_its_connections_end() -> None:
    fleet = mesh_of(3)
    judge = fleet.cores["peer-0"]
    member = judge.context.membership.view()["peer-1"]
    member.addresses = ("/ip4/192.0.2.1/tcp/1",)
    began_ms = fleet.now_ms
    del fleet.cores["peer-1"]
    judge.step(fleet.now_ms, PeerDown("peer-1"))
    while member.liveness is not Liveness.DEAD:
        judge.step(fleet.now_ms, ProbeEnded("peer-1", Probed.REFUSED))
        fleet.run(POLICY.probe_interval_ms)
        assert fleet.now_ms - began_ms <= 10_000


@pytest.mark.parametrize(("incarnation", "messages"), [(1, 1), (2, 5)])
def test_a_peer_that_returns_is_greeted_once_and_one_that_started_anew_like_a_newcomer(
    incarnation: int, messages: int
) -> None:
    """A mesh whose connections come and go would else say little besides greetings."""
    fleet = mesh_of(3)
    core = fleet.cores["peer-0"]
    fleet.lost = lambda _, __, ___: True
    before = fleet.sent["peer-0"]
    back = Availability("node-1", incarnation, 0, 1, {}, skills=Skills((), (), "", ""))
    for event in (PeerDown("peer-1"), PeerUp("peer-1", ()), Heard("peer-1", back)):
        fleet._step("peer-0", event)
    core.context.timers.set(("heartbeat",), fleet.now_ms + PERIOD_MS)
    fleet.run(HELLO_STEPS_MS[-1])
    # Its connection alone, before it says that it started anew, is worth one; then come a newcomer's three, the
    # last of which is two messages: a predecessor reads what a node can do from the second.
    assert fleet.sent["peer-0"] - before == messages


@pytest.mark.parametrize("cut_ms", [20_000, 300_000])
def test_after_a_partition_both_sides_know_each_other_again_within_one_period(cut_ms: int) -> None:
    fleet = mesh_of(6)
    sides = {f"peer-{number}": number % 2 for number in range(6)}
    fleet.lost = lambda peer, other, _: sides[peer] != sides[other]
    pairs = [(one, other) for one in sides for other in sides if sides[one] != sides[other]]
    for one, other in pairs:
        fleet._step(one, PeerDown(other))
    fleet.run(cut_ms)
    for one, other in pairs:
        assert fleet.cores[one].context.membership.view()[other].liveness is Liveness.SUSPECT
    fleet.lost = lambda _, __, ___: False
    for one, other in pairs:
        fleet._step(one, PeerUp(other, ()))
    fleet.run(PERIOD_MS)
    for core in fleet.cores.values():
        assert knows_all(core, fleet)
        assert len(core.context.membership.live_peers()) == len(sides)


def test_thousands_that_join_and_leave_are_forgotten_with_all_their_timers() -> None:
    core = NodeCore(Profile("self", "self", 1, "seed"), Policy(members_max=50))
    core.step(0, Started((), ()))
    sizes = []
    for number in range(3_000):
        peer, now_ms = f"visitor-{number}", number * 100
        core.step(now_ms, PeerUp(peer, ()))
        core.step(now_ms, Heard(peer, Availability(peer, 1, 0, 1, {}, leaving=True)))
        core.step(now_ms, PeerDown(peer))
        core.step(now_ms, Ticked())
        sizes.append(core.context.timers.size())
    assert len(core.context.membership.view()) <= 50
    # A visitor's timer may stand until it would have been silent for too long, and no longer.
    assert max(sizes[-100:]) <= max(sizes[1_000:1_100]) + 5

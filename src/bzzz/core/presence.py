"""Being there, and seeing who else is: heartbeats, greetings, suspicion, and probes of the silent."""

from __future__ import annotations

import hashlib

from bzzz.core.context import Context
from bzzz.core.effect import ProbePeer, Publish
from bzzz.core.event import PeerDown, PeerUp, ProbeEnded
from bzzz.core.membership import Liveness, Member
from bzzz.core.message import COORDINATION_TOPIC, Availability, Capability, Skills
from bzzz.core.pursuit import Pursuit
from bzzz.core.watch import Watch

HELLO_STEPS_MS = (100, 1_000, 4_000)
"""A newcomer is greeted more than once: a first message can go before its subscription has come."""
HELLO_AGAIN_MS = 1_000
"""Who was away and is the process that it was knows everybody: one greeting tells what it missed.

Where connections come and go, greeting each of them as a newcomer would be most of what is said.
"""
_AGAIN = len(HELLO_STEPS_MS)
GREETING_NODES_MAX = 10
"""In a mesh of more, nodes greet in turn, and none again before all have had theirs.

For a greeting goes to everybody: if all N greeted every newcomer, N that come would cost N * N messages, each of
them received N times. Nobody learns less by it: every heartbeat says all that a greeting says.
"""


class Presence:
    """This node among others."""

    def __init__(self, context: Context, pursuit: Pursuit, watch: Watch) -> None:
        self._ctx = context
        self._pursuit = pursuit
        self._watch = watch
        self._greeted_ms: int | None = None
        profile = context.profile
        self._skills = Skills(profile.capabilities, profile.models, profile.specialization, profile.version)

    def begin(self) -> None:
        """This node is up: greet, and go on with heartbeats."""
        self._greet()
        self._ctx.timers.set(("heartbeat",), self._ctx.now_ms + self._ctx.policy.heartbeat_interval_ms)

    def availability(self, *, leaving: bool = False) -> Availability:
        """This node's heartbeat as it is now."""
        ctx = self._ctx
        return Availability(
            agent=ctx.profile.agent,
            incarnation=ctx.profile.incarnation,
            current_tasks=ctx.profile.max_tasks - ctx.places_left(),
            max_tasks=ctx.profile.max_tasks,
            tasks=ctx.held_tasks(),
            leaving=leaving,
            accepting=ctx.accepting and ctx.now_ms >= ctx.cooldown_until_ms,
            skills=None if leaving else self._skills,
        )

    def heartbeat_due(self) -> None:
        """Say that this node is there and what it can do, so that who came late knows within one interval."""
        ctx = self._ctx
        ctx.emit(Publish(COORDINATION_TOPIC, self.availability()))
        ctx.timers.set(("heartbeat",), ctx.now_ms + ctx.policy.heartbeat_interval_ms)

    def hello_due(self, place: int) -> None:
        """Tell newcomers what this node can do and what it holds, and soon what there is to do."""
        ctx = self._ctx
        self._greeted_ms = ctx.now_ms
        others = place == _AGAIN and any(not member.incarnation for member in ctx.membership)
        if place == len(HELLO_STEPS_MS) - 1 or others or self._greeting_round_ms():
            # For a predecessor, which reads from this alone what a node can do; once, when its subscription came.
            ctx.emit(Publish(COORDINATION_TOPIC, self._capability()))
        ctx.emit(Publish(COORDINATION_TOPIC, self.availability()))
        if place:
            ctx.timers.set_earlier(("announce",), ctx.now_ms)

    def _capability(self) -> Capability:
        profile = self._ctx.profile
        return Capability(
            profile.agent,
            profile.incarnation,
            profile.capabilities,
            profile.models,
            profile.specialization,
            profile.version,
        )

    def _greet(self, *, again: bool = False) -> None:
        ctx = self._ctx
        round_ms = self._greeting_round_ms()
        if again and not round_ms:
            ctx.timers.set_earlier(("hello", _AGAIN), ctx.now_ms + HELLO_AGAIN_MS)
            return
        first_ms = ctx.now_ms
        if round_ms:
            first_ms += _turn(ctx.profile.peer, round_ms)
            if self._greeted_ms is not None:
                first_ms = max(first_ms, self._greeted_ms + round_ms)
        for place, wait_ms in enumerate(HELLO_STEPS_MS):
            if wait_ms >= round_ms or not place:
                ctx.timers.set_earlier(("hello", place), first_ms + wait_ms)

    def _greeting_round_ms(self) -> int:
        """How long it takes until every node has had its turn to greet; nothing in a small mesh."""
        policy = self._ctx.policy
        nodes = len(self._ctx.membership.live_peers())
        if nodes <= GREETING_NODES_MAX:
            return 0
        return min(policy.heartbeat_interval_ms, nodes * policy.hello_spacing_ms)

    def member_changed(self, member: Member, *, again: bool = False) -> None:
        """A member is new, started anew, or left; ``again``: it was away, and is the process that it was."""
        self._ctx.settle()
        self._greet(again=again)
        self._watch.elect_soon()
        self._pursuit.consider_held_by(member.peer)
        if member.liveness is Liveness.LEFT:
            self._pursuit.consider_all()

    def peer_up(self, event: PeerUp) -> None:
        """A connection stands: its process is there."""
        ctx = self._ctx
        known = ctx.membership.get(event.peer)
        known_before = known is not None
        was_alive = known is not None and known.liveness is Liveness.ALIVE
        member = ctx.membership.connected(event.peer, event.addresses, ctx.now_ms)
        if member is None:
            return
        ctx.timers.cancel(("probe", event.peer))
        ctx.timers.set_earlier(("silent", event.peer), ctx.now_ms + ctx.policy.silent_after_ms)
        if was_alive:
            self._greet(again=True)
        else:
            self.member_changed(member, again=known_before)

    def peer_down(self, event: PeerDown) -> None:
        """The last connection is gone: look at the host itself."""
        member = self._ctx.membership.disconnected(event.peer)
        if member is not None and member.liveness is Liveness.SUSPECT:
            self._suspected(member)

    def silent_due(self, peer: str) -> None:
        """A member may have been silent for too long."""
        ctx = self._ctx
        member = ctx.membership.get(peer)
        if member is None or member.liveness is not Liveness.ALIVE:
            return
        if ctx.membership.suspect_if_silent(peer, ctx.now_ms):
            self._suspected(member)
        else:
            ctx.timers.set(("silent", peer), member.heard_ms + ctx.policy.silent_after_ms)

    def _suspected(self, member: Member) -> None:
        ctx = self._ctx
        ctx.notice("info", f"{member.agent or member.peer} is suspected to be away")
        member.probes = 0
        ctx.timers.set(("probe", member.peer), ctx.now_ms)
        self._watch.elect_soon()

    def probe_due(self, peer: str) -> None:
        """Look again at the host of a suspect, where it is known."""
        ctx = self._ctx
        member = ctx.membership.get(peer)
        if member is not None and member.liveness is Liveness.SUSPECT and member.addresses:
            ctx.emit(ProbePeer(peer, member.addresses))

    def probe_ended(self, event: ProbeEnded) -> None:
        """Take in what a probe found, and set the next."""
        ctx = self._ctx
        policy = ctx.policy
        member = ctx.membership.probed(event.peer, event.found, ctx.now_ms)
        if member is None:
            return
        if member.liveness is Liveness.DEAD:
            found = "another node is where it listened" if member.replaced else "its host refuses connections"
            ctx.notice("warning", f"{member.agent or member.peer} is dead: {found}")
            self._pursuit.consider_held_by(event.peer)
            self._watch.elect_soon()
            return
        # Quick while refusals add up or little is known, then ever slower: a paused host is left alone.
        patience = 0 if member.refused_first_ms is not None else max(0, member.probes - 5)
        wait_ms = min(policy.probe_interval_max_ms, policy.probe_interval_ms << min(patience, 16))
        ctx.timers.set(("probe", event.peer), ctx.now_ms + wait_ms)
        if member.refused_first_ms is not None and member.refused_twice(policy.refusal_gap_ms):
            ctx.timers.set_earlier(("evidence", event.peer), member.refused_first_ms + policy.refused_reclaim_ms)

    def evidence_due(self, peer: str) -> None:
        """Refusals are old enough to count."""
        self._pursuit.consider_held_by(peer)


def _turn(peer: str, round_ms: int) -> int:
    """When in a round a node greets: the same for it each time, and another for every node."""
    return int.from_bytes(hashlib.blake2b(peer.encode(), digest_size=4).digest(), "big") % round_ms

"""Who is there: alive, suspect, dead or left, ordered by incarnations, judged by one's own clock.

The names and the idea that only a newer word of a member itself refutes suspicion come from SWIM (Das,
Gupta, Motivala, 2002). What is different here: being suspect or dead only stops a node from being counted
on. Whether a dead node's tasks may be taken over is decided in ``bzzz.core.reclaim`` by its evidence.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bzzz.core.event import Probed
from bzzz.core.message import Availability, Capability
from bzzz.core.profile import Policy
from bzzz.core.task import TaskId


class Liveness(enum.StrEnum):
    """What is known of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(slots=True)
class Member:
    """One other node, as this node knows it. Times are this node's monotonic milliseconds."""

    peer: str
    agent: str = ""
    incarnation: int = 0
    liveness: Liveness = Liveness.ALIVE
    connected: bool = False
    addresses: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    specialization: str = ""
    version: str = ""
    max_tasks: int = 0
    accepting: bool = False
    tasks: dict[TaskId, int] = field(default_factory=dict)
    tasks_known: bool = False
    unlisted: int = 0
    heard_ms: int = 0
    answered_ms: int = -1
    refused_first_ms: int | None = None
    refused_last_ms: int | None = None
    replaced: bool = False
    probes: int = 0

    @property
    def current_tasks(self) -> int:
        """How many tasks it is at, with those that it counts and does not list, as the predecessor's nodes do."""
        return len(self.tasks) + self.unlisted

    def refused_twice(self, gap_ms: int) -> bool:
        """It was found gone from where it listened twice, ``gap_ms`` or more apart, and not heard since."""
        first, last = self.refused_first_ms, self.refused_last_ms
        return first is not None and last is not None and last - first >= gap_ms


class Membership:
    """All other nodes that were ever heard or met since this node's start; bounded by ``members_max``."""

    def __init__(self, own_peer: str, policy: Policy) -> None:
        self._own_peer = own_peer
        self._policy = policy
        self._members: dict[str, Member] = {}
        self.overflowed = 0
        self.stale = 0

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, peer: str) -> Member | None:
        """What is known of a peer, if anything."""
        return self._members.get(peer)

    def view(self) -> Mapping[str, Member]:
        """All members by peer; to be read only."""
        return self._members

    def live_peers(self) -> list[str]:
        """Members to count on now, this node included."""
        return [self._own_peer, *(m.peer for m in self._members.values() if m.liveness is Liveness.ALIVE)]

    def hear(self, peer: str, now_ms: int) -> Member | None:
        """Note a sign of life signed by the member itself: it is refuted from suspicion."""
        member = self._member(peer)
        if member is None:
            return None
        member.heard_ms = now_ms
        member.refused_first_ms = member.refused_last_ms = None
        member.probes = 0
        if member.liveness in (Liveness.SUSPECT, Liveness.DEAD):
            member.liveness = Liveness.ALIVE
        return member

    def availability(self, peer: str, message: Availability, now_ms: int) -> bool:
        """Take in a heartbeat; false if it is a late one of an earlier incarnation."""
        known = self._members.get(peer)
        if known is not None and message.incarnation < known.incarnation:
            self.stale += 1
            return False
        member = self.hear(peer, now_ms)
        if member is None:
            return False
        if message.incarnation > member.incarnation or member.liveness is Liveness.LEFT:
            member.liveness = Liveness.ALIVE
        member.incarnation = message.incarnation
        member.agent = message.agent
        member.max_tasks = message.max_tasks
        member.accepting = message.accepting and not message.leaving
        member.tasks = dict(itertools.islice(message.tasks.items(), self._policy.member_tasks_max))
        self.overflowed += len(message.tasks) - len(member.tasks)
        member.tasks_known = True
        member.unlisted = max(0, message.current_tasks - len(message.tasks))
        if message.skills is not None:
            member.capabilities = message.skills.capabilities
            member.models = message.skills.models
            member.specialization = message.skills.specialization
            member.version = message.skills.version
        if message.leaving:
            member.liveness = Liveness.LEFT
        return True

    def holds(self, member: Member, task: TaskId, epoch: int) -> None:
        """Note a claim that a member tells of itself between two heartbeats."""
        if task in member.tasks or len(member.tasks) < self._policy.member_tasks_max:
            member.tasks[task] = epoch
        else:
            self.overflowed += 1

    def capability(self, peer: str, message: Capability, now_ms: int) -> bool:
        """Take in what a member can do; false if it is a late word of an earlier incarnation."""
        known = self._members.get(peer)
        if known is not None and message.incarnation < known.incarnation:
            self.stale += 1
            return False
        member = self.hear(peer, now_ms)
        if member is None:
            return False
        if message.incarnation > member.incarnation:
            # Which tasks the newer incarnation holds is not known before its heartbeat.
            member.incarnation = message.incarnation
            member.tasks = {}
            member.tasks_known = False
            member.liveness = Liveness.ALIVE
        member.agent = message.agent
        member.capabilities = message.capabilities
        member.models = message.models
        member.specialization = message.specialization
        member.version = message.version
        return True

    def connected(self, peer: str, addresses: tuple[str, ...], now_ms: int) -> Member | None:
        """A connection stands, so its host and process are there; addresses are kept for later probes."""
        member = self.hear(peer, now_ms)
        if member is not None:
            member.connected = True
            if addresses:
                member.addresses = addresses
        return member

    def disconnected(self, peer: str) -> Member | None:
        """The last connection is gone: suspect until it is heard again."""
        member = self._members.get(peer)
        if member is None:
            return None
        member.connected = False
        if member.liveness is Liveness.ALIVE:
            member.liveness = Liveness.SUSPECT
        return member

    def suspect_if_silent(self, peer: str, now_ms: int) -> bool:
        """Suspect a member that has not been heard for ``silent_after_ms``."""
        member = self._members.get(peer)
        if member is None or member.liveness is not Liveness.ALIVE:
            return False
        if now_ms - member.heard_ms < self._policy.silent_after_ms:
            return False
        member.liveness = Liveness.SUSPECT
        return True

    def probed(self, peer: str, found: Probed, now_ms: int) -> Member | None:
        """Take in the end of a probe; refusals add up until the member is heard or its host answers.

        Another peer in its place is as good as a refusal: two peers do not listen at one address.
        """
        member = self._members.get(peer)
        if member is None or member.liveness not in (Liveness.SUSPECT, Liveness.DEAD):
            return None
        member.probes += 1
        if found is Probed.ANSWERED:
            member.answered_ms = now_ms
            member.refused_first_ms = member.refused_last_ms = None
            if member.liveness is Liveness.DEAD:
                member.liveness = Liveness.SUSPECT
        elif found in (Probed.REFUSED, Probed.OTHER):
            member.replaced = found is Probed.OTHER
            if member.refused_first_ms is None:
                member.refused_first_ms = now_ms
            member.refused_last_ms = now_ms
            since = now_ms - member.refused_first_ms
            if member.refused_twice(self._policy.refusal_gap_ms) and since >= self._policy.refused_reclaim_ms:
                member.liveness = Liveness.DEAD
        return member

    def _member(self, peer: str) -> Member | None:
        member = self._members.get(peer)
        if member is None:
            if len(self._members) >= self._policy.members_max and not self._drop_oldest_gone():
                self.overflowed += 1
                return None
            member = self._members[peer] = Member(peer)
        return member

    def _drop_oldest_gone(self) -> bool:
        gone = [m for m in self._members.values() if m.liveness in (Liveness.DEAD, Liveness.LEFT)]
        if not gone:
            return False
        del self._members[min(gone, key=lambda m: (m.heard_ms, m.peer)).peer]
        return True

"""What the parts of a node's core share during one step: the time, the effects so far, and the state."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime

from bzzz.core.capability import match
from bzzz.core.claim import HOLDING, OCCUPYING
from bzzz.core.effect import ConfirmTask, Effect, Notice, ReadClaim
from bzzz.core.entry import Entry
from bzzz.core.membership import Liveness, Membership
from bzzz.core.message import Hint
from bzzz.core.profile import Policy, Profile
from bzzz.core.ranking import Candidate, order
from bzzz.core.reclaim import Verdict, judge
from bzzz.core.record import Observation, RecordState
from bzzz.core.task import Repository, Task, TaskId
from bzzz.core.timer import Timers


class Context:
    """The state of one core, and the few questions that more than one part asks of it."""

    def __init__(self, profile: Profile, policy: Policy) -> None:
        self.profile = profile
        self.policy = policy
        self.now_ms = 0
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.membership = Membership(profile.peer, policy)
        self.repositories: dict[str, Repository] = {}
        self.entries: dict[TaskId, Entry] = {}
        self.active: set[TaskId] = set()
        self.counters: Counter[str] = Counter()
        self.stopping = False
        self.accepting = True
        self.cooldown_until_ms = 0
        self.awake_since_ms = 0
        self.started_ms = 0
        self.settled_ms = 0
        self._nonces = 0

    def emit(self, effect: Effect) -> None:
        """Let this be done, after what was emitted before."""
        self.effects.append(effect)

    def notice(self, level: str, text: str, task: TaskId | None = None) -> None:
        """Tell people."""
        self.emit(Notice(level, text, task))

    def nonce(self) -> str:
        """A word that no other record has: 128 bits of a hash over this start's seed and a count."""
        self._nonces += 1
        text = f"{self.profile.seed}\0{self.profile.peer}\0{self.profile.incarnation}\0{self._nonces}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def noted_at(self) -> str | None:
        """Now, for people who read a record; nothing is ever decided by it."""
        zero_s = self.profile.wall_at_zero_s
        if zero_s is None:
            return None
        moment = datetime.fromtimestamp(zero_s + self.now_ms / 1000, UTC)
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

    def admit(self, task: Task, *, listed: bool = False) -> Entry | None:
        """The entry of a task, made if there is room; its newest description is kept.

        What this node itself read from the forge (``listed``) counts for more than what a peer says.
        """
        entry = self.entries.get(task.id)
        if entry is None:
            if len(self.entries) >= self.policy.tasks_max and not self._make_room(listed):
                self.counters["dropped_tasks"] += 1
                return None
            entry = self.entries[task.id] = Entry(task)
        elif task != entry.task and (listed or task.updated_at >= entry.task.updated_at):
            entry.task = task
        entry.listed = entry.listed or listed
        return entry

    def settle(self) -> None:
        """Somebody new is there: while this node is new itself, let the mesh form before trying for anything.

        Nodes that start together would else each think themselves alone, and all try for everything.
        """
        if self.now_ms <= self.settled_ms:
            latest_ms = self.started_ms + self.policy.settle_max_ms
            self.settled_ms = max(self.settled_ms, min(latest_ms, self.now_ms + self.policy.settle_ms))

    def ask_ledger(self, entry: Entry) -> None:
        """Read a claim; never two readings at once, so that a late answer is not taken for a newer one."""
        if entry.reading:
            entry.read_again = True
            return
        entry.reading = True
        entry.asked_ms = self.now_ms
        self.emit(ReadClaim(entry.task.id))

    def ask_forge(self, entry: Entry, *, read_claim: bool) -> None:
        """Read an issue again, and its claim if wanted."""
        if read_claim:
            entry.confirm_asked_ms = self.now_ms
        self.emit(ConfirmTask(entry.task.id, read_claim))

    def settle_hint(self, entry: Entry, standing: Observation | None, asked_ms: int) -> None:
        """Hold what peers said of a claim against what the ledger showed."""
        if entry.settle_hint(standing, asked_ms, self.now_ms + self.policy.hint_refuted_ms):
            self.counters["hints_refuted"] += 1

    def backoff_ms(self, tries: int, least_ms: int | None = None) -> int:
        """How long to wait after so many failures in a row: doubling, bounded, and no less than was asked for."""
        return max(min(self.policy.retry_max_ms, self.policy.retry_ms << min(tries, 16)), least_ms or 0)

    def verdict(self, entry: Entry, claim: Hint) -> Verdict:
        """Whether this claim may be taken over now."""
        member = self.membership.get(claim.peer)
        listed = member is not None and entry.task.id in member.tasks
        view = entry.held_view(claim, listed, self.policy.claim_ttl_s, self.awake_since_ms)
        return judge(view, member, self.profile.peer, self.now_ms, self.policy)

    def places_left(self) -> int:
        """How many attempts more this node can take now."""
        taken = sum(
            self.entries[key].state in OCCUPYING or bool(self.entries[key].recovered) for key in self.active
        )
        return max(0, self.profile.max_tasks - taken)

    def places_left_in(self, repository: str) -> int:
        """``places_left``, and within what the project allows one node at once."""
        known = self.repositories.get(repository)
        if known is None or known.rules.tasks_max is None:
            return self.places_left()
        here = sum(
            key.repository == repository
            and (self.entries[key].state in OCCUPYING or bool(self.entries[key].recovered))
            for key in self.active
        )
        return min(self.places_left(), max(0, known.rules.tasks_max - here))

    def strikes_max(self, repository: str) -> int:
        """After how many failed attempts a person is asked there."""
        known = self.repositories.get(repository)
        return (known.rules.strikes_max if known is not None else None) or self.policy.strikes_max

    def held_tasks(self) -> dict[TaskId, int]:
        """Tasks that this node holds or is about to resume, with their epochs: what its heartbeat lists."""
        held: dict[TaskId, int] = {}
        for key in sorted(self.active):
            entry = self.entries[key]
            if entry.own is not None and entry.state in HOLDING:
                held[key] = entry.own.record.epoch
            elif entry.recovered is not None:
                held[key] = entry.recovered.record.epoch
        return held

    def ranked(self, entry: Entry, claim: Hint | None) -> list[str]:
        """Peers in the order in which they should try for this task."""
        task = entry.task
        own = self.profile
        failed = claim.peer if claim is not None and claim.strikes and claim.state is RecordState.RELEASED else ""
        gone = claim.peer if claim is not None and claim.state is RecordState.HELD else ""
        candidates = [
            Candidate(
                own.peer,
                match(task, own.capabilities, own.specialization, own.models),
                own.max_tasks - self.places_left(),
                own.max_tasks if self.accepting else 0,
                failed == own.peer,
            )
        ]
        candidates += [
            Candidate(
                member.peer,
                match(task, member.capabilities, member.specialization, member.models),
                len(member.tasks),
                member.max_tasks,
                failed == member.peer,
            )
            for member in self.membership
            if member.liveness is Liveness.ALIVE and member.accepting and member.peer != gone
        ]
        return list(order(str(task.id), candidates))

    def _make_room(self, for_listed: bool) -> bool:
        """Drop an entry that is not worked on: of a closed issue, or, for one surely there, one only heard of."""
        for key, entry in self.entries.items():
            if key not in self.active and (not entry.open or (for_listed and not entry.listed)):
                del self.entries[key]
                return True
        return False

"""A node's decisions: one ``step(now_ms, event)`` that takes what happened and gives what to do.

The core never waits, reads no clock and draws no randomness. Whoever drives it calls ``step`` with each
event as it happens, and with ``Ticked`` when ``next_deadline_ms`` has come, and carries out the effects in
order. The same events at the same times give the same effects, on every machine and under any hash seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bzzz.core.claim import ClaimState
from bzzz.core.context import Context
from bzzz.core.effect import Effect, Finish, JoinTopic, Publish
from bzzz.core.entry import Entry
from bzzz.core.event import (
    AgentProgressed,
    AgentStarted,
    AttemptEnded,
    ClaimNotRead,
    ClaimRead,
    Event,
    Heard,
    PeerDown,
    PeerUp,
    ProbeEnded,
    PullFound,
    PullNotFound,
    RepositoriesFound,
    RepositoriesNotFound,
    RepositoryChanged,
    Started,
    StopAsked,
    SwapEnded,
    TaskConfirmed,
    TaskNotConfirmed,
    TasksListed,
    TasksNotListed,
    Ticked,
    WorkNotSaved,
    WorkSaved,
)
from bzzz.core.holding import NODE_STOPPED, Holding
from bzzz.core.membership import Liveness, Member
from bzzz.core.message import (
    COORDINATION_TOPIC,
    DISCUSSION_TOPIC,
    ESCALATION_TOPIC,
    Availability,
    Capability,
    Discussion,
    TaskAnnouncement,
    TaskClaim,
    TaskComplete,
    TaskProgress,
)
from bzzz.core.presence import Presence
from bzzz.core.profile import Policy, Profile
from bzzz.core.pursuit import Pursuit
from bzzz.core.swap import Swaps
from bzzz.core.task import TaskId
from bzzz.core.watch import Watch


class NodeCore:
    """One node. ``context`` is open to be read (status, checkers); only ``step`` changes it."""

    def __init__(self, profile: Profile, policy: Policy | None = None) -> None:
        self.context = Context(profile, policy or Policy())
        swaps = Swaps(self.context)
        pursuit = Pursuit(self.context, swaps)
        holding = Holding(self.context, swaps, pursuit)
        self._swaps, self._pursuit, self._holding = swaps, pursuit, holding
        self.watch = Watch(self.context, pursuit, holding)
        self.presence = Presence(self.context, pursuit, self.watch)
        self._finished = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Started: self._started,
            Ticked: self._ticked,
            StopAsked: self._stop_asked,
            RepositoriesFound: self.watch.found,
            RepositoriesNotFound: self.watch.not_found,
            RepositoryChanged: lambda event: self.watch.changed(event.repository),
            TasksListed: self.watch.listed,
            TasksNotListed: self.watch.not_listed,
            Heard: self._heard,
            PeerUp: self.presence.peer_up,
            PeerDown: self.presence.peer_down,
            ProbeEnded: self.presence.probe_ended,
            TaskConfirmed: self._confirmed,
            TaskNotConfirmed: pursuit.not_confirmed,
            SwapEnded: self._swap_ended,
            ClaimRead: self._claim_read,
            ClaimNotRead: self._claim_not_read,
            AgentStarted: self._agent_started,
            AgentProgressed: self._agent_progressed,
            AttemptEnded: holding.attempt_ended,
            WorkSaved: holding.rescue.saved,
            WorkNotSaved: holding.rescue.not_saved,
            PullFound: holding.publishing.pull_found,
            PullNotFound: holding.publishing.pull_not_found,
        }
        self._deadlines: dict[str, Callable[..., None]] = {
            "heartbeat": self.presence.heartbeat_due,
            "hello": self.presence.hello_due,
            "repositories": self.watch.repositories_due,
            "watch": self.watch.watch_due,
            "announce": self.watch.announce_due,
            "silent": self.presence.silent_due,
            "probe": self.presence.probe_due,
            "evidence": self.presence.evidence_due,
            "reconsider": pursuit.consider_all,
            "look": pursuit.look_due,
            "vouch": pursuit.vouch_due,
            "check": holding.check_due,
            "audit": self.watch.audit_due,
            "elect": self.watch.elect,
            "turn": pursuit.turn_came,
            "renew": holding.renewal_due,
            "swap": self._swap_due,
            "save": holding.rescue.due,
            "pull": holding.publishing.pull_due,
            "recover": holding.recovery.due,
        }

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Take in one event and give the effects, in the order in which they are to be carried out.

        Args:
            now_ms: the caller's monotonic clock; a value before the last one counts as the last one.
            event: what happened.

        Raises:
            IllegalTransition: a bug in the core; its state is as it was before the illegal move.
        """
        ctx = self.context
        ctx.now_ms = max(ctx.now_ms, now_ms)
        ctx.effects = []
        self._notice_sleep()
        self._handlers[type(event)](event)
        self._run_deadlines()
        if ctx.stopping and not self._finished and not any(self._unfinished(key) for key in ctx.active):
            self._finished = True
            ctx.emit(Publish(COORDINATION_TOPIC, self.presence.availability(leaving=True)))
            ctx.emit(Finish())
        return ctx.effects

    def next_deadline_ms(self) -> int | None:
        """When ``Ticked`` is wanted at the latest, on the clock of ``step``."""
        return self.context.timers.next_ms()

    def _notice_sleep(self) -> None:
        """A deadline that is long past says that this process did not run: what it did not hear proves nothing."""
        ctx = self.context
        due_ms = ctx.timers.next_ms()
        if due_ms is not None and ctx.now_ms - due_ms > ctx.policy.late_tick_ms:
            ctx.awake_since_ms = ctx.now_ms
            ctx.counters["late_ticks"] += 1

    # --- life -------------------------------------------------------------------------------------------

    def _started(self, event: Started) -> None:
        ctx = self.context
        for topic in (COORDINATION_TOPIC, DISCUSSION_TOPIC, ESCALATION_TOPIC):
            ctx.emit(JoinTopic(topic))
        ctx.awake_since_ms = ctx.started_ms = ctx.settled_ms = ctx.now_ms
        ctx.settle()
        self._holding.recovery.recover_all(event.recovered)
        self.watch.adopt(event.repositories)
        self.presence.begin()
        ctx.timers.set(("announce",), ctx.now_ms + ctx.policy.announce_interval_ms)
        ctx.timers.set(("repositories",), ctx.now_ms)

    def _ticked(self, _: Ticked) -> None:
        """Nothing of its own: the deadlines run after every event."""

    def _run_deadlines(self) -> None:
        timers, now_ms = self.context.timers, self.context.now_ms
        due_ms = timers.next_ms()
        if due_ms is not None and due_ms <= now_ms:  # most events meet no deadline
            for key in timers.pop_due(now_ms):
                self._deadlines[key[0]](*key[1:])

    def _stop_asked(self, _: StopAsked) -> None:
        ctx = self.context
        if ctx.stopping:
            return
        ctx.stopping = True
        ctx.accepting = False
        self.watch.elect()
        for key in sorted(ctx.active):
            self._holding.stop(ctx.entries[key], NODE_STOPPED)

    def _unfinished(self, key: TaskId) -> bool:
        # A pull request that cannot be opened now is opened by the watcher, or at the next start.
        return self.context.entries[key].state is not ClaimState.PUBLISHING

    # --- hearing ----------------------------------------------------------------------------------------

    def _heard(self, event: Heard) -> None:
        ctx = self.context
        peer, message = event.peer, event.message
        if peer == ctx.profile.peer:
            return
        known = ctx.membership.get(peer)
        before = None if known is None else (known.liveness, known.incarnation)
        if isinstance(message, Availability):
            if not ctx.membership.availability(peer, message, ctx.now_ms):
                return
        elif isinstance(message, Capability):
            if not ctx.membership.capability(peer, message, ctx.now_ms):
                return
        elif known is None or known.liveness is not Liveness.LEFT:
            ctx.membership.hear(peer, ctx.now_ms)
        member = ctx.membership.get(peer)
        if member is None:
            return
        ctx.timers.set_earlier(("silent", peer), ctx.now_ms + ctx.policy.silent_after_ms)
        if before != (member.liveness, member.incarnation):
            refuted = before == (Liveness.SUSPECT, member.incarnation) and member.liveness is Liveness.ALIVE
            self.presence.member_changed(member, again=refuted)
        if isinstance(message, TaskAnnouncement):
            self._announcement_heard(message)
        elif isinstance(message, TaskClaim):
            self._claim_heard(member, message)
        elif isinstance(message, TaskComplete):
            self._completion_heard(member, message)
        elif isinstance(message, TaskProgress):
            ctx.counters["progress_heard"] += 1
        elif isinstance(message, Discussion):
            if message.kind == "coordination_request":
                self._pursuit.asked(message)
        elif isinstance(message, Availability):
            self._holder_listed(member)

    def _announcement_heard(self, message: TaskAnnouncement) -> None:
        ctx = self.context
        for announced in message.tasks:
            if announced.task.id.repository not in ctx.repositories:
                ctx.timers.set_earlier(("repositories",), ctx.now_ms + ctx.policy.retry_ms)
                continue
            entry = ctx.admit(announced.task)
            if entry is None:
                continue
            entry.suppose(announced.claim, ctx.now_ms)
            if announced.claim is not None:
                self._holding.heard_claim(entry, announced.claim)
            if entry.state is ClaimState.IDLE:
                entry.open = announced.open
            elif not announced.open:
                self._holding.issue_gone(entry)
            if entry.state is ClaimState.IDLE:
                self._pursuit.consider(entry)

    def _claim_heard(self, member: Member, message: TaskClaim) -> None:
        ctx = self.context
        if message.claim.peer == member.peer:
            ctx.membership.holds(member, message.task, message.claim.epoch)
        entry = ctx.entries.get(message.task)
        if entry is None:
            return
        self._pursuit.vouched(entry, member.peer, message.claim)
        entry.suppose(message.claim, ctx.now_ms)
        self._holding.heard_claim(entry, message.claim)
        if entry.state is ClaimState.IDLE:
            self._pursuit.consider(entry)

    def _completion_heard(self, member: Member, message: TaskComplete) -> None:
        ctx = self.context
        member.tasks.pop(message.task, None)
        entry = ctx.entries.get(message.task)
        if entry is None:
            return
        entry.suppose(message.claim, ctx.now_ms)
        if message.pull_request and message.claim.peer == member.peer:
            entry.pull_request, entry.pull_by = message.pull_request, member.peer
        if entry.state is ClaimState.IDLE:
            self._pursuit.consider(entry)

    def _holder_listed(self, member: Member) -> None:
        """A heartbeat confirms what its sender holds, so that nobody asks the ledger about it."""
        for task, epoch in member.tasks.items():
            entry = self.context.entries.get(task)
            hint = None if entry is None else entry.hint
            if entry is not None and hint is not None and (hint.epoch, hint.peer) == (epoch, member.peer):
                entry.hint_ms = self.context.now_ms

    # --- tasks ------------------------------------------------------------------------------------------

    def _confirmed(self, event: TaskConfirmed) -> None:
        entry = self.context.entries.get(event.task)
        if entry is not None and entry.own is not None:
            self._holding.confirmed(event)
        else:
            self._pursuit.confirmed(event)

    def _swap_ended(self, event: SwapEnded) -> None:
        entry = self.context.entries.get(event.task)
        if entry is None:
            self.context.counters["late_answers"] += 1
        else:
            self._swaps.ended(entry, event)

    def _swap_due(self, task: TaskId) -> None:
        entry = self.context.entries.get(task)
        if entry is not None:
            self._swaps.retry_due(entry)

    def _claim_read(self, event: ClaimRead) -> None:
        ctx = self.context
        entry = ctx.entries.get(event.task)
        if entry is None or self._asked_again(entry):
            return
        ctx.settle_hint(entry, event.standing, entry.asked_ms)
        if self._swaps.read(entry, event.standing):
            return
        entry.observe(event.standing, ctx.now_ms)
        if entry.recovered is not None and entry.state is ClaimState.IDLE:
            self._holding.recovery.read(entry, entry.recovered, event.standing)
        else:
            self._holding.ledger_showed(entry)
            if entry.state is ClaimState.IDLE:
                self._pursuit.consider(entry)

    def _asked_again(self, entry: Entry) -> bool:
        """A reading ended; true if it had been asked for again meanwhile, so that this answer may be too old."""
        entry.reading = False
        again, entry.read_again = entry.read_again, False
        if again:
            self.context.ask_ledger(entry)
        return again

    def _claim_not_read(self, event: ClaimNotRead) -> None:
        ctx = self.context
        entry = ctx.entries.get(event.task)
        if entry is None or self._asked_again(entry) or self._swaps.not_read(entry, event):
            return
        if entry.recovered is not None and entry.state is ClaimState.IDLE:
            self._holding.recovery.not_read(entry, event.retry_after_ms)
        elif entry.state is ClaimState.IDLE:
            entry.tries += 1
            ctx.timers.set(("look", event.task), ctx.now_ms + ctx.backoff_ms(entry.tries, event.retry_after_ms))
        elif entry.state is ClaimState.HELD:
            ctx.timers.set(("check", event.task), ctx.now_ms + ctx.backoff_ms(1, event.retry_after_ms))

    def _agent_started(self, event: AgentStarted) -> None:
        entry = self.context.entries.get(event.task)
        if entry is not None and entry.own is not None and entry.own.record.epoch == event.epoch:
            entry.started = True
            progress = TaskProgress(event.task, event.epoch, "agent", "started")
            self.context.emit(Publish(COORDINATION_TOPIC, progress))

    def _agent_progressed(self, _: AgentProgressed) -> None:
        self.context.counters["progress_told"] += 1

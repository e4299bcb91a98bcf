"""Getting a claim: whose turn it is, making sure, and the compare-and-swap.

The mesh decides who should try, by rank and waiting; the ledger decides who has it. What follows once the
claim is held is in ``bzzz.core.holding``.
"""

from __future__ import annotations

from bzzz.core.capability import match
from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.context import Context
from bzzz.core.effect import ConfirmTask
from bzzz.core.entry import Entry
from bzzz.core.event import TaskConfirmed, TaskNotConfirmed
from bzzz.core.message import Hint
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.swap import Swaps
from bzzz.core.task import TaskId


class Pursuit:
    """Everything before a claim is held."""

    def __init__(self, context: Context, swaps: Swaps) -> None:
        self._ctx = context
        self._swaps = swaps

    def consider(self, entry: Entry) -> None:
        """Take a place in the order of those who try, if this task may be tried at all."""
        ctx = self._ctx
        key = entry.task.id
        claim = ctx.believed(entry)
        at_ms = self._claimable_at(entry, claim)
        if at_ms is None:
            ctx.timers.cancel(("turn", key))
            ctx.timers.cancel(("look", key))
        elif at_ms > ctx.now_ms:
            ctx.timers.cancel(("turn", key))
            ctx.timers.set(("look", key), at_ms)
        else:
            ranked = ctx.ranked(entry, claim)
            if ctx.profile.peer in ranked:
                place = ranked.index(ctx.profile.peer)
                ctx.timers.set_earlier(("turn", key), ctx.now_ms + place * ctx.policy.turn_step_ms)

    def consider_all(self) -> None:
        """A place became free, or the order changed: look at everything again, the urgent first."""
        entries = [e for e in self._ctx.entries.values() if e.open and e.state is ClaimState.IDLE]
        for entry in sorted(entries, key=lambda e: (-e.task.priority, e.task.id)):
            self.consider(entry)

    def consider_held_by(self, peer: str) -> None:
        """The evidence about a holder changed: look at its tasks again."""
        for entry in self._ctx.entries.values():
            if entry.state is ClaimState.IDLE and entry.open:
                claim = self._ctx.believed(entry)
                if claim is not None and claim.peer == peer and claim.state is RecordState.HELD:
                    self.consider(entry)

    def turn_came(self, task: TaskId) -> None:
        """The waiting is over: make sure, if the task is still to be had and there is a place."""
        ctx = self._ctx
        entry = ctx.entries.get(task)
        if entry is None:
            return
        claim = ctx.believed(entry)
        at_ms = self._claimable_at(entry, claim)
        if at_ms is None or ctx.places_left() == 0:
            return
        if at_ms > ctx.now_ms:
            ctx.timers.set(("look", task), at_ms)
            return
        entry.happen(ClaimEvent.TURN_CAME)
        ctx.active.add(task)
        # Appending to a record needs that record from the ledger itself: its epoch is not hearsay.
        ctx.emit(ConfirmTask(task, read_claim=claim is not None))

    def confirmed(self, event: TaskConfirmed) -> None:
        """The issue was read again: claim it, unless it is gone or taken."""
        ctx = self._ctx
        entry = ctx.entries.get(event.task)
        if entry is None or entry.state is not ClaimState.CONFIRMING:
            return
        if event.claim_read:
            entry.hint = None
            entry.observe(event.standing, ctx.now_ms)
        if not event.admitted:
            entry.open = False
            self._stand_down(entry)
            return
        claim = ctx.believed(entry)
        at_ms = self._claimable_at(entry, claim)
        if at_ms is None or at_ms > ctx.now_ms or ctx.stopping:
            self._stand_down(entry)
            self.consider(entry)
            return
        standing = entry.standing
        if claim is not None and standing is None:
            # Heard of meanwhile, and not read: make sure again.
            ctx.emit(ConfirmTask(event.task, read_claim=True))
            return
        record = ClaimRecord(
            task=event.task,
            epoch=standing.record.epoch + 1 if standing is not None else 1,
            holder=Holder(ctx.profile.peer, ctx.profile.agent, ctx.profile.incarnation),
            state=RecordState.HELD,
            nonce=ctx.nonce(),
            ttl_s=ctx.policy.claim_ttl_s,
            reason=self._reason(entry, claim),
            strikes=standing.record.strikes if standing is not None else 0,
        )
        entry.happen(ClaimEvent.CONFIRMED)
        self._swaps.send(entry, standing.version if standing is not None else None, record, "claim")

    def not_confirmed(self, event: TaskNotConfirmed) -> None:
        """The forge or the ledger did not answer: stand down for a while."""
        entry = self._ctx.entries.get(event.task)
        if entry is None or entry.state is not ClaimState.CONFIRMING:
            return
        self._ctx.counters["not_confirmed"] += 1
        self.back_off(entry, event.retry_after_ms)
        self._stand_down(entry)
        self.consider(entry)

    def back_off(self, entry: Entry, least_ms: int | None) -> None:
        """Let this task rest, longer at each failure in a row."""
        policy = self._ctx.policy
        entry.tries += 1
        wait_ms = min(policy.retry_max_ms, policy.retry_ms << min(entry.tries, 16))
        entry.not_before_ms = max(entry.not_before_ms, self._ctx.now_ms + max(wait_ms, least_ms or 0))

    def _stand_down(self, entry: Entry) -> None:
        entry.happen(ClaimEvent.NOT_CONFIRMED)
        self._ctx.active.discard(entry.task.id)

    def _claimable_at(self, entry: Entry, claim: Hint | None) -> int | None:
        """When this node may try for the task: a time, or ``None`` while nothing suggests it."""
        ctx = self._ctx
        if not entry.open or ctx.stopping or not ctx.accepting or entry.recovered is not None:
            return None
        if entry.state not in (ClaimState.IDLE, ClaimState.CONFIRMING):
            return None
        if entry.task.id.repository not in ctx.repositories:
            return None
        if entry.declined_update is not None and entry.declined_update == entry.task.updated_at:
            return None
        own = ctx.profile
        if match(entry.task, own.capabilities, own.specialization, own.models) == 0:
            return None
        at_ms = max(entry.not_before_ms, ctx.cooldown_until_ms)
        if claim is None or claim.state is RecordState.RELEASED:
            return at_ms
        verdict = ctx.verdict(entry, claim)
        if verdict.allowed:
            return at_ms
        return None if verdict.at_ms is None else max(at_ms, verdict.at_ms)

    def _reason(self, entry: Entry, claim: Hint | None) -> str | None:
        if claim is None or claim.state is not RecordState.HELD:
            return None
        return f"taken over from {claim.peer}: {self._ctx.verdict(entry, claim).reason}"

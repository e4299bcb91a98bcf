"""What a holder does: attempt, renew, deliver, give back, hand to a person, or lose in good order.

Every way out passes through ``_settle``, which looks at what is known and takes the one next step: so the
order in which answers arrive does not matter. Unproved work is saved before the claim is given back, and
nothing of an attempt is forgotten while its work is only on this machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.claimant import REASON_CHARS_MAX, Claimant, is_own
from bzzz.core.context import Context
from bzzz.core.effect import (
    JoinTopic,
    Publish,
    Report,
    StartAttempt,
    StopAttempt,
)
from bzzz.core.entry import Entry, Pending
from bzzz.core.event import (
    AttemptEnded,
    SwapEnd,
    SwapEnded,
    TaskConfirmed,
)
from bzzz.core.message import (
    COORDINATION_TOPIC,
    DISCUSSION_TOPIC,
    Discussion,
    Hint,
    task_topic,
)
from bzzz.core.outcome import Outcome
from bzzz.core.publishing import Publishing
from bzzz.core.pursuit import Pursuit
from bzzz.core.record import Observation, RecordState
from bzzz.core.recovery import Recovery
from bzzz.core.reopening import Reopening
from bzzz.core.rescue import Rescue
from bzzz.core.swap import Swaps
from bzzz.core.task import TaskId

NODE_STOPPED = "the node stopped"


def branch_name(task: TaskId, epoch: int) -> str:
    """The work branch, in the predecessor's form; its hash tells apart the epochs of one task."""
    digest = hashlib.blake2b(f"{task}\0{epoch}".encode(), digest_size=4).hexdigest()
    return f"bzzz/task-{task.number}-{digest}"


class Holding:
    """Everything from the moment a claim is won to the moment it is this node's no more."""

    def __init__(self, context: Context, swaps: Swaps, pursuit: Pursuit) -> None:
        self._ctx = context
        self._swaps = swaps
        self._pursuit = pursuit
        self._claimant = Claimant(context, pursuit)
        self.publishing = Publishing(context, pursuit, self._claimant)
        self.recovery = Recovery(context, swaps, self._claimant, self.publishing)
        self.rescue = Rescue(context)
        self.reopening = Reopening(context, swaps, self._claimant)
        self.recovery.settle = self.rescue.settle = self._settle
        self.publishing.save = self.rescue.nothing_unsaved
        swaps.settled = self._settled

    # --- how writes end ---------------------------------------------------------------------------------

    def _settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        handler = {
            ClaimState.CLAIMING: self._claim_settled,
            ClaimState.RENEWING: self._renewal_settled,
            ClaimState.DELIVERING: self._delivery_settled,
            ClaimState.RELEASING: self._return_settled,
            ClaimState.ESCALATING: self._return_settled,
            ClaimState.REOPENING: self.reopening.settled,
        }[entry.state]
        handler(entry, pending, event)

    def _claim_settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        ctx = self._ctx
        if event.end is SwapEnd.WON and event.standing is not None:
            entry.happen(ClaimEvent.SWAP_WON)
            gone_said = entry.gone_said
            entry.clear_attempt()
            entry.own = event.standing
            entry.tries = 0
            ctx.timers.set(("renew", entry.task.id), ctx.now_ms + ctx.policy.renew_interval_ms)
            ctx.notice("info", f"claimed with epoch {pending.record.epoch}", entry.task.id)
            ctx.emit(JoinTopic(task_topic(entry.task.id)))
            self._claimant.tell_claim(entry)
            ctx.emit(Report(entry.task.id, pending.record.epoch, "claimed", {"agent": ctx.profile.agent}))
            self._settle(entry)
            if gone_said:
                self.issue_gone(entry)
            return
        entry.pending = None
        if event.end is SwapEnd.LOST:
            entry.happen(ClaimEvent.SWAP_LOST)
            entry.tries = 0
            if event.standing is None:
                self._pursuit.back_off(entry, None)
        else:
            entry.happen(ClaimEvent.SWAP_REFUSED)
            self._pursuit.back_off(entry, event.retry_after_ms)
            ctx.notice("warning", f"the claim could not be written: {event.detail}", entry.task.id)
        self._claimant.done(entry, forget=pending.record.epoch)

    def _renewal_settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        ctx = self._ctx
        if event.end is SwapEnd.WON and event.standing is not None:
            entry.happen(ClaimEvent.SWAP_WON)
            entry.own = event.standing
            ctx.timers.set(("renew", entry.task.id), ctx.now_ms + ctx.policy.renew_interval_ms)
            entry.tries = 0
            if entry.recovered is not None:
                self.recovery.resumed(entry, entry.recovered)
            self._settle(entry)
            return
        entry.pending = None
        standing = event.standing
        if event.end is SwapEnd.LOST:
            if standing is not None and is_own(standing, pending.record, RecordState.DELIVERED):
                self.publishing.found_delivered(entry, standing)
            elif standing is not None and is_own(standing, pending.record, RecordState.HELD):
                # A renewal sent before a crash landed after the restart had read the ledger: still ours.
                entry.happen(ClaimEvent.SWAP_REFUSED)
                entry.own = standing
                self.renewal_due(entry.task.id)
            else:
                entry.happen(ClaimEvent.SWAP_LOST)
                self._lost(entry, "the renewal was refused")
            return
        entry.happen(ClaimEvent.SWAP_REFUSED)
        entry.tries += 1
        wait_ms = ctx.backoff_ms(entry.tries, event.retry_after_ms)
        ctx.timers.set(("renew", entry.task.id), ctx.now_ms + wait_ms)
        if entry.recovered is None:
            self._settle(entry)

    def _delivery_settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        if event.end is SwapEnd.WON and event.standing is not None:
            entry.happen(ClaimEvent.SWAP_WON)
            entry.own = event.standing
            self.publishing.publish(entry)
        elif event.end is SwapEnd.LOST:
            entry.happen(ClaimEvent.SWAP_LOST)
            self._lost(entry, "the delivery was refused: the claim has moved on")
        elif event.end is SwapEnd.UNAVAILABLE:
            self._swaps.retry_later(entry, event.retry_after_ms)
        else:
            entry.happen(ClaimEvent.SWAP_REFUSED)
            question = f"The git server refuses the branch {pending.record.branch}: {event.detail}"
            if entry.ended is not None:
                entry.ended = replace(entry.ended, outcome=Outcome.NEEDS_HELP, summary=question, question=question)
            self._settle(entry)

    def _return_settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        ctx = self._ctx
        if event.end is SwapEnd.UNAVAILABLE:
            self._swaps.retry_later(entry, event.retry_after_ms)
            return
        record = pending.record
        if event.end is SwapEnd.WON:
            entry.happen(ClaimEvent.SWAP_WON)
            ctx.emit(Publish(COORDINATION_TOPIC, self._claimant.completion(entry, record)))
            kind = "escalated" if record.state is RecordState.ESCALATED else "released"
            data = {"reason": record.reason or "", "strikes": record.strikes, "rescue": entry.saved_ref or ""}
            ctx.emit(Report(entry.task.id, record.epoch, kind, data))
            ctx.notice("info", f"{kind}: {record.reason}", entry.task.id)
        elif event.end is SwapEnd.LOST:
            if event.standing is not None and is_own(event.standing, record, RecordState.DELIVERED):
                # Refused when it was sent last, and an earlier sending of it has landed since.
                self.publishing.found_delivered(entry, event.standing)
                return
            entry.happen(ClaimEvent.SWAP_LOST)
        else:
            entry.happen(ClaimEvent.SWAP_REFUSED)
            self._pursuit.back_off(entry, event.retry_after_ms)
            ctx.notice("error", f"the claim could not be given back: {event.detail}", entry.task.id)
        self._claimant.leave(entry, record.epoch)

    # --- the attempt ------------------------------------------------------------------------------------

    def attempt_ended(self, event: AttemptEnded) -> None:
        """The agent is through; what it says is worth what the proof is worth."""
        entry = self._ctx.entries.get(event.task)
        if entry is None or entry.own is None or entry.own.record.epoch != event.epoch or entry.ended is not None:
            self._ctx.counters["late_attempts"] += 1
            return
        entry.running = False
        if event.outcome is Outcome.PROVED and not event.commit:
            event = replace(event, outcome=Outcome.CRASHED, summary="there is no commit to prove it")
        entry.ended = event
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Take the next step of a claim that is held, or being lost."""
        if entry.state is ClaimState.LOSING:
            if entry.running or not self.rescue.nothing_unsaved(entry):
                return
            own = entry.own
            if own is not None and own == entry.standing and own.record.state is RecordState.DELIVERED:
                # A restart found the delivery, and has saved what else there was.
                self.publishing.found_delivered(entry, own)
            else:
                entry.happen(ClaimEvent.WORK_SAVED)
                epoch = entry.own.record.epoch if entry.own is not None else 0
                self._claimant.leave(entry, epoch)
        elif entry.state is ClaimState.HELD and entry.own is not None and entry.pending is None:
            self._settle_held(entry, entry.own)

    def _settle_held(self, entry: Entry, own: Observation) -> None:
        ctx = self._ctx
        ended = entry.ended
        if ended is None:
            leave = entry.stop_reason or (NODE_STOPPED if ctx.stopping else "")
            if entry.running:
                return
            if entry.recovered is not None and entry.recovered.has_work and not self.rescue.nothing_unsaved(entry):
                return
            if leave:
                entry.ended = AttemptEnded(entry.task.id, own.record.epoch, Outcome.STOPPED, leave, False)
                self._settle_held(entry, own)
                return
            entry.clear_attempt_result()
            entry.running = True
            ctx.emit(StartAttempt(entry.task, own.record))
            return
        if ended.outcome is Outcome.PROVED and ended.commit and entry.stop_reason in ("", NODE_STOPPED):
            entry.happen(ClaimEvent.ATTEMPT_PROVED)
            record = self._claimant.child(
                own, RecordState.DELIVERED, branch=branch_name(entry.task.id, own.record.epoch), commit=ended.commit
            )
            self._swaps.send(entry, own.version, record, "deliver")
            return
        if self.rescue.nothing_unsaved(entry):
            self._give_back(entry, own, ended)

    def _give_back(self, entry: Entry, own: Observation, ended: AttemptEnded) -> None:
        ctx = self._ctx
        # An attempt that was told to stop says nothing about the task, however it ended.
        failed = ended.outcome.costs_strike and not entry.stop_reason
        strikes = own.record.strikes + (1 if failed else 0)
        reason = entry.stop_reason or f"{ended.outcome.value}: {ended.summary}"
        if ended.outcome is Outcome.RATE_LIMITED:
            cooldown_ms = max(ctx.policy.rate_limited_cooldown_ms, ended.retry_after_ms or 0)
            ctx.cooldown_until_ms = max(ctx.cooldown_until_ms, ctx.now_ms + cooldown_ms)
            ctx.timers.set_earlier(("reconsider",), ctx.cooldown_until_ms)
        elif ended.outcome in (Outcome.NEEDS_HELP, Outcome.AGENT_MISSING):
            # This node cannot do it as it stands; an edit of the issue is a new question.
            entry.declined_update = entry.task.wording
        elif not entry.stop_reason:
            # It is this task, or its repository, that rests here; the node's others go on.
            entry.failures += 1
            wait_ms = ctx.policy.attempt_backoff_ms << min(entry.failures - 1, 6)
            entry.not_before_ms = max(entry.not_before_ms, ctx.now_ms + max(wait_ms, ended.retry_after_ms or 0))
        if ended.outcome is Outcome.NEEDS_HELP:
            self._ask(entry, own, ended)
        if entry.saved_ref:
            reason = f"{reason[: REASON_CHARS_MAX - 80]} (work saved to {entry.saved_ref})"
        if strikes >= ctx.strikes_max(entry.task.id.repository):
            entry.happen(ClaimEvent.STRUCK_OUT)
            record = self._claimant.child(own, RecordState.ESCALATED, reason=reason, strikes=strikes)
            self._swaps.send(entry, own.version, record, "escalate")
        else:
            entry.happen(ClaimEvent.ATTEMPT_FAILED)
            record = self._claimant.child(own, RecordState.RELEASED, reason=reason, strikes=strikes)
            self._swaps.send(entry, own.version, record, "release")

    def _ask(self, entry: Entry, own: Observation, ended: AttemptEnded) -> None:
        ctx = self._ctx
        question = ended.question or ended.summary
        data = {
            "issue_id": entry.task.id.number,
            "repository": entry.task.id.repository,
            "node_id": ctx.profile.peer,
            "agent": ctx.profile.agent,
            "reason": question[:REASON_CHARS_MAX],
        }
        ctx.emit(Publish(DISCUSSION_TOPIC, Discussion("task_help_request", data)))
        ctx.emit(Report(entry.task.id, own.record.epoch, "asked", {"question": question}))

    # --- keeping and losing -----------------------------------------------------------------------------

    def renewal_due(self, task: TaskId) -> None:
        """Extend the claim, so that observers see that it lives."""
        entry = self._ctx.entries.get(task)
        if entry is None or entry.own is None:
            return
        if entry.state is not ClaimState.HELD or entry.pending is not None:
            return
        entry.happen(ClaimEvent.RENEWAL_DUE)
        record = self._claimant.child(entry.own, RecordState.HELD)
        self._swaps.send(entry, entry.own.version, record, "renew")

    def ledger_showed(self, entry: Entry) -> None:
        """The ledger was read for another purpose; if it shows that our claim moved on, stop."""
        own, standing = entry.own, entry.standing
        if own is None or standing is None or entry.state is not ClaimState.HELD or entry.pending is not None:
            return
        if standing.record.epoch > own.record.epoch:
            entry.happen(ClaimEvent.CLAIM_MOVED)
            self._lost(entry, f"{standing.record.holder.agent} holds it with epoch {standing.record.epoch}")

    def heard_claim(self, entry: Entry, hint: Hint) -> None:
        """Somebody says that a newer claim of a task of ours stands: the ledger is asked."""
        ctx = self._ctx
        if entry.own is not None and entry.state is ClaimState.HELD and hint.epoch > entry.own.record.epoch:
            ctx.timers.set_earlier(
                ("check", entry.task.id), max(ctx.now_ms, entry.asked_ms + ctx.policy.check_spacing_ms)
            )

    def check_due(self, task: TaskId) -> None:
        """Read the ledger, because somebody speaks of a newer claim."""
        entry = self._ctx.entries.get(task)
        if entry is not None and entry.state is ClaimState.HELD:
            self._ctx.ask_ledger(entry)

    def issue_gone(self, entry: Entry) -> None:
        """A listing or a peer says that the issue is no task any more: it is read again to be sure."""
        if entry.state in (ClaimState.HELD, ClaimState.RENEWING):
            if not entry.stop_reason and entry.recovered is None:
                self._ctx.ask_forge(entry, read_claim=False)
        elif entry.state is ClaimState.CLAIMING:
            entry.gone_said = True

    def confirmed(self, event: TaskConfirmed) -> None:
        """The issue of a held task was read again: if it is no task any more, stop and give back."""
        entry = self._ctx.entries.get(event.task)
        if entry is None or entry.state not in (ClaimState.HELD, ClaimState.RENEWING) or event.admitted:
            return
        entry.open = False
        self.stop(entry, event.reason or "the issue is closed")

    def stop(self, entry: Entry, reason: str) -> None:
        """End the attempt, keep its work, give the claim back."""
        if entry.stop_reason or entry.own is None:
            return
        entry.stop_reason = reason
        if entry.running:
            self._ctx.emit(StopAttempt(entry.task.id, entry.own.record.epoch, reason))
        else:
            self._settle(entry)

    def _lost(self, entry: Entry, reason: str) -> None:
        self._ctx.counters["claims_lost"] += 1
        self._ctx.notice("warning", f"claim lost: {reason}", entry.task.id)
        if entry.running and entry.own is not None:
            self._ctx.emit(StopAttempt(entry.task.id, entry.own.record.epoch, reason))
        self._settle(entry)

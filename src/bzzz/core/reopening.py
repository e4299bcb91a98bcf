"""A person asks again: for what was delivered (its pull request was closed unmerged), or was escalated.

The watcher of the repository appends a ``released`` record of a new epoch, and the next claim begins. It is a
compare-and-swap on the very record that was asked about, so two watchers reopen it once.
"""

from __future__ import annotations

from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.claimant import Claimant, clean
from bzzz.core.context import Context
from bzzz.core.effect import Publish, Report
from bzzz.core.entry import Entry, Pending
from bzzz.core.event import AskedAgain, SwapEnd, SwapEnded
from bzzz.core.message import COORDINATION_TOPIC
from bzzz.core.record import REOPENABLE, ClaimRecord, Holder, RecordState
from bzzz.core.swap import Swaps


class Reopening:
    """From a person's word to a task that can be claimed again."""

    def __init__(self, context: Context, swaps: Swaps, claimant: Claimant) -> None:
        self._ctx = context
        self._swaps = swaps
        self._claimant = claimant

    def asked(self, entry: Entry, asked: AskedAgain) -> None:
        """Reopen a task, unless that is being done, or the ledger shows that nothing is to be reopened."""
        ctx = self._ctx
        standing = entry.standing
        if entry.state is not ClaimState.IDLE or entry.recovered is not None or ctx.stopping or standing is None:
            return
        known = standing.record
        if known.state not in REOPENABLE or (asked.comment and asked.comment <= known.answered):
            return
        entry.happen(ClaimEvent.ASKED_AGAIN)
        ctx.active.add(entry.task.id)
        profile = ctx.profile
        record = ClaimRecord(
            task=entry.task.id,
            epoch=known.epoch + 1,
            holder=Holder(profile.peer, profile.agent, profile.incarnation),
            state=RecordState.RELEASED,
            nonce=ctx.nonce(),
            ttl_s=known.ttl_s,
            reason=clean(asked.reason),
            noted_at=ctx.noted_at(),
            answered=max(known.answered, asked.comment),
        )
        self._swaps.send(entry, standing.version, record, "reopen")

    def settled(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        """The record stands, or another one does; either way this node is through with it."""
        ctx = self._ctx
        if event.end is SwapEnd.UNAVAILABLE:
            self._swaps.retry_later(entry, event.retry_after_ms)
            return
        record = pending.record
        if event.end is SwapEnd.WON:
            entry.happen(ClaimEvent.SWAP_WON)
            entry.pull_request = None
            entry.declined_update = None
            entry.not_before_ms = 0
            ctx.notice("info", f"open again: {record.reason}", entry.task.id)
            ctx.emit(Publish(COORDINATION_TOPIC, self._claimant.completion(entry, record)))
            ctx.emit(Report(entry.task.id, record.epoch, "reopened", {"reason": record.reason or ""}))
        else:
            entry.happen(ClaimEvent.SWAP_LOST if event.end is SwapEnd.LOST else ClaimEvent.SWAP_REFUSED)
        self._claimant.done(entry, forget=record.epoch)

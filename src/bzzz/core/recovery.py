"""A restart: what the journal knew is held against the ledger, and what is left to do is done.

The journal says what this node had, the ledger what it still has. A claim that stands is renewed before
anything else; one that was delivered gets its pull request; of any other only the work is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.claimant import Claimant, is_own
from bzzz.core.context import Context
from bzzz.core.effect import JoinTopic
from bzzz.core.entry import Entry
from bzzz.core.event import AttemptEnded, Recovered
from bzzz.core.message import task_topic
from bzzz.core.outcome import Outcome
from bzzz.core.publishing import Publishing
from bzzz.core.record import Observation, RecordState
from bzzz.core.swap import Swaps
from bzzz.core.task import TaskId


class Recovery:
    """What a restart finds; ``settle`` takes the next step of a claim that is held, or being lost."""

    def __init__(self, context: Context, swaps: Swaps, claimant: Claimant, publishing: Publishing) -> None:
        self._ctx = context
        self._swaps = swaps
        self._claimant = claimant
        self._publishing = publishing
        self.settle: Callable[[Entry], None] = _nobody
        claimant.take_up = self._recover

    def recover_all(self, found: tuple[Recovered, ...]) -> None:
        """Ask the ledger what became of the tasks that this node had when it last ended.

        Of several claims of one task the newest comes first; older ones have only their work left to save.
        """
        waiting: dict[TaskId, list[Recovered]] = {}
        for recovered in found:
            waiting.setdefault(recovered.task.id, []).append(recovered)
        for several in waiting.values():
            several.sort(key=lambda recovered: recovered.record.epoch)
            self._recover(several.pop(), several)

    def _recover(self, recovered: Recovered, older: list[Recovered]) -> None:
        ctx = self._ctx
        entry = ctx.admit(recovered.task)
        if entry is None:
            ctx.notice("error", "too many tasks are known to recover this one; it stays in the journal")
            return
        entry.recovered = recovered
        entry.older = older
        ctx.active.add(entry.task.id)
        ctx.ask_ledger(entry)

    def not_read(self, entry: Entry, least_ms: int | None) -> None:
        """The ledger cannot be read now: again later. An ending node leaves the rest to its next start."""
        ctx = self._ctx
        if ctx.stopping:
            entry.clear_attempt()
            ctx.active.discard(entry.task.id)
            return
        entry.tries += 1
        ctx.timers.set(("recover", entry.task.id), ctx.now_ms + ctx.backoff_ms(entry.tries, least_ms))

    def read(self, entry: Entry, recovered: Recovered, standing: Observation | None) -> None:
        """The ledger's answer: go on, open the pull request, or save what is left."""
        ctx = self._ctx
        record = recovered.record
        if standing is not None and is_own(standing, record, RecordState.HELD):
            entry.own = standing
            entry.happen(ClaimEvent.RESUMED)
            ctx.emit(JoinTopic(task_topic(entry.task.id)))
            ctx.notice("info", f"resuming with epoch {record.epoch}", entry.task.id)
            self._swaps.send(entry, standing.version, self._claimant.child(standing, RecordState.HELD), "renew")
        elif standing is not None and is_own(standing, record, RecordState.DELIVERED) and not recovered.more_work:
            self._publishing.found_delivered(entry, standing)
        else:
            # Given back before the crash, or never won, or moved on: only the work is left to keep.
            entry.own = None
            if standing is not None:
                delivered = is_own(standing, record, RecordState.DELIVERED)
                entry.own = standing if delivered else Observation(standing.version, record)
            entry.happen(ClaimEvent.CLAIM_MOVED)
            if entry.own is None:
                entry.save_given_up = recovered.has_work
                entry.happen(ClaimEvent.WORK_SAVED)
                self._claimant.leave(entry, record.epoch)
            else:
                self.settle(entry)

    def resumed(self, entry: Entry, recovered: Recovered) -> None:
        """The claim is surely ours: an attempt that came to its own end counts, one that was cut short does not."""
        self._claimant.tell_claim(entry)
        outcome, commit = recovered.outcome, recovered.commit
        if outcome is None or outcome in (Outcome.STOPPED, Outcome.CRASHED):
            return
        if outcome is Outcome.PROVED and not (commit and recovered.has_work):
            return
        if outcome is Outcome.PROVED and recovered.more_work:
            entry.save_given_up = (
                True  # only this commit is about to be published; the rest stays for the next start
            )
        entry.ended = AttemptEnded(
            entry.task.id, recovered.record.epoch, outcome, "ended before the restart", recovered.has_work, commit
        )
        entry.recovered = None

    def due(self, task: TaskId) -> None:
        """Try again to read the ledger."""
        entry = self._ctx.entries.get(task)
        if entry is not None and entry.recovered is not None and entry.state is ClaimState.IDLE:
            self._ctx.ask_ledger(entry)


def _nobody(entry: Entry) -> None:
    raise AssertionError(f"{entry.task.id} has nobody to settle it")

"""The one write that a task may have under way, and finding out how it ended.

Whatever the answer, or none: a record's nonce in the ledger means that it was written. A write of unknown
fate is never given up in favour of another one. The ref is read; if the record stands, it was won; if what
was expected still stands, the very same record is sent again (sending it twice is sending it once, for the
bytes and therefore the commit are the same); anything else there means that it was lost.

A refusal for good says how this sending ended and nothing of an earlier one. So a delivery that was refused, and
whatever else was once of unknown fate, is read before the holder acts on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bzzz.core.context import Context
from bzzz.core.effect import DeliverWork, Remember, SwapClaim
from bzzz.core.entry import Entry, Pending
from bzzz.core.event import ClaimNotRead, SwapEnd, SwapEnded
from bzzz.core.record import ClaimRecord, Observation, RecordState, Version

SwapTaker = Callable[[Entry, Pending, SwapEnded], None]


class Swaps:
    """Sends writes, and tells ``settled`` once the end of each is certain: WON, LOST, REFUSED or UNAVAILABLE."""

    def __init__(self, context: Context) -> None:
        self._ctx = context
        self.settled: SwapTaker = _nobody

    def send(self, entry: Entry, expected: Version | None, record: ClaimRecord, purpose: str) -> None:
        """Begin a write; the journal knows of it before the ledger does."""
        entry.pending = Pending(record, expected, purpose)
        self._ctx.counters[f"swaps_{purpose}"] += 1
        self._ctx.emit(Remember(entry.task, record))
        self._emit(entry.pending)

    def resend(self, entry: Entry) -> None:
        """Send the very same record again."""
        pending = entry.pending
        if pending is not None and not pending.checking:
            self._ctx.counters["swaps_again"] += 1
            self._emit(pending)

    def ended(self, entry: Entry, event: SwapEnded) -> None:
        """An answer came; one that is not to the write under way is late and says nothing."""
        pending = entry.pending
        if pending is None or pending.record.nonce != event.nonce:
            self._ctx.counters["late_answers"] += 1
            return
        standing = event.standing
        if standing is not None and standing.record.nonce == pending.record.nonce:
            # It stands, whatever the answer says: an earlier sending of it may have arrived late.
            event = replace(event, end=SwapEnd.WON)
        if event.end is SwapEnd.UNCERTAIN or (event.end in (SwapEnd.WON, SwapEnd.LOST) and standing is None):
            self._ctx.counters["swaps_uncertain"] += 1
            pending.uncertain = True
            self._look(entry, pending)
        elif event.end is SwapEnd.UNAVAILABLE and pending.uncertain:
            # Nothing was written this time, but an earlier sending may still land: it is seen through.
            self.retry_later(entry, event.retry_after_ms)
        elif event.end is SwapEnd.REFUSED and (pending.uncertain or pending.purpose == "deliver"):
            pending.refused = event
            self._look(entry, pending)
        else:
            pending.checking = False
            self._finish(entry, pending, event)

    def _look(self, entry: Entry, pending: Pending) -> None:
        """Have the ledger say how a write ended."""
        pending.checking = True
        self._ctx.timers.cancel(("swap", entry.task.id))
        self._ctx.ask_ledger(entry)

    def read(self, entry: Entry, standing: Observation | None) -> bool:
        """A reading came; true if it answered the question of a write of unknown fate."""
        pending = entry.pending
        if pending is None or not pending.checking:
            return False
        pending.checking = False
        version = standing.version if standing is not None else None
        if standing is not None and standing.record.nonce == pending.record.nonce:
            end = SwapEnd.WON
        elif version == pending.expected and pending.refused is not None:
            self._finish(entry, pending, replace(pending.refused, standing=standing))
            return True
        elif version == pending.expected:
            self.retry_later(entry, None)
            return True
        else:
            end = SwapEnd.LOST
        self._finish(entry, pending, SwapEnded(entry.task.id, pending.record.nonce, end, standing))
        return True

    def not_read(self, entry: Entry, event: ClaimNotRead) -> bool:
        """The reading failed as well; true if one was wanted. It is tried until it succeeds."""
        if entry.pending is None or not entry.pending.checking:
            return False
        self.retry_later(entry, event.retry_after_ms)
        return True

    def retry_later(self, entry: Entry, least_ms: int | None) -> None:
        """Read or send again after a pause that doubles."""
        pending = entry.pending
        if pending is None:
            return
        pending.tries += 1
        wait_ms = self._ctx.backoff_ms(pending.tries, least_ms)
        self._ctx.timers.set(("swap", entry.task.id), self._ctx.now_ms + wait_ms)

    def retry_due(self, entry: Entry) -> None:
        """The pause is over."""
        if entry.pending is None:
            return
        if entry.pending.checking:
            self._ctx.ask_ledger(entry)
        else:
            self.resend(entry)

    def _emit(self, pending: Pending) -> None:
        record = pending.record
        if record.state is RecordState.DELIVERED and pending.expected is not None:
            self._ctx.emit(DeliverWork(record.task, pending.expected, record))
        else:
            self._ctx.emit(SwapClaim(record.task, pending.expected, record, pending.purpose))

    def _finish(self, entry: Entry, pending: Pending, event: SwapEnded) -> None:
        self._ctx.timers.cancel(("swap", entry.task.id))
        self._ctx.counters[f"swaps_{pending.purpose}_{event.end.value}"] += 1
        entry.observe(event.standing, self._ctx.now_ms)
        if event.end in (SwapEnd.WON, SwapEnd.LOST) and event.standing is not None:
            entry.settle_hint(event.standing, -1, 0)  # what is newer than this may well be true
        if event.end is not SwapEnd.UNAVAILABLE:
            entry.pending = None
        self.settled(entry, pending, event)


def _nobody(entry: Entry, pending: Pending, event: SwapEnded) -> None:
    raise AssertionError(f"{event} of {entry.task.id} for {pending.purpose} has no taker")

"""Unpublished work is pushed to its rescue ref before anything that would let it be forgotten."""

from __future__ import annotations

from collections.abc import Callable

from bzzz.core.claim import ClaimState
from bzzz.core.context import Context
from bzzz.core.effect import SaveWork
from bzzz.core.entry import Entry
from bzzz.core.event import WorkNotSaved, WorkSaved
from bzzz.core.task import TaskId


class Rescue:
    """Saves the work of one claim once, trying until it is done; ``settle`` is told when there is an end."""

    def __init__(self, context: Context) -> None:
        self._ctx = context
        self.settle: Callable[[Entry], None] = _nobody

    def nothing_unsaved(self, entry: Entry) -> bool:
        """Whether there is nothing left to save; if there is, saving begins."""
        has_work = (entry.ended is not None and entry.ended.has_work) or (
            entry.ended is None and entry.recovered is not None and entry.recovered.has_work
        )
        if not has_work or entry.saved_ref is not None or entry.save_given_up:
            return True
        waits = self._ctx.timers.due_ms(("save", entry.task.id)) is not None
        if entry.own is not None and not entry.saving and not waits:
            entry.saving = True
            self._ctx.emit(SaveWork(entry.task.id, entry.own.record.epoch))
        return False

    def saved(self, event: WorkSaved) -> None:
        """Unpublished work stands on the server now."""
        entry = self._saving(event.task, event.epoch)
        if entry is None:
            return
        entry.saved_ref = event.ref
        self._ctx.notice("info", f"work saved to {event.ref}", event.task)
        self.settle(entry)

    def not_saved(self, event: WorkNotSaved) -> None:
        """Saving failed: again later, or never, and then the attempt's folder stays where it is."""
        entry = self._saving(event.task, event.epoch)
        if entry is None:
            return
        if event.final:
            entry.save_given_up = True  # until the end of this claim: the folders of its attempts are kept
            self._ctx.notice("error", f"work stays on this machine only: {event.detail}", event.task)
            self.settle(entry)
        else:
            entry.tries += 1
            self._ctx.timers.set(("save", event.task), self._ctx.now_ms + self._ctx.backoff_ms(entry.tries))

    def _saving(self, task: TaskId, epoch: int) -> Entry | None:
        """The entry whose saving under way this answers; an answer about other work says nothing."""
        entry = self._ctx.entries.get(task)
        if entry is None or not entry.saving or entry.own is None or entry.own.record.epoch != epoch:
            self._ctx.counters["late_answers"] += 1
            return None
        entry.saving = False
        return entry

    def due(self, task: TaskId) -> None:
        """Try again to save."""
        entry = self._ctx.entries.get(task)
        if entry is not None and entry.state in (ClaimState.HELD, ClaimState.LOSING):
            self.settle(entry)
        elif entry is not None and entry.state is ClaimState.PUBLISHING:
            self.nothing_unsaved(entry)


def _nobody(entry: Entry) -> None:
    raise AssertionError(f"{entry.task.id} has nobody to settle it")

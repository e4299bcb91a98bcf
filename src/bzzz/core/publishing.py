"""After the delivery: the pull request, found by its head branch first, so that no crash makes a second one."""

from __future__ import annotations

from collections.abc import Callable

from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.claimant import Claimant
from bzzz.core.context import Context
from bzzz.core.effect import OpenPull, Publish, Report
from bzzz.core.entry import Entry
from bzzz.core.event import PullFound, PullNotFound
from bzzz.core.message import COORDINATION_TOPIC
from bzzz.core.pursuit import Pursuit
from bzzz.core.record import Observation
from bzzz.core.task import TaskId


class Publishing:
    """From a delivery that stands to its pull request; ``save`` keeps work whose branch may not be there."""

    def __init__(self, context: Context, pursuit: Pursuit, claimant: Claimant) -> None:
        self._ctx = context
        self._pursuit = pursuit
        self._claimant = claimant
        self.save: Callable[[Entry], object] = _nobody

    def publish(self, entry: Entry) -> None:
        """The delivery stands: find or open its pull request."""
        if entry.own is not None:
            self._ctx.timers.cancel(("renew", entry.task.id))
            self._ctx.emit(OpenPull(entry.task, entry.own.record))
            self._pursuit.consider_all()  # the place that it had taken is free

    def found_delivered(self, entry: Entry, standing: Observation) -> None:
        """The ledger shows that this claim was delivered before a crash."""
        entry.happen(ClaimEvent.DELIVERY_FOUND)
        entry.own = standing
        entry.recovered = None
        self.publish(entry)

    def pull_due(self, task: TaskId) -> None:
        """Try again to open the pull request."""
        entry = self._ctx.entries.get(task)
        if entry is not None and entry.state is ClaimState.PUBLISHING:
            self.publish(entry)

    def pull_found(self, event: PullFound) -> None:
        """The pull request stands: the task is through."""
        entry = self._ctx.entries.get(event.task)
        if entry is None:
            return
        entry.pull_request, entry.pull_by = event.url, self._ctx.profile.peer
        if entry.state is not ClaimState.PUBLISHING or entry.own is None:
            return
        record = entry.own.record
        entry.happen(ClaimEvent.PULL_FOUND)
        self._ctx.emit(Publish(COORDINATION_TOPIC, self._claimant.completion(entry, record, event.url)))
        data = {"pull_request": event.url, "branch": record.branch or "", "commit": record.commit or ""}
        self._ctx.emit(Report(event.task, record.epoch, "delivered", data))
        self._ctx.notice("info", f"delivered as {event.url}", event.task)
        self._claimant.leave(entry, record.epoch)

    def pull_not_found(self, event: PullNotFound) -> None:
        """Not yet: again later. Where the forge refuses for good, a person is told; the branch stands."""
        ctx = self._ctx
        entry = ctx.entries.get(event.task)
        if entry is None or entry.state is not ClaimState.PUBLISHING:
            return
        entry.tries += 1
        wait_ms = ctx.backoff_ms(entry.tries, event.retry_after_ms)
        if event.final:
            wait_ms = max(wait_ms, ctx.policy.watch_interval_max_ms)
            # Perhaps there is no branch to open it from: a server that is not atomic may refuse it alone.
            self.save(entry)
        level = "error" if event.final else "warning"
        ctx.notice(level, f"the pull request is not open yet: {event.detail}", event.task)
        ctx.timers.set(("pull", event.task), ctx.now_ms + wait_ms)


def _nobody(entry: Entry) -> None:
    raise AssertionError(f"work of {entry.task.id} has nobody to save it")

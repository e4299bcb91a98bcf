"""Reports that must arrive, in the end, once: labels and comments for people, states for Hive.

They are a projection of what the ledger already says and decide nothing. Each is kept in the journal until
every place has taken it, so neither a crash nor a forge that is away loses one; each place takes it
idempotently, so a repetition after a crash does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from bzzz.core.task import Repository
from bzzz.errors import BzzzError, ServiceConflict, ServiceMissing
from bzzz.ports import OutboxItem
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.shells import Shells

BATCH_ITEMS_MAX = 20
RETRY_S = 2.0
RETRY_S_MAX = 120.0
COMMENT_CHARS_MAX = 4_000

_STATUS = {"claimed": "in_progress", "delivered": "completed", "released": "failed", "escalated": "escalated"}


class Outbox:
    """Delivers the journal's reports in the background; ``wake`` says that there is a new one."""

    def __init__(self, shells: Shells, find: Callable[[str], Repository | None], events: EventLog) -> None:
        self._journal = shells.journal
        self._forge = shells.forge
        self._hive = shells.hive
        self._escalate = shells.escalate
        self._agent = shells.agent.name
        self._find = find
        self._events = events
        self._wake = asyncio.Event()
        self._delivering = asyncio.Lock()

    def wake(self) -> None:
        """There is a new report."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        wait_s = RETRY_S
        while True:
            self._wake.clear()
            failed = await self.deliver_once()
            if failed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                wait_s = min(RETRY_S_MAX, wait_s * 2)
            else:
                wait_s = RETRY_S
                if self._journal.outbox_length() == 0:
                    await self._wake.wait()

    async def deliver_once(self) -> int:
        """Try what waits, once each; returns how many reports still wait after that."""
        async with self._delivering:
            return await self._deliver_batch()

    async def _deliver_batch(self) -> int:
        failed = 0
        for item in self._journal.pending(BATCH_ITEMS_MAX):
            repository = self._find(item.task.repository)
            if repository is None:
                # Withdrawn from Hive: it may come back, so it waits behind the others.
                self._journal.postponed(item.id)
                failed += 1
                continue
            try:
                await self._deliver(item, repository)
            except (ServiceMissing, ServiceConflict) as error:
                # The issue is gone or its state forbids it: nobody will ever take this report.
                self._events.tell("report_refused", level="warning", task=str(item.task), text=str(error))
                self._journal.delivered(item.id)
            except BzzzError as error:
                failed += 1
                self._journal.postponed(item.id)
                if item.tries == 0:
                    self._events.tell("report_waits", level="warning", task=str(item.task), text=str(error))
            else:
                self._journal.delivered(item.id)
        return failed

    async def _deliver(self, item: OutboxItem, repository: Repository) -> None:
        number = item.task.number
        if item.kind == "claimed":
            await self._forge.add_labels(repository, number, ["in-progress"])
        elif item.kind == "delivered":
            await self._forge.add_labels(repository, number, ["completed"])
            await self._forge.remove_label(repository, number, "in-progress")
        elif item.kind in ("released", "escalated"):
            await self._forge.remove_label(repository, number, "in-progress")
        if item.kind == "escalated":
            await self._forge.add_labels(repository, number, ["needs-human"])
            if self._escalate is not None:
                await self._escalate({"task": str(item.task), "epoch": item.epoch, **dict(item.data)})
        body = _comment(item)
        if body:
            await self._forge.comment(repository, number, body, key=item.key)
        status = _STATUS.get(item.kind)
        if self._hive is not None and status is not None:
            metadata = {"epoch": item.epoch, **dict(item.data)}
            await self._hive.report_status(repository, number, status, metadata)
            if item.kind == "delivered":
                await self._hive.capture("create-pr", repository, number, pull_item(item, self._agent))


def pull_item(item: OutboxItem, agent: str) -> Mapping[str, Any]:
    """A delivery as Hive keeps it: the pull request that is there, and the check that passed before it."""
    return {
        "agent_id": agent,
        "title": f"Delivery of {item.task}",
        "description": f"epoch {item.epoch}",
        "branch_name": item.data.get("branch", ""),
        "pr_url": item.data.get("pull_request", ""),
        "commit": item.data.get("commit", ""),
        "check": item.data.get("check", {}),
    }


def _comment(item: OutboxItem) -> str:
    """What people read under the issue; nothing for what the pull request or a label already says."""
    data: Mapping[str, Any] = item.data
    if item.kind == "asked":
        question = str(data.get("question", ""))[:COMMENT_CHARS_MAX]
        return (
            f"An agent needs help with this task:\n\n{_quote(question)}\n\nEdit the issue to have it tried again."
        )
    if item.kind == "escalated":
        reason = str(data.get("reason", ""))[:COMMENT_CHARS_MAX]
        return (
            f"{data.get('strikes', 'Several')} attempts at this task failed, so no agent takes it until a person "
            f"has looked. The last one:\n\n{_quote(reason)}"
        )
    return ""


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines()) or "> (nothing was said)"

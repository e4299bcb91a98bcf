"""Reports that must arrive, in the end, once: labels and comments for people, states for Hive.

They are a projection of what the ledger already says and decide nothing. Each is kept in the journal until
every place has taken it, so neither a crash nor a forge that is away loses one; each place takes it
idempotently, so a repetition after a crash does no harm. The places do not wait for each other, the reports
of one task keep their order, and each report that fails rests longer before it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.record import RecordState
from bzzz.core.task import Repository
from bzzz.errors import BzzzError, ServiceConflict, ServiceMissing
from bzzz.ports import OutboxItem
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.failure import retry_after_ms
from bzzz.runtime.shells import Shells

BATCH_ITEMS_MAX = 200
RETRY_S = 2.0
RETRY_S_MIN = 0.1
RETRY_S_MAX = 120.0
COMMENT_CHARS_MAX = 4_000

ATTEMPTED = "attempted:"
"""Begins the kind of what an attempt shows of itself; the attempt's id follows."""

_STATUS = {"claimed": "in_progress", "delivered": "completed", "released": "failed", "escalated": "escalated"}


_Deliver = Callable[[OutboxItem, Repository], Awaitable[None]]


@dataclass(slots=True)
class _Waiting:
    """What this start of the node knows of a report that failed: when it is due, and who has it already."""

    due_ms: int = 0
    taken: set[str] = field(default_factory=set)


class Outbox:
    """Delivers the journal's reports in the background; ``wake`` says that there is a new one."""

    def __init__(self, shells: Shells, find: Callable[[str], Repository | None], events: EventLog) -> None:
        self._journal = shells.journal
        self._forge = shells.forge
        self._ledger = shells.ledger
        self._hive = shells.hive
        self._escalate = shells.escalate
        self._clock = shells.clock
        self._agent = shells.agent.name
        self._find = find
        self._events = events
        self._wake = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._waiting: dict[int, _Waiting] = {}
        # What an earlier start left may have been overtaken by another holder meanwhile.
        self._left = {item.id for item in self._journal.pending(BATCH_ITEMS_MAX)}

    def wake(self) -> None:
        """There is a new report."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._wake.clear()
            while await self.deliver_once():
                pass
            wait_s = self._next_due_s()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def deliver_once(self) -> int:
        """Try what is due, once each; returns how many of them are through."""
        async with self._delivering:
            done = 0
            now_ms = self._clock.now_ms()
            for item in self._journal.pending(BATCH_ITEMS_MAX):
                waiting = self._waiting.get(item.id)
                if waiting is None or waiting.due_ms <= now_ms:
                    done += await self._try(item)
            return done

    def _next_due_s(self) -> float | None:
        if self._journal.outbox_length() == 0:
            return None
        now_ms = self._clock.now_ms()
        due_ms = min((waiting.due_ms for waiting in self._waiting.values()), default=now_ms)
        return max(RETRY_S_MIN, (due_ms - now_ms) / 1000)

    async def _try(self, item: OutboxItem) -> bool:
        """Offer a report to every place that has not taken it; true if nothing of it is left to do."""
        waiting = self._waiting.setdefault(item.id, _Waiting())
        repository = self._find(item.task.repository)
        failures: list[Exception] = []
        if repository is None:
            # Withdrawn from Hive: it may come back.
            failures.append(BzzzError(f"{item.task.repository} is not among the active repositories"))
        else:
            try:
                overtaken = await self._overtaken(item, repository)
            except Exception as error:  # whatever the ledger does, the other reports go on
                failures.append(error)
                overtaken = False
            for place, deliver in [] if overtaken or failures else self._places():
                if place not in waiting.taken:
                    failure = await self._offer(item, repository, deliver)
                    if failure is None:
                        waiting.taken.add(place)
                    else:
                        failures.append(failure)
        if not failures:
            self._journal.delivered(item.id)
            del self._waiting[item.id]
            self._left.discard(item.id)
            return True
        wait_s = min(RETRY_S_MAX, RETRY_S * 2 ** min(item.tries, 16))
        least_ms = [retry_after_ms(failure) or 0 for failure in failures if isinstance(failure, BzzzError)]
        waiting.due_ms = self._clock.now_ms() + max(int(wait_s * 1000), *least_ms, 0)
        self._journal.postponed(item.id)
        if item.tries == 0:
            text = "; ".join(str(failure) for failure in failures)
            self._events.tell("report_waits", level="warning", task=str(item.task), text=text)
        return False

    async def _overtaken(self, item: OutboxItem, repository: Repository) -> bool:
        """Whether a late report tells of what is over, so that it would undo a newer holder's.

        The ledger is asked, but only for reports that an earlier start left or that failed before.

        Raises:
            BzzzError: the ledger could not be read.
        """
        if item.kind.startswith(ATTEMPTED) or (item.id not in self._left and item.tries == 0):
            return False  # what was done was done, whoever holds the task now
        standing = await self._ledger.read(repository, item.task.number)
        if standing is None:
            return False
        record = standing.record
        over = record.epoch > item.epoch or (item.kind == "claimed" and record.state is not RecordState.HELD)
        if over:
            self._events.tell("report_overtaken", task=str(item.task), epoch=item.epoch, report=item.kind)
        return over

    def _places(self) -> list[tuple[str, _Deliver]]:
        places: list[tuple[str, _Deliver]] = [("forge", self._to_forge)]
        if self._hive is not None:
            places += [("Hive", self._to_hive), ("capture", self._to_capture)]
        if self._escalate is not None:
            places.append(("hook", self._to_hook))
        return places

    async def _offer(self, item: OutboxItem, repository: Repository, deliver: _Deliver) -> Exception | None:
        """Why a place has not taken a report; ``None`` if it has, or never will."""
        try:
            await deliver(item, repository)
        except (ServiceMissing, ServiceConflict) as error:
            # The issue is gone or its state forbids it: this place will never take this report.
            self._events.tell("report_refused", level="warning", task=str(item.task), text=str(error))
        except BzzzError as error:
            return error
        except Exception as error:  # a bug in an adapter must not end all reports
            self._events.tell("broken", level="error", text=f"outbox: {type(error).__name__}: {error}")
            return error
        return None

    async def _to_forge(self, item: OutboxItem, repository: Repository) -> None:
        number = item.task.number
        if item.kind == "claimed":
            await self._forge.add_labels(repository, number, ["in-progress"])
        elif item.kind == "delivered":
            await self._forge.add_labels(repository, number, ["completed"])
            await self._forge.remove_label(repository, number, "in-progress")
        elif item.kind == "reopened":
            await self._forge.remove_label(repository, number, "completed")
            await self._forge.remove_label(repository, number, "needs-human")
        elif item.kind in ("released", "escalated"):
            await self._forge.remove_label(repository, number, "in-progress")
        if item.kind == "escalated":
            await self._forge.add_labels(repository, number, ["needs-human"])
        body = _comment(item)
        if body:
            await self._forge.comment(repository, number, body, key=item.key)

    async def _to_hive(self, item: OutboxItem, repository: Repository) -> None:
        status = _STATUS.get(item.kind)
        if self._hive is not None and status is not None:
            metadata = {"epoch": item.epoch, **dict(item.data)}
            await self._hive.report_status(repository, item.task.number, status, metadata)

    async def _to_capture(self, item: OutboxItem, repository: Repository) -> None:
        if self._hive is not None and item.kind == "delivered":
            await self._hive.capture("create-pr", repository, item.task.number, pull_item(item, self._agent))
        if self._hive is not None and item.kind.startswith(ATTEMPTED):
            for kind, body in attempt_items(item, self._agent):
                await self._hive.capture(kind, repository, item.task.number, body)

    async def _to_hook(self, item: OutboxItem, _: Repository) -> None:
        if self._escalate is not None and item.kind == "escalated":
            # The key lets the receiver drop the repetition that a crash can cause.
            await self._escalate({"key": item.key, "task": str(item.task), "epoch": item.epoch, **dict(item.data)})


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


def attempt_items(item: OutboxItem, agent: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """An attempt as Hive keeps it: the prompt with the agent's last words, and the work."""
    data = item.data
    about = {
        "agent_id": agent,
        "attempt_id": data.get("attempt_id", ""),
        "epoch": item.epoch,
        "outcome": data.get("outcome", ""),
    }
    if data.get("prompt"):
        usage = data.get("usage", {})
        yield (
            "log-prompt",
            {
                **about,
                "prompt_type": "task_analysis",
                "prompt_content": data["prompt"],
                "response": data.get("answer", ""),
                "model_used": usage.get("model"),
                "usage": usage,
            },
        )
    if data.get("diff") or data.get("files"):
        yield (
            "submit-work",
            {
                **about,
                "work_type": "code",
                "content": data.get("diff", ""),
                "files": data.get("files", {}),
                "commit_message": data.get("commit_message", ""),
                "description": data.get("summary", ""),
                "commit": data.get("commit", ""),
            },
        )


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

"""Between the core and the agent runner: starting, stopping, and the work that attempts leave behind."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import Callable, Sequence

from bzzz.core.effect import StartAttempt, StopAttempt
from bzzz.core.event import AgentProgressed, AgentStarted, AttemptEnded, Event, Recovered
from bzzz.core.holding import branch_name
from bzzz.core.outcome import Outcome
from bzzz.core.record import ClaimRecord
from bzzz.core.task import Comment, Issue, Repository, Task, TaskId
from bzzz.errors import AgentError, BzzzError, ServiceLimited
from bzzz.ports import AttemptEvent, AttemptFinished, AttemptProgressed, AttemptSpec, AttemptStarted, Work
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.failure import bounded_ms, retry_after_ms
from bzzz.runtime.ledger_shell import LedgerShell
from bzzz.runtime.shells import Shells

READ_RETRIES_S = (1.0, 4.0)
"""Pauses before the issue's text is asked for once more, after the claim."""
ID_NAME_CHARS_MAX = 40


def _untold(_task: TaskId, _epoch: int, _finished: AttemptFinished) -> None:
    return None


class AttemptShell:
    """Knows which attempt belongs to which claim, and where its work is."""

    def __init__(
        self, shells: Shells, events: EventLog, incarnation: int, find: Callable[[str], Repository | None]
    ) -> None:
        self._runner = shells.runner
        self._forge = shells.forge
        self._agent = shells.agent
        self._events = events
        self._incarnation = incarnation
        self._find = find
        self._claims: dict[str, tuple[TaskId, int]] = {}
        self._works: dict[tuple[TaskId, int], list[Work]] = {}
        self.checks: dict[tuple[TaskId, int], dict[str, object]] = {}
        self._starting: dict[tuple[TaskId, int], asyncio.Event] = {}

    def work_of(self, task: TaskId, epoch: int) -> Work | None:
        """The work of a claim's newest attempt, if it is on this machine."""
        works = self._works.get((task, epoch))
        return works[-1] if works else None

    def works_of(self, task: TaskId, epoch: int) -> Sequence[Work]:
        """All work of a claim's attempts that is on this machine, oldest first."""
        return tuple(self._works.get((task, epoch), ()))

    def _keep(self, task: TaskId, epoch: int, work: Work) -> None:
        works = self._works.setdefault((task, epoch), [])
        works[:] = [known for known in works if known.commit != work.commit] + [work]

    async def start(self, effect: StartAttempt, ledger: LedgerShell) -> Event | None:
        """Spawn the attempt; an event only where that failed, or was not wanted any more."""
        task, record = effect.task, effect.record
        claim = (task.id, record.epoch)
        stop = self._starting[claim] = asyncio.Event()
        try:
            repository = self._find(task.id.repository)
            if repository is None:
                raise AgentError("its repository is not active any more")
            text = await self._read(repository, task.id, ledger, stop)
            if text is None:
                return AttemptEnded(*claim, Outcome.STOPPED, "stopped before the agent began", False)
            await self._spawn(repository, task.id, record, *text)
            if stop.is_set():
                # Asked for while the worker was being spawned.
                await self.stop(StopAttempt(*claim, "stopped as it began"))
        except AgentError as error:
            return AttemptEnded(*claim, Outcome.AGENT_MISSING, str(error), False)
        except BzzzError as error:
            # The forge failed us, not the task: no strike.
            wait_ms = retry_after_ms(error)
            return AttemptEnded(*claim, Outcome.SERVICE_FAILED, str(error), False, retry_after_ms=wait_ms)
        finally:
            del self._starting[claim]
        return None

    async def _read(
        self, repository: Repository, task: TaskId, ledger: LedgerShell, stop: asyncio.Event
    ) -> tuple[Issue, Sequence[Comment]] | None:
        """The issue and its comments; ``None`` if the attempt was stopped meanwhile."""
        for pause_s in (*READ_RETRIES_S, None):
            try:
                issue = await ledger.issue(task)
                comments = await self._forge.list_comments(repository, task.number) if issue.comments else ()
            except ServiceLimited:
                raise
            except BzzzError:
                if pause_s is None and not stop.is_set():
                    raise
                try:
                    async with asyncio.timeout(pause_s):
                        await stop.wait()
                except TimeoutError:
                    continue
                return None
            return None if stop.is_set() else (issue, comments)
        return None

    async def _spawn(
        self, repository: Repository, task: TaskId, record: ClaimRecord, issue: Issue, comments: Sequence[Comment]
    ) -> None:
        attempt_id = self._attempt_id(task, record)
        rules = repository.rules
        self._claims[attempt_id] = (task, record.epoch)
        self._events.tell("attempt_starting", task=str(task), epoch=record.epoch)
        await self._runner.start(
            AttemptSpec(
                attempt_id=attempt_id,
                task=task,
                epoch=record.epoch,
                repository=repository,
                issue=issue,
                comments=tuple(comments),
                branch=branch_name(task, record.epoch),
                agent=self._agent.configuration,
                agent_name=self._agent.name,
                wall_s_max=min(self._agent.wall_s_max, rules.wall_s_max or math.inf),
                idle_s_max=min(self._agent.idle_s_max, rules.idle_s_max or math.inf),
                output_bytes_max=self._agent.output_bytes_max,
            )
        )

    async def stop(self, effect: StopAttempt) -> None:
        """End the claim's attempts; each finishes by its own event. One that is only beginning does not begin."""
        claim = (effect.task, effect.epoch)
        if claim in self._starting:
            self._starting[claim].set()
        for attempt_id, known in list(self._claims.items()):
            if known == claim:
                await self._runner.stop(attempt_id, effect.reason)

    async def forget(self, task: TaskId, epoch: int) -> None:
        """Delete the folders of the claim's attempts."""
        for attempt_id, claim in list(self._claims.items()):
            if claim == (task, epoch):
                await self._runner.forget(attempt_id)
                del self._claims[attempt_id]
        self._works.pop((task, epoch), None)
        self.checks.pop((task, epoch), None)

    def translate(self, event: AttemptEvent) -> Event | None:
        """A runner's event as the core's; ``None`` for an attempt that nobody knows."""
        claim = self._claims.get(event.attempt_id)
        if claim is None:
            if isinstance(event, AttemptFinished) and event.work is not None:
                self._say_left(event.attempt_id, event.work)
            return None
        task, epoch = claim
        if isinstance(event, AttemptStarted):
            self._events.tell("agent_started", task=str(task), epoch=epoch, agent=event.agent, pid=event.pid)
            return AgentStarted(task, epoch)
        if isinstance(event, AttemptProgressed):
            self._events.tell("attempt_progress", task=str(task), epoch=epoch, phase=event.phase, text=event.detail)
            return AgentProgressed(task, epoch, event.phase, event.detail)
        return self._finished(task, epoch, event)

    def _finished(self, task: TaskId, epoch: int, event: AttemptFinished) -> AttemptEnded:
        if event.work is not None:
            self._keep(task, epoch, event.work)
        self.checks[task, epoch] = dict(event.check)
        self._events.tell(
            "attempt_ended",
            task=str(task),
            epoch=epoch,
            outcome=event.outcome.value,
            text=event.summary,
            check=dict(event.check),
        )
        return AttemptEnded(
            task=task,
            epoch=epoch,
            outcome=event.outcome,
            summary=event.summary,
            has_work=event.work is not None,
            commit=event.work.commit if event.work is not None else None,
            question=event.question,
            retry_after_ms=bounded_ms(event.retry_after_s),
        )

    async def recover(
        self,
        remembered: Sequence[tuple[Task, ClaimRecord]],
        tell: Callable[[TaskId, int, AttemptFinished], None] = _untold,
    ) -> tuple[Recovered, ...]:
        """What the last start left: its processes are ended, its claims and its work are told.

        ``tell`` hears of each attempt with the task and the epoch that it belongs to, whether or not the last start
        had told of it already.
        """
        left = {event.attempt_id: event for event in await self._runner.recover()}
        found: list[Recovered] = []
        for task, record in remembered:
            newest: AttemptFinished | None = None
            work: Work | None = None
            prefix = self._attempt_prefix(task.id, record.epoch)
            for attempt_id in sorted(left):
                if attempt_id.startswith(prefix):
                    newest = left[attempt_id]
                    # An attempt that came to nothing does not hide the work of the one before it.
                    work = newest.work or work
                    if newest.work is not None:
                        self._keep(task.id, record.epoch, newest.work)
                        self.checks[task.id, record.epoch] = dict(newest.check)
                    tell(task.id, record.epoch, newest)
                    self._claims[attempt_id] = (task.id, record.epoch)
            found.append(
                Recovered(
                    task=task,
                    record=record,
                    outcome=newest.outcome if newest is not None else None,
                    has_work=work is not None,
                    more_work=len(self.works_of(task.id, record.epoch)) > 1,
                    commit=work.commit if work is not None else None,
                )
            )
        known = {attempt_id for attempt_id in left if attempt_id in self._claims}
        for attempt_id in sorted(set(left) - known):
            work = left[attempt_id].work
            if work is None:
                await self._runner.forget(attempt_id)
            else:
                self._say_left(attempt_id, work)
        return tuple(found)

    def _say_left(self, attempt_id: str, work: Work) -> None:
        self._events.tell("work_left", level="warning", text=f"{attempt_id}: work is in {work.git_dir}")

    def _attempt_prefix(self, task: TaskId, epoch: int) -> str:
        # Readable as far as a folder's name allows; the hash tells apart what that makes equal.
        name = re.sub(r"[^A-Za-z0-9-]", "-", task.repository).strip("-")[:ID_NAME_CHARS_MAX] or "task"
        digest = hashlib.blake2b(task.repository.encode(errors="replace"), digest_size=5).hexdigest()
        return f"{name}.{digest}.{task.number}.{epoch}."

    def _attempt_id(self, task: TaskId, record: ClaimRecord) -> str:
        # The nonce's start tells apart two attempts under one epoch (after a restart).
        return f"{self._attempt_prefix(task, record.epoch)}{self._incarnation:010d}.{record.nonce[:8]}"

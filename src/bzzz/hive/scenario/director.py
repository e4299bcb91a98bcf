"""Carries a scenario's timetable out: makes repositories and issues on the forge, projects in Hive, and faults.

What the forge refuses is said and counted, and the rest goes on. A scenario that is started again on the same
folder plays from its beginning: repositories are not made twice, tasks are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fastapi.concurrency import run_in_threadpool

from bzzz.core.task import TaskType
from bzzz.errors import BzzzError, UsageError
from bzzz.hive.part import HiveParts
from bzzz.hive.project import draft_from
from bzzz.hive.scenario.fault import FaultBox
from bzzz.hive.scenario.plan import (
    URGENT_PRIORITY,
    FaultBegins,
    Happening,
    ProjectArrives,
    ProjectLeaves,
    ProjectReturns,
    TaskArrives,
    body_of,
    files_of,
    labels_of,
    timetable,
)
from bzzz.hive.scenario.script import OWNER, Scenario

EVENTS_KEPT_MAX = 200
URGENT_INDEX = 100_000

_LOG = logging.getLogger("bzzz.hive.scenario")


class ScenarioForge(Protocol):
    """What a scenario needs of the embedded forge."""

    def create_repository(self, owner: str, title: str, *, files: Mapping[str, str] | None = None) -> Any:
        """Make a repository with a first commit."""
        ...

    def create_issue(
        self, owner: str, title: str, subject: str, body: str = "", *, labels: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """Open an issue; its ``number`` is in the answer."""
        ...


@dataclass(slots=True)
class _State:
    begun_ms: int = 0
    done: int = 0
    opened: dict[int, str] = field(default_factory=dict)
    urgent: int = 0
    over: bool = False


class Director:
    """One scenario under way.

    Args:
        scenario: what to play.
        forge: where its repositories are.
        box: its faults.
        speed: how much faster than written.
        sleep: waits; injected for tests.
    """

    def __init__(
        self,
        scenario: Scenario,
        forge: ScenarioForge,
        box: FaultBox,
        *,
        speed: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.scenario = scenario
        self.box = box
        self._forge = forge
        self._speed = speed
        self._sleep = sleep
        self._plan = timetable(scenario)
        self._state = _State()
        self._events: deque[str] = deque(maxlen=EVENTS_KEPT_MAX)
        self.counts: Counter[str] = Counter()

    async def run(self, parts: HiveParts) -> None:
        """Play it once, to its end; the faults that are on then run out."""
        self._state.begun_ms = parts.clock.now_ms()
        for happening in self._plan:
            wait_s = happening.at_s / self._speed - self._elapsed_s(parts)
            if wait_s > 0:
                await self._sleep(wait_s)
            try:
                await self._carry_out(parts, happening)
            except BzzzError as error:
                self.counts["happenings_failed"] += 1
                self._tell(f"{type(happening).__name__} failed: {error}", warning=True)
            self._state.done += 1
        self._state.over = True

    async def open_urgent(self, parts: HiveParts, project: str = "") -> str:
        """Open an urgent task now; gives its ``owner/name#number``.

        Raises:
            UsageError: there is no such project in the scenario.
        """
        names = [one.name for one in self.scenario.projects]
        if project and project not in names:
            raise UsageError(f"the scenario has no project {project!r}; it has {', '.join(names)}")
        self._state.urgent += 1
        index = URGENT_INDEX + self._state.urgent
        task = TaskArrives(
            at_s=self._elapsed_s(parts),
            index=index,
            project=project or names[self._state.urgent % len(names)],
            kind=TaskType.BUG,
            title=f"Urgent: orders are lost, report {self._state.urgent}",
            urgent=True,
            priority=URGENT_PRIORITY,
        )
        return await self._open(parts, task)

    def status(self, parts: HiveParts) -> Mapping[str, Any]:
        """Where the scenario stands."""
        return {
            "name": self.scenario.name,
            "about": self.scenario.about,
            "elapsed_s": round(self._elapsed_s(parts), 1),
            "duration_s": self.scenario.duration_s / self._speed,
            "happenings": len(self._plan),
            "done": self._state.done,
            "over": self._state.over,
            "faults": [f"{fault.kind} {fault.target}" for fault in self.box.on()],
            "events": list(self._events),
            "counters": {**self.counts, **self.box.counts},
        }

    def _elapsed_s(self, parts: HiveParts) -> float:
        return (parts.clock.now_ms() - self._state.begun_ms) / 1000 if self._state.begun_ms else 0.0

    async def _carry_out(self, parts: HiveParts, happening: Happening) -> None:
        if isinstance(happening, ProjectArrives):
            await self._arrive(parts, happening)
        elif isinstance(happening, ProjectLeaves | ProjectReturns):
            await self._enable(parts, happening.name, enabled=isinstance(happening, ProjectReturns))
        elif isinstance(happening, TaskArrives):
            await self._open(parts, happening)
        elif isinstance(happening, FaultBegins):
            self.box.begin(replace(happening.fault, for_s=happening.fault.for_s / self._speed))
            self._tell(f"fault {happening.fault.kind} of the {happening.fault.target} begins")
            self.counts["faults_begun"] += 1

    async def _arrive(self, parts: HiveParts, happening: ProjectArrives) -> None:
        name = happening.project.name
        if await run_in_threadpool(parts.store.named, name) is not None:
            await self._enable(parts, name, enabled=True)
            return
        files = dict(files_of(happening.project))
        await run_in_threadpool(lambda: self._forge.create_repository(OWNER, name, files=files))
        fields = {"name": name, "github_repo": f"{OWNER}/{name}", "description": happening.project.about or None}
        draft = draft_from(fields, parts.settings.forge_base_url)
        project = await run_in_threadpool(parts.store.add, draft)
        await parts.welcome(project)
        parts.announce(project)
        self.counts["projects"] += 1
        self._tell(f"project {name} is there")

    async def _enable(self, parts: HiveParts, name: str, *, enabled: bool) -> None:
        known = await run_in_threadpool(parts.store.named, name)
        if known is None:
            return
        project = await run_in_threadpool(parts.store.change, known.id, {"bzzz_enabled": enabled})
        if project is not None:
            parts.announce(project)
        self._tell(f"project {name} is {'back' if enabled else 'withdrawn'}")

    async def _open(self, parts: HiveParts, task: TaskArrives) -> str:
        waits_for = self._state.opened.get(task.after, "") if task.after is not None else ""
        labels = labels_of(task, parts.settings.task_label)
        body = body_of(task, waits_for)
        made = await run_in_threadpool(
            lambda: self._forge.create_issue(OWNER, task.project, task.title, body, labels=labels)
        )
        key = f"{OWNER}/{task.project}#{made['number']}"
        self._state.opened[task.index] = key
        self.counts["tasks"] += 1
        self._tell(f"task {key}: {task.title}" + (f" (after {waits_for})" if waits_for else ""))
        return key

    def _tell(self, text: str, *, warning: bool = False) -> None:
        self._events.append(text)
        _LOG.log(logging.WARNING if warning else logging.INFO, "%s", text)

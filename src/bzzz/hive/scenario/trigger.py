"""Calls played against a running Hive, and what its nodes made of them.

Claims are taken as clients without git take them, and a rival asks for each: one of the two must be refused and
told who has it. Updates report progress and then failure, which gives each claim back. Urgent tasks are opened
where a scenario is played. Then the tasks are watched for a while: who took which, how soon, and what became of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bzzz.errors import ServiceConflict, ServiceError, ServiceMissing
from bzzz.hive.link import HiveLink
from bzzz.ports import Clock

AGENT = "scenario"
POLL_S = 1.0
REASON = "given back by bzzz scenario trigger"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to play. ``wait_s`` is how long nodes are watched; ``fault`` is one of a scenario's, or empty."""

    claims: int = 2
    updates: int = 2
    urgent: int = 1
    wait_s: float = 30.0
    fault: str = ""
    fault_s: float = 10.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Played:
    """One thing that was played. ``fine`` says whether Hive answered as it must."""

    what: str
    task: str
    answer: str
    fine: bool = True


@dataclass(slots=True)
class Watched:
    """One task, as it was seen while it was watched; seconds are since watching began."""

    task: str
    state: str = "open"
    holder: str = ""
    taken_s: float | None = None
    delivered_s: float | None = None
    pull_request: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was played and seen."""

    played: Sequence[Played]
    watched: Sequence[Watched]
    projects: int = 0
    notes: Sequence[str] = ()

    @property
    def fine(self) -> bool:
        """Whether Hive answered everything as it must."""
        return all(one.fine for one in self.played)

    def to_object(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "fine": self.fine,
            "projects": self.projects,
            "played": [asdict(one) for one in self.played],
            "watched": [asdict(one) for one in self.watched],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Task:
    project_id: int
    number: int
    key: str
    claim: Mapping[str, Any] | None

    @property
    def free(self) -> bool:
        return self.claim is None or self.claim.get("state") == "released"


@dataclass(slots=True)
class Trigger:
    """Plays one wish.

    Args:
        link: the Hive.
        clock: for the seconds that are told.
        sleep: waits between two looks; injected for tests.
    """

    link: HiveLink
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _played: list[Played] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    async def play(self, wish: Wish) -> Outcome:
        """Play everything, then watch.

        Raises:
            ServiceError: Hive does not answer, or not as a Hive.
        """
        tasks = await self._tasks()
        chance = random.Random(wish.seed)  # noqa: S311 - which tasks, not a secret
        free = [task for task in tasks.values() if task.free]
        chosen = chance.sample(free, min(wish.claims, len(free)))
        if len(chosen) < wish.claims:
            self._notes.append(f"only {len(chosen)} of {wish.claims} claims: no more tasks are free")
        for place, task in enumerate(chosen):
            await self._claim(task, f"{AGENT}-{place + 1}")
        for place, task in enumerate(chosen[: wish.updates]):
            await self._update(task, f"{AGENT}-{place + 1}")
        if wish.fault:
            await self._scenario("fault", {"kind": wish.fault, "for_s": wish.fault_s}, f"fault {wish.fault}")
        for _ in range(wish.urgent):
            await self._scenario("urgent", {}, "urgent task")
        keys = {task.key for task in chosen} | {one.task for one in self._played if one.what == "urgent task"}
        watched = await self._watch(sorted(keys - {""}), wish.wait_s)
        projects = len({task.project_id for task in tasks.values()})
        return Outcome(self._played, watched, projects, self._notes)

    async def _tasks(self) -> dict[str, _Task]:
        answer = await self.link.ask("GET", "/api/bzzz/active-repos")
        found: dict[str, _Task] = {}
        for repository in answer["repositories"]:
            project_id = int(repository["project_id"])
            try:
                tasks = await self.link.ask("GET", f"/api/bzzz/projects/{project_id}/tasks")
            except ServiceError as error:
                self._note(f"tasks of {repository['name']}: {error}")
                continue
            for task in tasks:
                key = f"{task['key']}#{task['number']}"
                found[key] = _Task(project_id, int(task["number"]), key, task.get("claim"))
        return found

    async def _claim(self, task: _Task, agent: str) -> None:
        path = f"/api/bzzz/projects/{task.project_id}/claim"
        wanted = {"task_number": task.number, "agent_id": agent}
        try:
            answer = await self.link.ask("POST", path, wanted)
            self._played.append(Played("claim", task.key, f"taken, epoch {answer.get('epoch')}"))
        except ServiceConflict as error:
            # A node was quicker: that is no fault of Hive's.
            self._played.append(Played("claim", task.key, error.detail))
            return
        except ServiceError as error:
            self._played.append(Played("claim", task.key, str(error), fine=False))
            return
        try:
            await self.link.ask("POST", path, {**wanted, "agent_id": f"{agent}-rival"})
            self._played.append(Played("rival's claim", task.key, "taken as well", fine=False))
        except ServiceConflict as error:
            self._played.append(Played("rival's claim", task.key, error.detail))
        except ServiceError as error:
            self._played.append(Played("rival's claim", task.key, str(error), fine=False))

    async def _update(self, task: _Task, agent: str) -> None:
        path = f"/api/bzzz/projects/{task.project_id}/status"
        for status in ("in_progress", "failed"):
            body = {
                "task_number": task.number,
                "status": status,
                "agent_id": agent,
                "metadata": {"reason": REASON, "at": self.clock.wall_s()},
            }
            try:
                answer = await self.link.ask("PUT", path, body)
                told = f"stored; the claim is {answer.get('claim') or 'not its'}"
                self._played.append(Played(status, task.key, told))
            except ServiceError as error:
                self._played.append(Played(status, task.key, str(error), fine=False))

    async def _scenario(self, call: str, body: Mapping[str, Any], what: str) -> None:
        try:
            answer = await self.link.ask("POST", f"/api/bzzz/scenario/{call}", body)
            self._played.append(Played(what, str(answer.get("task", "")), "done"))
        except ServiceMissing:
            self._note(f"no {what}: this Hive plays no scenario")
        except ServiceError as error:
            self._played.append(Played(what, "", str(error), fine=False))

    async def _watch(self, keys: Sequence[str], wait_s: float) -> Sequence[Watched]:
        watched = {key: Watched(key) for key in keys}
        begun_ms = self.clock.now_ms()
        while True:
            elapsed_s = (self.clock.now_ms() - begun_ms) / 1000
            try:
                tasks = await self._tasks()
            except ServiceError as error:
                self._note(str(error))
                tasks = {}
            for key, one in watched.items():
                if key in tasks:
                    _see(one, tasks[key].claim, elapsed_s)
            if elapsed_s >= wait_s or all(one.delivered_s is not None for one in watched.values()):
                break
            await self.sleep(min(POLL_S, wait_s - elapsed_s))
        await self._pulls(watched)
        return list(watched.values())

    async def _pulls(self, watched: Mapping[str, Watched]) -> None:
        try:
            answer = await self.link.ask("GET", "/api/bzzz/captures?kind=create-pr&limit=500")
        except ServiceError as error:
            self._note(str(error))
            return
        for item in answer.get("captures", ()):
            key = f"{item.get('repository')}#{item.get('task_number')}"
            if key in watched and isinstance(item.get("body"), dict):
                watched[key].pull_request = watched[key].pull_request or str(item["body"].get("pr_url") or "")

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)


def _see(one: Watched, claim: Mapping[str, Any] | None, elapsed_s: float) -> None:
    if claim is None:
        return
    one.state, one.holder = str(claim.get("state")), str(claim.get("claimed_by"))
    by_node = not one.holder.startswith(AGENT)
    if by_node and one.state in {"held", "delivered"} and one.taken_s is None:
        one.taken_s = round(elapsed_s, 1)
    if by_node and one.state == "delivered" and one.delivered_s is None:
        one.delivered_s = round(elapsed_s, 1)

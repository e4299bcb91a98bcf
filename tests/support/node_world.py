"""Whole nodes over adapters in memory: one mesh, one git server, one forge, one Hive, and real journals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.memory_forge import MemoryForge

from bzzz.agents.memory import MemoryAgentRunner, Script
from bzzz.core.profile import Policy, Profile
from bzzz.core.task import Issue, Repository, Task, TaskId
from bzzz.hive.memory import MemoryHive
from bzzz.journal.store import SqliteJournal
from bzzz.ledger.memory import MemoryLedger, MemoryStore
from bzzz.mesh.identity import identity_from_secret
from bzzz.mesh.memory import MemoryNetwork, MemoryTransport
from bzzz.ports import AttemptFinished, AttemptSpec, Outcome, Work
from bzzz.runtime.clock import SystemClock
from bzzz.runtime.event_log import EventLog, LoggedEvent
from bzzz.runtime.node import Node
from bzzz.runtime.shells import AgentChoice, Shells

ANSWER_S_MAX = 20.0
COMMIT = "c" * 40
# As in production, but for pauses: these tests wait for what happens, not for the clock.
QUICK = Policy(
    turn_step_ms=20,
    retry_ms=10,
    watch_interval_min_ms=30,
    watch_interval_max_ms=200,
    repositories_interval_ms=200,
    attempt_backoff_ms=20,
    hello_spacing_ms=10,
    settle_ms=20,
    settle_max_ms=60,
    elect_delay_ms=5,
    check_spacing_ms=20,
)


def make_repository(key: str = "acme/shop", project_id: int = 1) -> Repository:
    """A repository of the memory forge."""
    owner, _, name = key.partition("/")
    return Repository(
        project_id, name, owner, name, f"https://forge.example/{key}.git", "https://forge.example/api/v3"
    )


def admit_all(repository: Repository, issue: Issue) -> Task | str:
    """Every issue with its title is a task, but for those titled ``no task``."""
    if issue.title == "no task":
        return "it is not for agents"
    return Task(TaskId(repository.key, issue.number), issue.title, url=issue.url, updated_at=issue.updated_at)


def proved(spec: AttemptSpec) -> Script:
    """An attempt that does the work."""
    work = Work(Path("/nowhere"), COMMIT, "b" * 40, spec.branch)
    return Script(AttemptFinished("", Outcome.PROVED, "done", work), progress=[("agent", "typing")])


def gated(gate: asyncio.Event) -> Callable[[AttemptSpec], Script]:
    """An attempt that does the work once ``gate`` is open, and has none before."""

    def script(spec: AttemptSpec) -> Script:
        made = proved(spec)
        made.gate = gate
        made.stopped = AttemptFinished("", Outcome.STOPPED, "told to stop")
        return made

    return script


@dataclass
class Running:
    """A node that runs, and how to end it."""

    node: Node
    transport: MemoryTransport
    runner: MemoryAgentRunner
    ledger: MemoryLedger
    journal: SqliteJournal
    shells: Shells
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def until(self, wanted: Callable[[LoggedEvent], bool]) -> LoggedEvent:
        """The first event, told or to come, that is wanted."""
        told: list[LoggedEvent] = []
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                async for event in self.node.events.follow():
                    told.append(event)
                    if wanted(event):
                        return event
        except TimeoutError:
            pass
        raise AssertionError(f"it was not told; what was told: {told}")

    async def report(self, kind: str, task: str = "acme/shop#1") -> LoggedEvent:
        """The report of this kind about a task."""
        return await self.until(lambda e: e["kind"] == "report" and e["report"] == kind and e["task"] == task)

    def told(self, kind: str) -> list[LoggedEvent]:
        """The events of a kind so far."""
        return [event for event in self.node.events.history() if event["kind"] == kind]

    async def end(self) -> None:
        """Stop in order and wait for it."""
        self.stop.set()
        if self.task is not None:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self.task


class World:
    """What the nodes of one test share."""

    def __init__(self, folder: Path, *keys: str) -> None:
        self.folder = folder
        self.network = MemoryNetwork(discovery=True)
        self.store = MemoryStore()
        self.forge = MemoryForge()
        self.repositories = [make_repository(key, place) for place, key in enumerate(keys or ("acme/shop",), 1)]
        for repository in self.repositories:
            self.store.add(repository.key)
        self.hive = MemoryHive(self.repositories)
        self.escalations: list[Mapping[str, Any]] = []

    def transport(self, name: str) -> MemoryTransport:
        """A transport with an identity made from a name."""
        return MemoryTransport(self.network, identity_from_secret(name.encode().ljust(32, b"\0")))

    def node(
        self,
        name: str = "walnut",
        script_for: Callable[[AttemptSpec], Script] = proved,
        *,
        policy: Policy = QUICK,
        max_tasks: int = 1,
        with_hive: bool = True,
    ) -> Running:
        """A node that is not running yet, so that a test can still change its adapters."""
        transport = self.transport(name)
        runner = MemoryAgentRunner(script_for)
        ledger = MemoryLedger(self.store)
        journal = SqliteJournal(self.folder / name / "journal.db")
        clock = SystemClock()

        async def escalate(escalation: Mapping[str, Any]) -> None:
            self.escalations.append(escalation)

        shells = Shells(
            transport=transport,
            ledger=ledger,
            forge=self.forge,
            hive=self.hive if with_hive else None,
            runner=runner,
            journal=journal,
            clock=clock,
            agent=AgentChoice(name, {"kind": "patch"}),
            admit=admit_all,
            may_ask=lambda comment: comment.association == "OWNER",
            escalate=escalate,
        )
        profile = Profile(
            transport.peer_id,
            name,
            journal.next_incarnation(int(clock.wall_s())),
            f"seed of {name}",
            max_tasks=max_tasks,
        )
        node = Node(profile, policy, shells, EventLog(clock.wall_s))
        return Running(node, transport, runner, ledger, journal, shells)

    @contextlib.asynccontextmanager
    async def running(self, *nodes: Running) -> AsyncIterator[None]:
        """Run these nodes; they are stopped in order at the end."""
        for running in nodes:
            running.task = asyncio.create_task(running.node.run(running.stop))
        try:
            yield
        finally:
            for running in nodes:
                await running.end()

"""What one delivered task costs the forge and the mesh, in fleets of 3 to 1,000 nodes of the simulator.

Ledger, forge and network are the simulator's; the cores are the product's own. The mesh is formed before
anything is counted (every node knows every other one, as some time after a start), then issues open one after
another, and everything is counted until all of them are delivered. Counted are writes to the git server (claims
tried and deliveries), writes to the forge (pull requests; labels and comments, by handing the cores' reports to
the product's own outbox over a forge that counts), and messages published for tasks. Heartbeats belong to no
task: they are counted by the minute. Every message reaches every node, so what is received a minute grows with
the square of the fleet; that is stated as well. The larger fleets get fewer tasks, so that the whole stays
within two minutes.

Then the worst start: all nodes of a fleet begin within two seconds, with issues waiting. Their greetings are
what costs most in a large fleet, so this is not done with 1,000 nodes: it would take a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bzzz.core import effect as fx
from bzzz.core.event import RepositoryChanged
from bzzz.core.message import Availability, Capability, Message
from bzzz.core.task import TaskId
from bzzz.journal.store import SqliteJournal
from bzzz.ledger.memory import MemoryLedger, MemoryStore
from bzzz.runtime.clock import SystemClock
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.outbox import Outbox
from bzzz.runtime.shells import AgentChoice, Shells
from bzzz.simulation.forge import REPOSITORY
from bzzz.simulation.shell import Shell
from bzzz.simulation.world import Scale, World

SEED = 1
TASKS_BY_NODES = {3: 40, 10: 40, 100: 30, 1_000: 10}
STORM_NODES = (3, 10, 100)
STORM_TASKS = 20
START_MS = 12_000
"""By now a node that has just started tries for tasks, however many others came meanwhile."""
SPACING_MS = 2_000
UNTIL_MS_MAX = 3_600_000


class Fleet:
    """One world of nodes that have met, and what is counted of it."""

    def __init__(self, nodes: int, tasks: int) -> None:
        self.world = World(SEED, Scale(nodes, tasks))
        self.messages: Counter[str] = Counter()
        self.reports: list[fx.Report] = []
        self.effects: Counter[type] = Counter()
        self.receipts = 0
        self.working_ms = 0
        self._publish, self.world.network.publish = self.world.network.publish, self._count_message  # type: ignore[method-assign]

    def run(self) -> None:
        """Form the mesh, open the issues, and count until all of them are delivered.

        Raises:
            RuntimeError: something was not delivered, or an invariant did not hold.
        """
        world = self.world
        tasks = list(world.forge.tasks)
        world.forge.hidden.update(tasks)
        self._form()
        world._play(START_MS - 1)
        self.effects.clear()
        self.reports.clear()
        for place, task in enumerate(tasks):
            world.at(START_MS + place * SPACING_MS, self._open, task)
        world._play(START_MS + UNTIL_MS_MAX, self._ended)
        self.working_ms = world.now_ms - START_MS
        self.receipts = world.network.delivered
        world.checkers.at_end()
        if world.violations or len(world.forge.pulls_opened) != len(tasks):
            raise RuntimeError(f"{len(world.shells)} nodes: {world.violations or 'not everything was delivered'}")

    def _ended(self) -> bool:
        return not self.world.forge.hidden and self.world.checkers.all_ended()

    def _form(self) -> None:
        """Start every node, and let each know every other one without a message."""
        shells, network = self.world.shells, self.world.network
        for row in network._connected:
            row[:] = [True] * len(row)
        for shell in shells:
            shell._handlers[fx.Report] = self.reports.append
            for kind in (fx.ListTasks, fx.SwapClaim, fx.DeliverWork):
                shell._handlers[kind] = self._counted(shell._handlers[kind])
            shell.start()
        for shell in shells:
            for other in shells:
                if other is not shell:
                    _introduce(shell, other)
        for shell in shells:
            assert shell.core is not None
            shell.core.watch.elect()

    def _open(self, task: TaskId) -> None:
        """Open an issue; a webhook tells whoever watches."""
        self.world.forge.hidden.discard(task)
        for shell in self.world.shells:
            shell.receive(RepositoryChanged(REPOSITORY.key))

    def _count_message(self, sender: Shell, message: Message) -> None:
        if self.world.now_ms >= START_MS - 1:
            self.messages[type(message).__name__] += 1
            self._publish(sender, message)

    def _counted(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def act(effect: Any) -> None:
            self.effects[type(effect)] += 1
            handler(effect)

        return act

    def of_tasks(self) -> int:
        """Messages that are about tasks."""
        return sum(count for kind, count in self.messages.items() if kind not in ("Availability", "Capability"))


def _introduce(shell: Shell, other: Shell) -> None:
    assert shell.core is not None
    assert other.core is not None
    members, now_ms, met = shell.core.context.membership, shell.clock_ms(), other.core.context.profile
    members.connected(other.peer, other.addresses, now_ms)
    said = (met.capabilities, met.models, met.specialization, met.version)
    members.capability(other.peer, Capability(met.agent, met.incarnation, *said), now_ms)
    members.availability(other.peer, Availability(met.agent, met.incarnation, 0, met.max_tasks), now_ms)


class CountingForge:
    """The forge of an outbox whose writes are only counted."""

    def __init__(self) -> None:
        self.writes = 0

    async def add_labels(self, *_: object) -> None:
        self.writes += 1

    async def remove_label(self, *_: object) -> None:
        self.writes += 1

    async def comment(self, *_: object, key: str) -> None:
        del key
        self.writes += 1


async def _label_writes(reports: list[fx.Report]) -> int:
    """What the outbox writes to the forge for these reports, from a journal that is real."""
    forge, store = CountingForge(), MemoryStore()
    store.add(REPOSITORY.key)
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.db")
        shells = SimpleNamespace(
            journal=journal,
            forge=forge,
            ledger=MemoryLedger(store),
            hive=None,
            escalate=None,
            clock=SystemClock(),
            agent=AgentChoice("simulated"),
        )
        outbox = Outbox(cast("Shells", shells), lambda _: REPOSITORY, EventLog(time.time))
        for report in reports:
            journal.enqueue(report.task, report.epoch, report.kind, report.data)
        waiting = len(reports) + 1
        while waiting > (waiting := journal.outbox_length()) > 0:
            await outbox.deliver_once()
        left = journal.outbox_length()
        journal.close()
    if left:
        raise RuntimeError(f"a forge that only counts refused {left} reports")
    return forge.writes


def run() -> list[dict[str, Any]]:
    """All results; the largest fleet takes nearly all of the time."""
    results: list[dict[str, Any]] = []
    for nodes, tasks in TASKS_BY_NODES.items():
        began_s = time.monotonic()
        fleet = Fleet(nodes, tasks)
        fleet.run()
        results += _results(fleet, nodes, tasks, time.monotonic() - began_s)
    for nodes in STORM_NODES:
        results += _storm(nodes)
    return results


def _results(fleet: Fleet, nodes: int, tasks: int, elapsed_s: float) -> list[dict[str, Any]]:
    world = fleet.world
    minutes = fleet.working_ms / 60_000
    heartbeats = sum(fleet.messages.values()) - fleet.of_tasks()
    claims, deliveries = fleet.effects[fx.SwapClaim], fleet.effects[fx.DeliverWork]
    labels = asyncio.run(_label_writes(fleet.reports))
    pulls = len(world.forge.pulls_opened)
    figures = {
        "claim writes": (claims / tasks, "writes/task"),
        "deliveries": (deliveries / tasks, "writes/task"),
        "pull requests": (pulls / tasks, "writes/task"),
        "labels and comments": (labels / tasks, "writes/task"),
        "forge writes": ((claims + deliveries + pulls + labels) / tasks, "writes/task"),
        "task messages": (fleet.of_tasks() / tasks, "messages/task"),
        "issue listings": (fleet.effects[fx.ListTasks] / tasks, "requests/task"),
        "heartbeats": (heartbeats / minutes, "messages/min"),
        "received by one node": (fleet.receipts / minutes / nodes, "messages/min"),
        "simulated in": (elapsed_s, "s"),
    }
    return _rows(f"{nodes} nodes", figures, nodes, tasks)


def _storm(nodes: int) -> list[dict[str, Any]]:
    began_s = time.monotonic()
    result = World(SEED, Scale(nodes, STORM_TASKS)).run()
    if result.violations or result.undelivered:
        raise RuntimeError(
            f"{nodes} nodes that start together: {result.violations or 'something was not delivered'}"
        )
    figures = {
        "claim writes": (result.claim_writes / STORM_TASKS, "writes/task"),
        "published by one node": (result.messages / nodes, "messages"),
        "received by one node": (result.receipts / nodes, "messages"),
        "simulated in": (time.monotonic() - began_s, "s"),
    }
    return _rows(f"{nodes} nodes start at once", figures, nodes, STORM_TASKS)


def _rows(title: str, figures: dict[str, tuple[float, str]], nodes: int, tasks: int) -> list[dict[str, Any]]:
    return [
        {"name": f"{title}: {name}", "value": round(value, 3), "unit": unit, "nodes": nodes, "tasks": tasks}
        for name, (value, unit) in figures.items()
    ]

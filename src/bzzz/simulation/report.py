"""What many worlds showed: sums for a program, lines for a person, and the story of a violation."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bzzz.simulation.fault import FaultKind
from bzzz.simulation.flaw import Flaw
from bzzz.simulation.world import Scale, Violation, World, WorldResult

WIDTH = 80
WORLDS_AT_ONCE = 4
"""How many worlds a process is given at a time; few, so that all end at about the same moment."""
STORY_LINES = 60
STORY_CHARS = 240


@dataclass(slots=True)
class Summary:
    """Sums over worlds.

    ``undelivered`` counts tasks without a delivery. Under faults some end so as they should: by three strikes
    (``escalated``), or closed by a person or declined by every node (``other_ends``); a task that never ends
    at all is a violation.
    """

    scale: Scale
    faults: tuple[str, ...]
    seeds: int = 0
    tasks: int = 0
    delivered: int = 0
    escalated: int = 0
    other_ends: int = 0
    undelivered: int = 0
    double_deliveries: int = 0
    claims: int = 0
    claim_writes: int = 0
    contended: int = 0
    messages: int = 0
    receipts: int = 0
    reclaimed: int = 0
    steps: int = 0
    virtual_ms: int = 0
    elapsed_s: float = 0.0
    first_seed: int | None = None
    violations: list[Violation] = field(default_factory=list)

    def add(self, result: WorldResult, elapsed_s: float) -> None:
        """Take in one world."""
        if self.first_seed is None:
            self.first_seed = result.seed
        self.seeds += 1
        self.tasks += result.tasks
        self.delivered += result.delivered
        self.escalated += result.escalated
        self.other_ends += result.other_ends
        self.undelivered += result.undelivered
        self.double_deliveries += result.double_deliveries
        self.claims += result.claims
        self.claim_writes += result.claim_writes
        self.contended += result.contended
        self.messages += result.messages
        self.receipts += result.receipts
        self.reclaimed += result.reclaimed
        self.steps += result.steps
        self.virtual_ms += result.virtual_ms
        self.violations += result.violations
        self.elapsed_s += elapsed_s

    def to_object(self) -> dict[str, Any]:
        """The JSON object of ``bzzz simulate --json``."""
        return {
            "seeds": self.seeds,
            "first_seed": self.first_seed,
            "nodes": self.scale.nodes,
            "tasks": self.scale.tasks,
            "faults": list(self.faults),
            "delivered": self.delivered,
            "double_deliveries": self.double_deliveries,
            "undelivered": self.undelivered,
            "escalated": self.escalated,
            "other_ends": self.other_ends,
            "claims": self.claims,
            "claim_writes": self.claim_writes,
            "claim_writes_per_task": _ratio(self.claim_writes, self.tasks),
            "claim_writes_per_claim": _ratio(self.claim_writes, self.claims),
            "writes_lost": self.contended,
            "messages_per_task": _ratio(self.messages, self.tasks),
            "receipts_per_task": _ratio(self.receipts, self.tasks),
            "reclaimed": self.reclaimed,
            "steps": self.steps,
            "virtual_hours": round(self.virtual_ms / 3_600_000, 2),
            "elapsed_s": round(self.elapsed_s, 3),
            "worlds_per_minute": round(60 * self.seeds / self.elapsed_s, 1) if self.elapsed_s else 0.0,
            "violations": [
                {
                    "seed": violation.seed,
                    "checker": violation.checker,
                    "task": str(violation.task) if violation.task is not None else None,
                    "at_ms": violation.at_ms,
                    "detail": violation.detail,
                }
                for violation in self.violations
            ],
        }

    def lines(self) -> Iterator[str]:
        """The result for a person, within 80 columns."""
        value = self.to_object()
        faults = ", ".join(self.faults) or "none"
        yield f"{self.seeds} worlds of {self.scale.nodes} nodes by {self.scale.tasks} tasks"
        yield from _wrapped("faults: ", faults)
        yield ""
        rows = (
            ("delivered", f"{self.delivered} of {self.tasks} tasks"),
            ("double deliveries", str(self.double_deliveries)),
            (
                "undelivered",
                f"{self.undelivered}: {self.escalated} escalated, {self.other_ends} closed or asked of people",
            ),
            ("claims", f"{self.claims}, of them {self.reclaimed} taken over from a holder"),
            ("claim writes", f"{value['claim_writes_per_task']} a task, {value['claim_writes_per_claim']} a claim"),
            ("messages", f"{value['messages_per_task']} sent, {value['receipts_per_task']} received a task"),
            ("speed", f"{value['worlds_per_minute']} worlds a minute, {value['virtual_hours']} h simulated"),
            ("violations", str(len(self.violations))),
        )
        for name, text in rows:
            yield f"  {name:<18}{text}"


def run_worlds(
    first_seed: int,
    seeds: int,
    scale: Scale,
    faults: Collection[FaultKind],
    flaw: Flaw | None = None,
    *,
    processes: int = 1,
) -> Iterator[tuple[WorldResult, float]]:
    """Play worlds of consecutive seeds; gives each result, in order, with the seconds that it took one process."""
    play = functools.partial(_play, scale=scale, faults=tuple(faults), flaw=flaw)
    numbers = range(first_seed, first_seed + seeds)
    if processes == 1:
        yield from map(play, numbers)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(play, numbers, chunksize=WORLDS_AT_ONCE)


def _play(seed: int, scale: Scale, faults: tuple[FaultKind, ...], flaw: Flaw | None) -> tuple[WorldResult, float]:
    began = time.perf_counter()
    result = World(seed, scale, faults=faults, flaw=flaw).run()
    return result, time.perf_counter() - began


def story(violation: Violation, scale: Scale, faults: Collection[FaultKind], flaw: Flaw | None = None) -> list[str]:
    """Play the world of a violation again with a trace, and give the last lines about its task."""
    world = World(violation.seed, scale, faults=faults, flaw=flaw, tracing=True)
    world.run()
    about = [line for line in world.lines if line[4] is None or line[4] == violation.task]
    return [
        f"{at_ms / 1000:10.3f} {who} {what} {detail}"[:STORY_CHARS]
        for at_ms, who, what, detail, _ in about[-STORY_LINES:]
    ]


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0.0


def _wrapped(head: str, text: str) -> Iterator[str]:
    line = head
    for word in text.split(" "):
        if len(line) + len(word) + 1 > WIDTH:
            yield line.rstrip()
            line = " " * len(head)
        line += word + " "
    yield line.rstrip()

"""A world: nodes, network, ledger and forge over virtual time, from one seed.

Time is whole milliseconds, and there is one queue of what will happen. All chance comes from one
``random.Random(seed)``, drawn in the order of the queue, so that the seed is the whole story. First the
faults have their time; then they stop, and every task must end.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.outcome import Outcome
from bzzz.core.profile import Policy
from bzzz.core.task import Repository, TaskId
from bzzz.simulation.checker import Checkers
from bzzz.simulation.fault import FaultKind, Faults
from bzzz.simulation.flaw import Flaw
from bzzz.simulation.forge import REPOSITORY, SimulatedForge
from bzzz.simulation.ledger import ClaimLedger
from bzzz.simulation.network import Network
from bzzz.simulation.shell import Shell

FAULTS_MS = 30 * 60_000
HEALING_MS_MAX = 8 * 3_600_000
SETTLING_MS = 240_000
CALM_SETTLING_MS = 15_000
TRACE_LINES_MAX = 400_000


@dataclass(slots=True)
class Trouble:
    """How badly forge, git server and Hive answer now; shares are of one."""

    errors: float = 0.0
    lost_answers: float = 0.0
    refusals: float = 0.0
    hive_away: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    seed: int
    checker: str
    task: TaskId | None
    at_ms: int
    detail: str


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a world is."""

    nodes: int = 5
    tasks: int = 20


@dataclass(slots=True)
class WorldResult:
    """What became of one world."""

    seed: int
    tasks: int
    delivered: int = 0
    escalated: int = 0
    other_ends: int = 0
    undelivered: int = 0
    double_deliveries: int = 0
    claims: int = 0
    claim_writes: int = 0
    messages: int = 0
    receipts: int = 0
    reclaimed: int = 0
    contended: int = 0
    steps: int = 0
    virtual_ms: int = 0
    digest: str = ""
    violations: list[Violation] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


class World:
    """One seeded world. ``run`` plays it to its end; after it, everything may be looked at."""

    def __init__(
        self,
        seed: int,
        scale: Scale = Scale(),
        *,
        faults: Collection[FaultKind] = (),
        flaw: Flaw | None = None,
        policy: Policy | None = None,
        tracing: bool = False,
    ) -> None:
        self.seed = seed
        self.scale = scale
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.policy = policy or (self._draw_policy() if faults else Policy())
        self.flaw = flaw
        self.tracing = tracing
        self.lines: list[tuple[int, str, str, str, TaskId | None]] = []
        self.lines_dropped = 0
        self.now_ms = 0
        self.trouble = Trouble()
        self.repositories: tuple[Repository, ...] = (REPOSITORY,)
        self.violations: list[Violation] = []
        self.healing = False
        self._queue: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._serial = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._mixed: list[str] = []
        self.forge = SimulatedForge(scale.tasks)
        self.ledger = ClaimLedger(flaw)
        self.checkers = Checkers(self)
        self.ledger.watched = self.checkers.written
        self.shells = [Shell(self, place) for place in range(scale.nodes)]
        self.by_peer = {shell.peer: shell for shell in self.shells}
        self.network = Network(self, scale.nodes)
        self.kinds = frozenset(faults)
        self._faults = Faults(self, [kind for kind in FaultKind if kind in self.kinds])

    # --- the queue --------------------------------------------------------------------------------------

    def at(self, at_ms: int, action: Callable[..., Any], *given: Any) -> None:
        """Let this happen at a time."""
        self._serial += 1
        heapq.heappush(self._queue, (at_ms, self._serial, action, given))

    def after(self, delay_ms: int, action: Callable[..., Any], *given: Any) -> None:
        """Let this happen after a while."""
        self._serial += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._serial, action, given))

    def _play(self, until_ms: int, done: Callable[[], bool] | None = None) -> None:
        queue, pop = self._queue, heapq.heappop
        look_ms = self.now_ms
        while queue and queue[0][0] <= until_ms:
            at_ms, _, action, given = pop(queue)
            self.now_ms = at_ms
            action(*given)
            if self.violations:
                return
            if done is not None and self.now_ms >= look_ms:
                if done():
                    return
                look_ms = self.now_ms + 5_000
        self.now_ms = max(self.now_ms, min(until_ms, queue[0][0] if queue else until_ms))

    # --- the story --------------------------------------------------------------------------------------

    def run(self) -> WorldResult:
        """Play the world to its end and say what became of it; it stops at the first violation."""
        for shell in self.shells:
            self.after(self.rng.randint(0, 2_000), shell.start)
        if self.kinds:
            self._open_slowly()
            self._faults.plan(FAULTS_MS)
            self._play(FAULTS_MS)
            self.healing = True
            self._faults.heal()
        healed_ms = self.now_ms
        if not self.violations:
            self._play(healed_ms + HEALING_MS_MAX, self.checkers.all_ended)
        if not self.violations and self.checkers.all_ended():
            self._play(self.now_ms + (SETTLING_MS if self.kinds else CALM_SETTLING_MS))
        if not self.violations:
            self.checkers.at_end()
        return self._result()

    def _draw_policy(self) -> Policy:
        """Faults meet short and long patience, with much taken over, and order and none, with much contended."""
        ttl_s = self.rng.choice((90, 180, 900))
        turn_step_ms, settle_ms = self.rng.choice(((300, 1_500), (0, 0)))
        return Policy(
            claim_ttl_s=ttl_s,
            renew_interval_ms=ttl_s * 1_000 // 3,
            turn_step_ms=turn_step_ms,
            settle_ms=settle_ms,
        )

    def _open_slowly(self) -> None:
        """Let most issues come while the faults last, so that these meet work."""
        for task in self.forge.tasks:
            if self.rng.random() < 0.8:
                self.forge.hidden.add(task)
                self.at(self.rng.randint(0, FAULTS_MS * 8 // 10), self.forge.hidden.discard, task)

    def draw_attempt(self) -> tuple[Outcome, int]:
        """How an attempt will end if it is let alone, and after how many milliseconds."""
        rng = self.rng
        duration_ms = rng.randint(5_000, 90_000)
        if not self.kinds:
            return Outcome.PROVED, duration_ms
        if rng.random() < 0.12:
            duration_ms = rng.randint(300_000, 1_500_000)
        luck = rng.random()
        if luck < 0.75:
            return Outcome.PROVED, duration_ms
        others = (
            Outcome.NO_CHANGE,
            Outcome.CHECK_FAILED,
            Outcome.NEEDS_HELP,
            Outcome.OUT_OF_BUDGET,
            Outcome.RATE_LIMITED,
            Outcome.CRASHED,
            Outcome.CHECK_FAILED,
        )
        return rng.choice(others), duration_ms

    # --- what is seen -----------------------------------------------------------------------------------

    def violate(self, checker: str, task: TaskId | None, detail: str) -> None:
        """An invariant does not hold: note it; the world ends here."""
        self.violations.append(Violation(self.seed, checker, task, self.now_ms, detail))
        if self.tracing:
            self.trace("checker", checker, detail, task)

    def mix(self, place: int, kind: type, effects: int) -> None:
        """Let one step be part of the digest."""
        self._mixed.append(f"{self.now_ms},{place},{kind.__name__},{effects}")
        if len(self._mixed) >= 4096:
            self._digest.update(";".join(self._mixed).encode())
            self._mixed.clear()

    def trace(self, who: str, what: str, detail: str, task: TaskId | None = None) -> None:
        """Keep a line for people."""
        if len(self.lines) >= TRACE_LINES_MAX:
            self.lines_dropped += 1
        else:
            self.lines.append((self.now_ms, who, what, detail, task))

    def _result(self) -> WorldResult:
        checkers = self.checkers
        self._digest.update(";".join(self._mixed).encode())
        self._mixed.clear()
        for task, chain in self.ledger.chains.items():
            self._digest.update(f"{task} {[seen.version for seen in chain]}".encode())
        result = WorldResult(self.seed, self.scale.tasks)
        checkers.count(result)
        result.messages = self.network.published
        result.receipts = self.network.delivered
        result.steps = sum(shell.steps for shell in self.shells)
        result.virtual_ms = self.now_ms
        result.digest = self._digest.hexdigest()
        result.violations = list(self.violations)
        for shell in self.shells:
            if shell.core is not None:
                for name, count in shell.core.context.counters.items():
                    result.counters[name] = result.counters.get(name, 0) + count
        return result

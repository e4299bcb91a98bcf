"""A million contended claims: the product's own cores race for the same tasks, and nothing may be delivered
twice.

Nodes that cannot hear each other are the worst case for the ledger: each believes itself first in the ranking
and tries for everything. So some cores share a ledger (the simulator's) and no mesh. What each sends is carried
out one at a time in an order drawn at random; answers are lost or come late, attempts fail so that a task is
raced for again with the next epoch, and cores are stopped for longer than a claim's ttl in the middle of a
claim or a delivery, so that another one takes over by silence and what the first one had sent comes too late.
Counted as contended are claims that were sent while another core sent one for the same task after the same
record. The writes are watched from outside the cores: branches a task, holders an epoch, attempts an epoch.
"""

from __future__ import annotations

import heapq
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.node import NodeCore
from bzzz.core.outcome import Outcome
from bzzz.core.profile import Policy, Profile
from bzzz.core.record import ClaimRecord, RecordState, Version
from bzzz.core.task import TaskId
from bzzz.simulation.flaw import Flaw
from bzzz.simulation.forge import REPOSITORY, SimulatedForge
from bzzz.simulation.ledger import ClaimLedger, Swapped, Write

CONTENDED = 1_000_000
CORES = 16
TASKS = 4
PROCESSES = 2
SEED = 1
POLICY = Policy(
    claim_ttl_s=20,
    renew_interval_ms=7_000,
    objection_wait_ms=2_000,
    objection_ask_ms=1_000,
    attempt_backoff_ms=1_000,
)
LOST_SHARE = 0.02
FAILED_SHARE = 0.3
PAUSED_SHARE = 0.01
PAUSE_MS = 60_000
ATTEMPT_MS_MAX = 5_000
UNTIL_MS_MAX = 3_600_000


@dataclass(slots=True)
class Tally:
    """What happened in some batches."""

    contended: int = 0
    claims: int = 0
    deliveries: int = 0
    double_deliveries: int = 0
    double_holders: int = 0
    double_attempts: int = 0
    fenced: int = 0
    reclaimed: int = 0

    def add(self, other: Tally) -> None:
        """Take in other batches."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Race:
    """One batch: a ledger, tasks, and cores that do not hear each other."""

    def __init__(self, seed: int, flaw: Flaw | None = None, paused_share: float = PAUSED_SHARE) -> None:
        self._paused_share = paused_share
        self.rng = random.Random(seed)
        self.now_ms = 0
        self.forge = SimulatedForge(TASKS)
        self.ledger = ClaimLedger(flaw)
        self.ledger.watched = self._written
        self.tally = Tally()
        self.cores = [self._core(place, seed) for place in range(CORES)]
        self._awake_ms = [0] * CORES
        self._answers: list[tuple[int, int, int, ev.Event | fx.DeliverWork]] = []
        self._serial = 0
        self._waiting: list[tuple[int, fx.Effect]] = []
        self._sent: Counter[tuple[TaskId, Version | None]] = Counter()
        self._branches: Counter[TaskId] = Counter()
        self._holders: dict[tuple[TaskId, int], str] = {}
        self._attempts: set[tuple[TaskId, int]] = set()
        self._handlers: dict[type, Callable[[int, Any], None]] = {
            fx.FindRepositories: self._find,
            fx.ListTasks: self._list,
            fx.ConfirmTask: self._confirm,
            fx.ReadClaim: self._read,
            fx.SwapClaim: self._swap,
            fx.DeliverWork: self._deliver,
            fx.StartAttempt: self._start,
            fx.StopAttempt: self._stop,
            fx.SaveWork: self._save,
            fx.OpenPull: self._pull,
        }

    def _core(self, place: int, seed: int) -> NodeCore:
        profile = Profile(f"peer-{place}", f"agent-{place}", 1, f"{seed}/{place}", ("general",), max_tasks=TASKS)
        return NodeCore(profile, POLICY)

    def run(self) -> Tally:
        """Play until every task ended, or one was delivered twice.

        Raises:
            RuntimeError: not within ``UNTIL_MS_MAX`` of virtual time.
        """
        for place in range(CORES):
            self._step(place, ev.Started((), ()))
        while self.now_ms < UNTIL_MS_MAX and not self.tally.double_deliveries:
            if self._waiting:
                place, effect = self._draw()
                self._handlers[type(effect)](place, effect)
            elif self._ended():
                break
            else:
                self._pass_time()
            self._take_answers()
        if self.now_ms >= UNTIL_MS_MAX:
            raise RuntimeError("a race did not end")
        self.tally.contended = sum(count for count in self._sent.values() if count > 1)
        self.tally.deliveries = sum(self._branches.values())
        return self.tally

    def _take_answers(self) -> None:
        while self._answers and self._answers[0][0] <= self.now_ms:
            _, _, place, due = heapq.heappop(self._answers)
            if self._awake_ms[place] > self.now_ms:
                self._later(place, due, self._awake_ms[place] - self.now_ms)
            elif isinstance(due, fx.DeliverWork):
                self._deliver_now(place, due)
            else:
                self._step(place, due)

    def _ended(self) -> bool:
        ends = (RecordState.DELIVERED, RecordState.ESCALATED)
        standing = (self.ledger.read(task) for task in self.forge.tasks)
        return all(seen is not None and seen.record.state in ends for seen in standing) and not any(
            core.context.active for core in self.cores
        )

    def _draw(self) -> tuple[int, fx.Effect]:
        waiting = self._waiting
        index = self.rng.randrange(len(waiting))
        waiting[index], waiting[-1] = waiting[-1], waiting[index]
        return waiting.pop()

    def _pass_time(self) -> None:
        due = [self._answers[0][0]] if self._answers else []
        wakes = []
        for place, core in enumerate(self.cores):
            deadline = core.next_deadline_ms()
            if deadline is not None:
                wakes.append((max(deadline, self._awake_ms[place]), place))
        at_ms = min([*due, *(at_ms for at_ms, _ in wakes)])
        self.now_ms = max(self.now_ms, at_ms)
        for at_ms, place in wakes:
            if at_ms <= self.now_ms:
                self._step(place, ev.Ticked())

    def _step(self, place: int, event: ev.Event) -> None:
        for effect in self.cores[place].step(self.now_ms, event):
            if type(effect) in self._handlers:
                self._waiting.append((place, effect))

    def _later(self, place: int, due: ev.Event | fx.DeliverWork, wait_ms: int = 0) -> None:
        self._serial += 1
        heapq.heappush(self._answers, (self.now_ms + wait_ms, self._serial, place, due))

    def _stops(self, place: int) -> bool:
        """Whether the process is stopped just now."""
        stops = self.rng.random() < self._paused_share
        if stops:
            self._awake_ms[place] = self.now_ms + PAUSE_MS
        return stops

    # --- what the cores ask for -------------------------------------------------------------------------

    def _find(self, place: int, _: fx.FindRepositories) -> None:
        self._later(place, ev.RepositoriesFound((REPOSITORY,)))

    def _list(self, place: int, effect: fx.ListTasks) -> None:
        self._later(place, ev.TasksListed(effect.repository, self.forge.open_tasks(), self.ledger.claims()))

    def _confirm(self, place: int, effect: fx.ConfirmTask) -> None:
        standing = self.ledger.read(effect.task) if effect.read_claim else None
        self._later(place, ev.TaskConfirmed(effect.task, True, "", effect.read_claim, standing))

    def _read(self, place: int, effect: fx.ReadClaim) -> None:
        self._later(place, ev.ClaimRead(effect.task, self.ledger.read(effect.task)))

    def _swap(self, place: int, effect: fx.SwapClaim) -> None:
        if effect.purpose == "claim":
            self.tally.claims += 1
            self._sent[effect.task, effect.expected] += 1
        self._ended_as(place, effect.record, self.ledger.swap(effect.expected, effect.record, f"peer-{place}"))
        self._stops(place)

    def _deliver(self, place: int, effect: fx.DeliverWork) -> None:
        if self._stops(place):
            self._later(place, effect, PAUSE_MS)
        else:
            self._deliver_now(place, effect)

    def _deliver_now(self, place: int, effect: fx.DeliverWork) -> None:
        swapped = self.ledger.deliver(effect.expected, effect.record, f"peer-{place}")
        self.tally.fenced += not swapped.won
        self._ended_as(place, effect.record, swapped)

    def _ended_as(self, place: int, record: ClaimRecord, swapped: Swapped) -> None:
        if self.rng.random() < LOST_SHARE:
            self._later(place, ev.SwapEnded(record.task, record.nonce, ev.SwapEnd.UNCERTAIN), 1_000)
        else:
            end = ev.SwapEnd.WON if swapped.won else ev.SwapEnd.LOST
            self._later(place, ev.SwapEnded(record.task, record.nonce, end, swapped.standing))

    def _start(self, place: int, effect: fx.StartAttempt) -> None:
        key = (effect.task.id, effect.record.epoch)
        self.tally.double_attempts += key in self._attempts
        self._attempts.add(key)
        proved = self.rng.random() >= FAILED_SHARE
        outcome = Outcome.PROVED if proved else Outcome.CHECK_FAILED
        commit = f"{key[0].number}-{key[1]}-{place}" if proved else None
        self._later(place, ev.AttemptEnded(*key, outcome, "", proved, commit), self.rng.randint(1, ATTEMPT_MS_MAX))

    def _stop(self, place: int, effect: fx.StopAttempt) -> None:
        """Its end is on its way already."""

    def _save(self, place: int, effect: fx.SaveWork) -> None:
        self._later(place, ev.WorkSaved(effect.task, effect.epoch, f"refs/bzzz/rescue/{effect.task.number}"))

    def _pull(self, place: int, effect: fx.OpenPull) -> None:
        self._later(place, ev.PullFound(effect.task.id, self.forge.open_pull(effect.task.id, "")))

    # --- what stands ------------------------------------------------------------------------------------

    def _written(self, write: Write) -> None:
        if write.branch is not None:
            self.tally.double_deliveries += bool(self._branches[write.task])
            self._branches[write.task] += 1
        record, before = write.sent, write.before
        if record.state is RecordState.HELD and write.after is not None:
            holder = self._holders.setdefault((write.task, record.epoch), record.holder.peer)
            self.tally.double_holders += holder != record.holder.peer
            if before is not None and before.record.state is RecordState.HELD:
                self.tally.reclaimed += before.record.holder.peer != record.holder.peer


def play(first_seed: int, contended: int) -> Tally:
    """Races until so many contended claims were made; each process takes every ``PROCESSES``-th seed."""
    total, seed = Tally(), first_seed
    while total.contended < contended:
        total.add(Race(seed).run())
        seed += PROCESSES
    return total


def run() -> list[dict[str, Any]]:
    """All results."""
    began_s = time.monotonic()
    total = Tally()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        share = CONTENDED // PROCESSES
        for tally in pool.map(play, range(SEED, SEED + PROCESSES), [share] * PROCESSES):
            total.add(tally)
    elapsed_s = time.monotonic() - began_s
    rows = [
        ("contended claims", total.contended, "claims"),
        ("claims sent", total.claims, "claims"),
        ("double deliveries", total.double_deliveries, "deliveries"),
        ("two holders of one epoch", total.double_holders, "claims"),
        ("two attempts of one epoch", total.double_attempts, "attempts"),
        ("deliveries", total.deliveries, "deliveries"),
        ("deliveries refused by the fence", total.fenced, "deliveries"),
        ("taken over after silence", total.reclaimed, "claims"),
        ("elapsed", round(elapsed_s, 3), "s"),
    ]
    shape = {"nodes": CORES, "processes": PROCESSES, "seed": SEED}
    return [{"name": f"contention: {name}", "value": value, "unit": unit, **shape} for name, value, unit in rows]

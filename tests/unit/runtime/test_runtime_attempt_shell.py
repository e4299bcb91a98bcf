"""Attempts begin, end and are recovered under the claim they belong to, whatever comes in between."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import COMMIT, Running, World, gated, make_repository, proved

from bzzz.agents.memory import MemoryAgentRunner, Script
from bzzz.core.effect import StartAttempt, StopAttempt
from bzzz.core.event import AgentProgressed, AgentStarted, AttemptEnded
from bzzz.core.outcome import Outcome
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, Task, TaskId
from bzzz.errors import ServiceFaulty, ServiceLimited
from bzzz.ports import AttemptFinished, AttemptSpec, Work
from bzzz.runtime import attempt_shell as module
from bzzz.runtime.attempt_shell import AttemptShell
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.ledger_shell import LedgerShell

TASK = Task(TaskId("acme/shop", 1), "Mend the gate")
RECORD = ClaimRecord(TASK.id, 3, Holder("p", "walnut"), RecordState.HELD, "abcdef0123456789")
START = StartAttempt(TASK, RECORD)
WORK = Work(Path("/nowhere"), COMMIT, "b" * 40, "bzzz/task-1-x")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.world.forge.add("acme/shop", make_issue(1, comments=1))
        self.gate = asyncio.Event()
        self.running: Running = self.world.node(script_for=gated(self.gate))
        self.runner: MemoryAgentRunner = self.running.runner
        self.known: dict[str, Repository] = {"acme/shop": self.world.repositories[0]}
        self.events = EventLog(lambda: 0.0)
        self.shell = self.restart(1)
        self.ledger = LedgerShell(
            self.running.shells, self.events, label="bzzz-task", find=self.known.get, works_of=self.shell.works_of
        )

    def restart(self, incarnation: int) -> AttemptShell:
        self.shell = AttemptShell(self.running.shells, self.events, incarnation, self.known.get)
        return self.shell

    async def next(self) -> object:
        return self.shell.translate(await self.runner.receive())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "READ_RETRIES_S", (0.01, 0.01))
    made = Bench(tmp_path)
    yield made
    made.running.journal.close()


async def test_an_attempt_starts_progresses_and_ends_with_its_work(bench: Bench) -> None:
    bench.gate.set()
    assert await bench.shell.start(START, bench.ledger) is None
    assert await bench.next() == AgentStarted(TASK.id, 3)
    assert await bench.next() == AgentProgressed(TASK.id, 3, "agent", "typing")
    ended = await bench.next()
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.commit) == (Outcome.PROVED, COMMIT)
    work = bench.shell.work_of(TASK.id, 3)
    assert work is not None
    assert work.commit == COMMIT
    await bench.shell.forget(TASK.id, 3)
    assert bench.shell.work_of(TASK.id, 3) is None
    assert bench.runner.forgotten == [bench.runner.started[0].attempt_id]


async def test_a_stop_ends_the_attempt(bench: Bench) -> None:
    await bench.shell.start(START, bench.ledger)
    await bench.next()
    await bench.next()
    await bench.shell.stop(StopAttempt(TASK.id, 3, "lost"))
    ended = await bench.next()
    assert isinstance(ended, AttemptEnded)
    assert ended.outcome is Outcome.STOPPED


async def test_a_stop_that_comes_before_the_agent_begins_is_obeyed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> tuple[()]:
        reading.set()
        await go_on.wait()
        return ()

    monkeypatch.setattr(bench.world.forge, "list_comments", slow)
    starting = asyncio.create_task(bench.shell.start(START, bench.ledger))
    await reading.wait()
    await bench.shell.stop(StopAttempt(TASK.id, 3, "lost"))
    go_on.set()
    ended = await starting
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.has_work) == (Outcome.STOPPED, False)
    assert bench.runner.started == []


async def test_a_stop_that_comes_while_the_worker_is_spawned_is_obeyed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawning, go_on = asyncio.Event(), asyncio.Event()
    start = bench.runner.start

    async def slow(spec: AttemptSpec) -> None:
        spawning.set()
        await go_on.wait()
        await start(spec)

    monkeypatch.setattr(bench.runner, "start", slow)
    starting = asyncio.create_task(bench.shell.start(START, bench.ledger))
    await spawning.wait()
    await bench.shell.stop(StopAttempt(TASK.id, 3, "lost"))
    go_on.set()
    assert await starting is None
    outcomes = [
        event.outcome for event in [await bench.next() for _ in range(3)] if isinstance(event, AttemptEnded)
    ]
    assert outcomes == [Outcome.STOPPED]


async def test_a_forge_that_goes_on_failing_costs_no_strike(bench: Bench) -> None:
    bench.world.forge.faults["list_comments"] = ServiceFaulty("forge", "comments", status=500)
    ended = await bench.shell.start(START, bench.ledger)
    assert isinstance(ended, AttemptEnded)
    assert not ended.outcome.costs_strike
    assert bench.world.forge.calls["list_comments"] == 3


async def test_a_forge_that_limits_is_not_asked_again(bench: Bench) -> None:
    bench.world.forge.faults["list_comments"] = ServiceLimited("forge", "comments", status=429, retry_after_s=7)
    ended = await bench.shell.start(START, bench.ledger)
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.retry_after_ms) == (Outcome.SERVICE_FAILED, 7_000)
    assert bench.world.forge.calls["list_comments"] == 1


async def test_an_agent_that_is_missing_is_told_as_such(bench: Bench) -> None:
    bench.runner._script_for = lambda _: Script(AttemptFinished("", Outcome.CRASHED, ""), fails_to_start="no agent")
    ended = await bench.shell.start(START, bench.ledger)
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.summary) == (Outcome.AGENT_MISSING, "no agent")


async def test_no_name_of_a_repository_makes_two_claims_one_folder(bench: Bench) -> None:
    keys = ["a.b/c", "a/b.c", "a-b/c", "a/b-c", "-x/.y", "a" * 39 + "/" + "b" * 100, "a" * 39 + "/" + "b" * 101]
    for key in keys:
        bench.known[key] = make_repository(key)
        bench.world.forge.add(key, make_issue(1))
        task = Task(TaskId(key, 1), "t")
        record = ClaimRecord(task.id, 3, Holder("p", "walnut"), RecordState.HELD, "abcdef0123456789")
        assert await bench.shell.start(StartAttempt(task, record), bench.ledger) is None
    ids = [spec.attempt_id for spec in bench.runner.started]
    assert len(set(ids)) == len(keys)
    assert all(
        len(name) <= 128 and name[0].isalnum() and name.replace("-", "").replace(".", "").isalnum() for name in ids
    )


@pytest.mark.parametrize(
    ("asked_s", "wait_ms"), [(2.0, 2_000), (math.inf, 86_400_000), (math.nan, None), (None, None)]
)
async def test_an_agents_wait_is_bounded(bench: Bench, asked_s: float | None, wait_ms: int | None) -> None:
    finish = AttemptFinished("", Outcome.RATE_LIMITED, "quota", retry_after_s=asked_s)
    bench.runner._script_for = lambda _: Script(finish)
    await bench.shell.start(START, bench.ledger)
    await bench.next()
    ended = await bench.next()
    assert isinstance(ended, AttemptEnded)
    assert ended.retry_after_ms == wait_ms


async def left_behind(bench: Bench, *works: Work | None) -> list[AttemptFinished]:
    """What starts 1, 2, ... left of one claim."""
    left = []
    for incarnation, work in enumerate(works, 1):
        shell = bench.restart(incarnation)
        bench.runner._script_for = proved
        await shell.start(START, bench.ledger)
        attempt_id = bench.runner.started[-1].attempt_id
        left.append(AttemptFinished(attempt_id, Outcome.CRASHED, "the node died", work))
    return left


async def test_a_restart_finds_the_work_of_its_claims(bench: Bench) -> None:
    bench.runner._left = await left_behind(bench, WORK)
    (recovered,) = await bench.restart(9).recover([(TASK, RECORD)])
    assert (recovered.outcome, recovered.has_work, recovered.commit) == (Outcome.CRASHED, True, COMMIT)
    assert bench.shell.work_of(TASK.id, 3) == WORK
    assert bench.runner.forgotten == []


async def test_every_attempt_of_a_claim_is_told_with_the_check_of_the_work(bench: Bench) -> None:
    first, second = await left_behind(bench, WORK, None)
    left = [replace(first, check={"status": 0}), second]
    bench.runner._left = list(left)
    told: list[tuple[TaskId, int, AttemptFinished]] = []
    await bench.restart(9).recover([(TASK, RECORD)], lambda *what: told.append(what))
    assert told == [(TASK.id, 3, one) for one in left]
    assert bench.shell.checks[TASK.id, 3] == {"status": 0}


async def test_an_attempt_without_work_does_not_hide_the_one_before_it(bench: Bench) -> None:
    bench.runner._left = await left_behind(bench, WORK, None)
    (recovered,) = await bench.restart(9).recover([(TASK, RECORD)])
    assert recovered.has_work
    assert bench.shell.work_of(TASK.id, 3) == WORK


async def test_what_no_claim_remembers_is_deleted_without_work_and_told_with_it(bench: Bench) -> None:
    bench.runner._left = [
        AttemptFinished("other.1", Outcome.CRASHED, ""),
        AttemptFinished("other.2", Outcome.CRASHED, "", WORK),
    ]
    assert await bench.restart(9).recover([]) == ()
    assert bench.runner.forgotten == ["other.1"]
    (told,) = [event for event in bench.events.history() if event["kind"] == "work_left"]
    assert "other.2" in told["text"]


async def test_work_of_an_attempt_that_nobody_knows_is_told(bench: Bench) -> None:
    assert bench.shell.translate(AttemptFinished("unknown", Outcome.STOPPED, "", WORK)) is None
    assert [event["kind"] for event in bench.events.history()] == ["work_left"]

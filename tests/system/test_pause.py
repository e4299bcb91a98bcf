"""Stopped is not dead: a holder that is paused for longer than any reclaim takes keeps its task and its work."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.chaos_stage import ChaosStage, chaos_stage

RECLAIM_S = 8.0
"""A dead holder's task is taken over 5 s after its host has refused a connection; this is longer."""


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path) as stage:
        yield stage


@dataclass(frozen=True)
class Holder:
    """A node with the one task that it can hold, its agent at work."""

    name: str
    number: int
    finished: Path
    pids: tuple[int, int, int]


async def holder(chaos: ChaosStage, name: str, tasks: dict[str, int]) -> Holder:
    """Start a node and have it take a task: those before it are full."""
    node = await chaos.start(name, max_tasks=1, tasks=tasks)
    number = await chaos.issue(shut=["agent"])
    agent = await chaos.at("agent", number)
    ((attempt, worker),) = chaos.workers(name).items()
    finished = node.folder / "data" / "attempts" / attempt / "finished.json"
    return Holder(name, number, finished, (node.process.pid, worker, agent))


async def pause_and_continue(chaos: ChaosStage, unheard_s: float, ttl_s: int) -> None:
    """Stop two holders until their peer suspects them, and much longer; one stops whole, of one the node alone."""
    tasks = {"claim_ttl_s": ttl_s}
    alone, whole = await holder(chaos, "walnut", tasks), await holder(chaos, "ironwood", tasks)
    await chaos.start("acacia", tasks=tasks)
    await chaos.stage.meshed()
    paused = [alone.pids[0], *whole.pids]
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        for each in (alone, whole):
            await chaos.event("acacia", "notice", text=f"{each.name} is suspected to be away")
        chaos.open_gate("agent", alone.number)
        await chaos.until(alone.finished.exists, "a worker is done while its node stands still")
        await chaos.never("acacia", "report", unheard_s, report="claimed")
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    chaos.open_gate("agent", whole.number)
    for each in (alone, whole):
        outcome = await chaos.delivered_once(each.number)
        assert {(record.epoch, record.holder.agent) for record in outcome.chain} == {(1, each.name)}
        assert chaos.passed("agent", each.number) == 1, "nothing was done twice"


@pytest.mark.timeout(90)
async def test_a_stopped_holder_is_suspected_and_not_robbed_while_its_host_answers(chaos: ChaosStage) -> None:
    """Field notes 3 and 6: the live worker's result counts, and nobody did it a second time."""
    await pause_and_continue(chaos, RECLAIM_S, 900)


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_holder_stopped_for_longer_than_its_claim_lives_is_not_robbed(chaos: ChaosStage) -> None:
    """Field note 3: heartbeats are missed, the claim is not renewed for its whole ttl; its host still answers."""
    await pause_and_continue(chaos, 120.0, 60)

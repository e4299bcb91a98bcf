"""A holder is killed at each step of its attempt: each task is delivered once all the same, and no work is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from tests.support.attempt_step import STEPS, UNSENT, Arrange, Held
from tests.support.chaos_stage import ChaosStage, chaos_stage
from tests.support.gated_program import content
from tests.support.process_table import wait_until

from bzzz.agents.process import identify


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path, "work", "slow") as stage:
        yield stage


async def hold_at(chaos: ChaosStage, steps: Sequence[Arrange]) -> list[Held]:
    """One task standing still at each of these steps, all held by the one node there is."""
    held = [await arrange(chaos) for arrange in steps]
    for task in held:
        await task.reached(chaos)
    return held


async def kill_and_start_again(chaos: ChaosStage, steps: Sequence[Arrange]) -> None:
    await chaos.start("walnut")
    held = await hold_at(chaos, steps)
    await chaos.kill("walnut")
    for task in held:
        task.let_go(chaos)
    await chaos.start("walnut")
    for task in held:
        outcome = await chaos.delivered_once(task.number, task.repository)
        assert {record.epoch for record in outcome.chain} == {1}, f"{task.step}: nobody else had it"
        agents = chaos.passed("agent", task.number, task.repository)
        if task.step in ("proved", "landed", "delivered", "opened"):
            assert agents == 1, f"{task.step}: what was proved is not done again"
        if task.step in ("worked", "checking"):
            assert agents == 2, f"{task.step}: what was not proved is done again"
            works = [chaos.work_at(commit, task.number) for commit in outcome.rescued.values()]
            assert works == [content(task.number)], f"{task.step}: and saved"


async def kill_and_take_over(chaos: ChaosStage, steps: Sequence[Arrange]) -> None:
    await chaos.start("walnut")
    held = await hold_at(chaos, steps)
    await chaos.start("acacia")
    await chaos.stage.meshed()
    await chaos.kill("walnut")
    for task in held:
        if task.step == "proved" and task.hold is not None:
            task.hold.pass_others()
        else:
            task.let_go(chaos)
    for task in held:
        outcome = await chaos.delivered_once(task.number, task.repository)
        by_holder = task.step in ("landed", "delivered", "opened")
        assert outcome.chain[-1].holder.agent == ("walnut" if by_holder else "acacia"), task.step
        assert outcome.chain[-1].epoch == (1 if by_holder else 2), task.step
        if task.step == "proved" and task.hold is not None:
            task.hold.release()  # the dead holder's delivery arrives now
    await chaos.start("walnut")
    for task in held:
        if task.step in UNSENT:
            await chaos.event("walnut", "notice", task=f"/{task.repository}#{task.number}", text="work saved to")
        outcome = await chaos.delivered_once(task.number, task.repository)
        if task.step in UNSENT:
            works = [chaos.work_at(commit, task.number) for commit in outcome.rescued.values()]
            assert works == [content(task.number)], f"{task.step}: what the dead holder made is saved"


@pytest.mark.timeout(150)
async def test_a_holder_killed_at_any_step_goes_on_with_its_own_claims_when_it_is_back(chaos: ChaosStage) -> None:
    """Field notes 2, 6 and 7: no lock outlives its holder, nothing is lost, no pull request is missing."""
    await kill_and_start_again(chaos, STEPS)


@pytest.mark.timeout(150)
async def test_a_peer_delivers_what_a_holder_killed_at_any_step_left(chaos: ChaosStage) -> None:
    """Field notes 1, 2, 6 and 7; the dead holder's own delivery, arriving late, is refused by the server."""
    await kill_and_take_over(chaos, STEPS)


@pytest.mark.timeout(60)
async def test_a_node_that_comes_back_ends_what_its_dead_worker_left_running(chaos: ChaosStage) -> None:
    """Field notes 4 and 14: node and worker die at once, so nobody ends the agent but the next start."""
    await chaos.start("walnut")
    number = await chaos.issue(shut=["worked"])
    agent = identify(await chaos.at("worked", number))
    assert agent is not None
    (worker,) = chaos.workers("walnut").values()
    # A worker that sees its node die ends the agent and saves the work; so does a node that sees its worker die.
    chaos.stage.nodes["walnut"].process.send_signal(signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    await chaos.kill("walnut")
    assert identify(agent.pid) == agent, "the agent is an orphan now"
    await chaos.start("walnut")
    await asyncio.to_thread(wait_until, lambda: identify(agent.pid) != agent, "the orphan is gone")
    await chaos.at("worked", number, times=2)
    chaos.open_gate("worked", number)
    outcome = await chaos.delivered_once(number)
    assert {record.epoch for record in outcome.chain} == {1}
    works = [chaos.work_at(commit, number) for commit in outcome.rescued.values()]
    assert works == [content(number)], "what the orphan had done is saved"


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("play", [kill_and_start_again, kill_and_take_over])
async def test_a_holder_killed_at_one_step_alone(
    chaos: ChaosStage, play: Callable[[ChaosStage, Sequence[Arrange]], Awaitable[None]], step: Arrange
) -> None:
    """Field notes 1, 2, 6 and 7, one step at a time."""
    await play(chaos, [step])

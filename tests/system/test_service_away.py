"""Hive away, the forge restarted: work goes on as far as it can, nothing is done twice, every report arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.attempt_step import STEPS, fetches_slow
from tests.support.chaos_stage import ChaosStage, chaos_stage

from bzzz.core.record import RecordState
from bzzz.demo.stage import OWNER


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path, "work", "slow") as stage:
        yield stage


@pytest.mark.timeout(120)
async def test_a_forge_killed_and_restarted_at_any_step_costs_nobody_anything(chaos: ChaosStage) -> None:
    """Field notes 3, 5 and 7: in the middle of claims, attempts and deliveries the git server dies."""
    await chaos.start("walnut")
    held = [await arrange(chaos) for arrange in STEPS]
    for task in held:
        await task.reached(chaos)
    await chaos.start("acacia")
    await chaos.stage.meshed()
    await chaos.stage.kill_hive()
    for task in held:
        task.let_go(chaos)
    await chaos.event("walnut", "attempt_ended", outcome="proved")
    await chaos.stage.start_hive()
    for task in held:
        outcome = await chaos.delivered_once(task.number, task.repository)
        agents = chaos.passed("agent", task.number, task.repository)
        assert agents == 1, f"{task.step}: {outcome}"
        assert outcome.chain[-1].strikes == 0, task.step
        if task.step not in ("claimed", "fetching"):
            assert outcome.chain[-1].epoch == 1, f"{task.step}: {outcome}"


@pytest.mark.timeout(60)
async def test_a_node_works_on_what_it_knew_while_hive_is_away_and_its_reports_arrive_when_it_is_back(
    chaos: ChaosStage,
) -> None:
    """Field note 5: even a node that starts anew meanwhile works on, since the forge is there, and tells later."""
    await chaos.start("walnut", tasks={"watch_interval_s": 1})
    await chaos.event("walnut", "notice", text="2 repositories to work on")
    back = chaos.door.answer(lambda request: request.path.startswith("/api/"), b"")
    await chaos.kill("walnut")
    await chaos.start("walnut", tasks={"watch_interval_s": 1})
    await chaos.event("walnut", "notice", level="warning", text="going on with the 2 repositories known before")
    number = await chaos.issue()
    await chaos.event("walnut", "report", report="delivered")
    await chaos.event("walnut", "report_waits", task=f"/work#{number}")
    await chaos.delivered_once(number)
    back()
    await chaos.told_hive(number, "completed")
    issue = await chaos.api("GET", f"/repos/{OWNER}/work/issues/{number}")
    assert {label["name"] for label in issue["labels"]} == {"bzzz-task", "completed"}


@pytest.mark.timeout(60)
async def test_a_repository_that_cannot_be_fetched_costs_no_strike_and_does_not_keep_its_node_from_others(
    chaos: ChaosStage,
) -> None:
    """Field note 9: a service's failure is not the task's, and not the other repositories'."""
    await chaos.start("walnut", max_tasks=1)
    broken = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    chaos.door.answer(fetches_slow, broken)
    number = await chaos.issue("slow")
    ended = await chaos.event("walnut", "attempt_ended", task=f"/slow#{number}")
    assert "503" in ended["text"]
    await chaos.delivered_once(await chaos.issue())
    outcome = await chaos.outcome(number, "slow")
    assert outcome.chain[-1].state is RecordState.RELEASED
    assert outcome.chain[-1].strikes == 0
    assert len(outcome.chain) == 2, "it rests before it is tried again"

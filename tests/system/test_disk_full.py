"""A disk that an agent filled: a clear outcome, a node that goes on, and work again once there is space."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.chaos_stage import ChaosStage, chaos_stage

from bzzz.core.record import RecordState


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path) as stage:
        yield stage


def on_small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """A command line that runs what follows with a small disk of its own at ``folder``; it needs no privilege."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    script = 'mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@"'
    return ("unshare", *user, "--mount", "sh", "-c", script, "sh", size, str(folder))


@pytest.mark.timeout(90)
async def test_a_full_disk_is_told_as_such_and_the_node_works_again_once_there_is_space(chaos: ChaosStage) -> None:
    """Field notes 6 and 14: what an agent left is not deleted to make room; a person is told what to do."""
    attempts = chaos.stage.folder / "walnut" / "data" / "attempts"
    attempts.mkdir(parents=True)
    node = await chaos.start("walnut", max_tasks=1, launcher=on_small_disk(attempts, "4m"))
    filling = await chaos.draft()
    chaos.tell_to("fill", "agent", filling)
    await chaos.publish(filling)
    ended = await chaos.event("walnut", "attempt_ended", task=f"/work#{filling}")
    assert ended["outcome"] == "out_of_budget"
    assert "disk is full" in ended["text"]
    assert "free some space" in ended["text"]
    assert "\n" not in ended["text"]
    await chaos.event("walnut", "report", task=f"/work#{filling}", report="released")

    unlucky = await chaos.issue()
    told = await chaos.event("walnut", "report", task=f"/work#{unlucky}", report="released")
    assert "No space left" in told["reason"]

    seen = Path(f"/proc/{node.process.pid}/root")
    (large,) = (seen / str(attempts)[1:]).glob("*/tree/filling.bin")
    assert large.stat().st_size > 1 << 20, "it was kept"
    large.unlink()
    await chaos.delivered_once(await chaos.issue())
    assert node.process.returncode is None
    assert (await chaos.outcome(unlucky)).chain[-1].state is RecordState.RELEASED
    assert (await chaos.outcome(unlucky)).chain[-1].strikes == 0, "the disk's fault is not the task's"

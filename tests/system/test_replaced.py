"""A node that is set up anew on its old port: who it was is gone, and its tasks do not wait for it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.chaos_stage import ChaosStage, chaos_stage


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path) as stage:
        yield stage


@pytest.mark.timeout(90)
async def test_a_new_node_on_a_dead_holders_port_does_not_keep_its_tasks_from_the_others(chaos: ChaosStage) -> None:
    """Field note 2: something listens where the holder did, and proves to be another peer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        mesh = {"listen": [f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"]}
    await chaos.start("walnut", mesh=mesh)
    number = await chaos.issue(shut=["agent"])
    await chaos.at("agent", number)
    await chaos.start("acacia", max_tasks=1)
    await chaos.stage.meshed()
    await chaos.kill("walnut")
    # Full from the start, so that it is acacia who has to see what became of walnut.
    await chaos.start("ironwood", max_tasks=1, mesh=mesh, node={"capabilities": ["nothing"]})
    chaos.open_gate("agent", number)
    outcome = await chaos.delivered_once(number)
    assert [record.holder.agent for record in outcome.chain][-1] == "acacia"
    (reason,) = [record.reason for record in outcome.chain if record.reason]
    # On a slow machine the port may have been closed for long enough before ironwood was up.
    found = ("another node is where the holder listened", "the holder's host refuses connections")
    assert reason in [f"taken over from walnut: {one}" for one in found]

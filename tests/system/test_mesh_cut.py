"""The cable between two hosts is cut and mended: noticed in time, and healed by nodes that nobody restarts."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from benchmarks.mesh_fleet import fleet, meet
from tests.support.mesh_namespace import POSSIBLE, RoutedNetwork

PORT = 4001
NOTICED_S_MAX = 10.0
# The longest pause between two tries, with one try's own time.
HEALED_S_MAX = 30.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["libp2p", "zenoh"] if POSSIBLE else ())
@pytest.mark.chaos
@pytest.mark.parametrize("cut_s", [20.0, 300.0])
async def test_a_host_that_is_cut_off_is_noticed_within_ten_seconds_and_heard_again_when_it_is_back(
    tmp_path: Path, engine: str, cut_s: float
) -> None:
    label = f"x{os.getpid() % 10_000}{engine[0]}"
    with RoutedNetwork(label, 2, {}) as network:
        prefixes = [network.prefix(number) for number in range(2)]
        listen = f"/ip4/0.0.0.0/tcp/{PORT}"
        async with fleet(engine, tmp_path / "cut", 2, prefixes=prefixes, listen=listen) as (one, other):
            await meet([one, other])
            for node in (one, other):
                await node.ask(tick=0.1)
            await one.ask(hear=other.peer)
            network.cut(1)
            cut_at = time.monotonic()
            for here, there in ((one, other), (other, one)):
                assert await here.ask(lose=there.peer) - cut_at <= NOTICED_S_MAX
            await asyncio.sleep(max(0.0, cut_at + cut_s - time.monotonic()))
            network.mend(1)
            mended_at = time.monotonic()
            for here, there in ((one, other), (other, one)):
                assert await here.ask(hear=there.peer) - mended_at <= HEALED_S_MAX

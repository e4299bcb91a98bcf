"""Many messages through three nodes of each engine: none lost, and nothing that grows with their number.

The short form is a part of the suite; ``make soak`` sends 100,000 (``BZZZ_SOAK_MESSAGES``) over each engine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mesh_fleet import fleet, load, meet

MESSAGES = int(os.environ.get("BZZZ_SOAK_MESSAGES", "1200"))
NODES = 3
ROUNDS = 12
RATE_PER_S = 240
DRAIN_S_MAX = 60.0
GROWTH_MIB_MAX = 4.0
# Engines remember for two minutes which messages they have seen: bounded, and full only then.
BASELINE_ROUNDS = slice(ROUNDS // 2 - 1, ROUNDS // 2 + 2)
LAST_ROUNDS = slice(ROUNDS - 3, ROUNDS)


@pytest.mark.parametrize("engine", ["libp2p", "zenoh"])
async def test_a_soak_loses_no_message_and_holds_no_more_at_its_end_than_in_its_middle(
    tmp_path: Path, engine: str
) -> None:
    held: list[list[dict[str, Any]]] = []
    async with fleet(engine, tmp_path / "soak", NODES) as nodes:
        await meet(nodes)
        for _ in range(ROUNDS):
            found = await load(nodes, RATE_PER_S, MESSAGES / ROUNDS / RATE_PER_S, drain_s_max=DRAIN_S_MAX)
            assert found["delivered"] == 1.0
            held.append(await asyncio.gather(*(node.ask(held=True) for node in nodes)))
    for number in range(NODES):
        states = [one[number] for one in held]
        assert [state["dropped"] for state in states] == [{}] * ROUNDS
        for what, allowed in (("memory_mib", GROWTH_MIB_MAX), ("files", 0), ("tasks", 0)):
            values = [state[what] for state in states]
            grown = statistics.median(values[LAST_ROUNDS]) - statistics.median(values[BASELINE_ROUNDS])
            assert grown <= allowed, f"{what} of node {number} grew: {values}"

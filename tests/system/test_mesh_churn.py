"""New peers that come and go: nothing of them is left in the node that stays.

The short form is a part of the suite; ``make soak`` lets thousands (``BZZZ_SOAK_JOINS``) come over each engine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio
from tests.support.mesh_engine import held, inside
from tests.support.mesh_node import Node, libp2p_node, until, zenoh_node

from bzzz.mesh.libp2p_engine import Engine

JOINS = int(os.environ.get("BZZZ_SOAK_JOINS", "20"))
TOPIC = "bzzz/coordination/v1"
SAMPLES = 4
GROWTH_MIB_MAX = 8.0
# Of a visitor that has just left, which end within a moment.
ENDING_TASKS_MAX = 8.0
# Bounded memories of peers that were there; each has a test of its bound.
REMEMBERED = ("conduct.", "seen.", "gossip.", "dialler.", "admission.", "gate.", "negative.")


@pytest.mark.parametrize("make", [libp2p_node, zenoh_node])
async def test_peers_that_join_and_leave_are_met_and_leave_nothing_behind(
    tmp_path: Path, make: Callable[..., Node]
) -> None:
    process = psutil.Process()
    staying = await make(tmp_path, "staying").start(TOPIC)
    files: list[float] = []
    threads: list[float] = []
    tasks: list[float] = []
    engine_tasks: list[float] = []
    memory_mib: list[float] = []
    kept: list[dict[str, int]] = []
    for number in range(JOINS):
        visitor = make(tmp_path, f"visitor-{number}", static_peers=staying.transport.addresses)
        await visitor.start(TOPIC)
        await visitor.meets(staying)
        await staying.meets(visitor)
        await visitor.stop()
        await until(lambda: not staying.transport.peers(), "the visitor was not seen to leave")
        (tmp_path / f"visitor-{number}.key").unlink()
        if number % (JOINS // SAMPLES) == JOINS // SAMPLES - 1:
            staying.events.clear()
            gc.collect()
            files.append(process.num_fds())
            threads.append(process.num_threads())
            tasks.append(len(asyncio.all_tasks()))
            engine_tasks.append(await inside(staying, _living) if make is libp2p_node else 0)
            memory_mib.append(process.memory_info().rss / 2**20)
            kept.append(_kept(staying) if make is libp2p_node else {})
    if make is libp2p_node:
        # The topic's mesh forgets who left at its next heartbeat.
        await until(lambda: _grown(_kept(staying), kept[0]) == {}, f"kept: {_grown(_kept(staying), kept[0])}")
    await staying.stop()
    half = len(files) // 2
    for name, values, allowed in (
        ("files", files, 2.0),
        ("threads", threads, 2.0),
        ("tasks", tasks, 0.0),
        ("engine tasks", engine_tasks, ENDING_TASKS_MAX),
        ("MiB", memory_mib, GROWTH_MIB_MAX),
    ):
        grown = statistics.median(values[half:]) - statistics.median(values[:half])
        assert grown <= allowed, f"{name} grew: {values}"


def _kept(node: Node) -> dict[str, int]:
    return {name: size for name, size in held(node).items() if not name.startswith(REMEMBERED)}


async def _living(engine: Engine) -> int:
    """How many tasks there are in an engine's thread, without those that keep looking for who was there."""
    return trio.lowlevel.current_statistics().tasks_living - engine._dialler.wishes


def _grown(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: size - before.get(name, 0) for name, size in now.items() if size > before.get(name, 0)}

"""Fleets of mesh nodes, each a process: started, asked, stopped, killed, and cut off the network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_S_MAX = 120.0
ANSWER_S_MAX = 180.0
# All of a fleet listen before the first load; subscriptions are told within this time.
SETTLE_S = 1.5


@dataclass
class Node:
    """One process."""

    process: asyncio.subprocess.Process
    address: str = ""

    @property
    def peer(self) -> str:
        """Its peer id."""
        return self.address.rsplit("/", 1)[1]

    async def ask(self, **question: Any) -> Any:
        """Its answer to one question."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        await self.process.stdin.drain()
        return await self.told()

    async def told(self) -> Any:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_S_MAX)
        if not line:
            raise RuntimeError("a node of the benchmark ended; its error is above")
        return json.loads(line)


@contextlib.asynccontextmanager
async def fleet(
    engine: str,
    folder: Path,
    nodes: int,
    *,
    prefixes: Sequence[Sequence[str]] = (),
    listen: str = "/ip4/127.0.0.1/tcp/0",
    **settings: Any,
) -> AsyncIterator[list[Node]]:
    """Nodes of a new mesh, all connected to all, in a new folder.

    Args:
        engine: ``libp2p`` or ``zenoh``.
        folder: is made, and names the mesh.
        nodes: how many.
        prefixes: what to run each under, if anything.
        listen: where each listens.
        settings: further ones of the engine.
    """
    await asyncio.to_thread(folder.mkdir)
    started: list[Node] = []
    try:
        # The first pays for what is not in the file cache yet; the others then start at once.
        for begin, end in ((0, 1), (1, nodes)):
            fresh = []
            for number in range(begin, end):
                chosen = {
                    "engine": engine,
                    "identity_file": str(folder / f"{number}.key"),
                    "listen": listen,
                    "static_peers": [node.address for node in started],
                    "mesh_name": folder.name,
                    **settings,
                }
                prefix = prefixes[number] if prefixes else ()
                fresh.append(
                    await _spawn(*prefix, sys.executable, "-m", "benchmarks.mesh_worker", json.dumps(chosen))
                )
            started += fresh
            async with asyncio.timeout(START_S_MAX):
                for node in fresh:
                    node.address = (await node.told())["address"]
        yield started
    finally:
        await asyncio.gather(*map(_end, started))


async def _spawn(*command: str) -> Node:
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, cwd=ROOT, env=environment, limit=2**26
    )
    return Node(process)


async def _end(node: Node) -> None:
    if node.process.stdin is not None:
        node.process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(node.process.wait(), 10)
    if node.process.returncode is None:
        node.process.kill()
        await node.process.wait()


async def meet(nodes: Sequence[Node]) -> None:
    """Wait until every node is connected to every other one, and has been told what they listen to."""
    await asyncio.gather(*(node.ask(peers=len(nodes) - 1) for node in nodes))
    await asyncio.sleep(SETTLE_S)


async def load(nodes: Sequence[Node], rate_per_s: float, seconds: float, **more: float) -> dict[str, float]:
    """Publish at a rate, shared by all nodes, and say what came of it."""
    each = max(1, round(rate_per_s * seconds / len(nodes)))
    others = len(nodes) - 1
    answers = await asyncio.gather(
        *(node.ask(messages=each, every_s=seconds / each, expected=each * others, **more) for node in nodes)
    )
    latencies = sorted(latency for answer in answers for latency in answer["latencies"])
    heard, expected = sum(answer["heard"] for answer in answers), each * others * len(nodes)
    steps = statistics.quantiles(latencies, n=100)
    cores = len(os.sched_getaffinity(0))
    cpu_s = sum(answer["cpu_s"] for answer in answers)
    return {
        "delivered": heard / expected,
        "p50_ms": steps[49] * 1000,
        "p99_ms": steps[98] * 1000,
        "cpu_ms": cpu_s / expected * 1000,
        "memory_mib": max(answer["memory_mib"] for answer in answers),
        "rate_per_s": each * len(nodes) / max(answer["published_s"] for answer in answers),
        # Of all that this machine's cores could do while it lasted.
        "busy": cpu_s / cores / max(answer["took_s"] for answer in answers),
    }

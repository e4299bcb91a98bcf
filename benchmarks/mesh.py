"""Both engines of the mesh, libp2p and Zenoh, behind the same port and under the same loads, in one run.

Each node is a process of its own, as in a fleet, and both engines sign and check every message. Under load all
nodes publish their share of a rate; a latency is from before the publish to the receiver's event, by the monotonic
clock that all processes of one machine share. What has not arrived some seconds after the last publish is lost.

Twenty nodes at 500 messages a second are 9,500 deliveries a second: more than libp2p in Python can do on a few
cores. Each row says how busy the cores were (``busy``), at what rate messages were really published
(``rate_per_s``), and whether the machine was at its end (``saturated``): such a row tells of the machine, and not
of the engine.

Further: from the spawn of three real nodes (``bzzz up``) until each has met the others by multicast; until a killed
peer, and one that falls silent, is noticed; and where network namespaces can be made, until peers hear each other
again after the cable between them was cut for 20 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.mesh_namespace import POSSIBLE, RoutedNetwork

from benchmarks.mesh_fleet import ROOT, Node, fleet, load, meet

ENGINES = ("libp2p", "zenoh")
NODES = (2, 5, 20)
RATES_PER_S = (10, 100, 500)
SECONDS = 10.0
SATURATED_BUSY = 0.9
SPAWNS = 3
SPAWNED_NODES = 3
CUT_S = 20.0
PORT = 4001
MEETING_S_MAX = 60.0

Figures = dict[str, tuple[str, float, dict[str, Any]]]
"""A name without the engine in it, to unit, value and what else is to be said."""


def run() -> list[dict[str, Any]]:
    """All figures of both engines, in about eight minutes."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (asyncio.run(_measure(engine, Path(folder))) for engine in ENGINES)
    results = []
    for name, (unit, value, more) in ours.items():
        row = {"name": f"mesh libp2p {name}", "value": round(value, 3), "unit": unit, **more}
        if name in theirs:
            _, other, others = theirs[name]
            # Nothing is divided by next to nothing.
            ratio = round(value / other, 3) if other else 0.0
            row |= {"peer": "zenoh", "peer_value": round(other, 3), "ratio": ratio}
            row |= {f"peer_{key}": said for key, said in others.items()}
        results.append(row)
    return results


async def _measure(engine: str, folder: Path) -> Figures:
    figures: Figures = {}
    for nodes in NODES:
        async with fleet(engine, folder / f"{engine}-{nodes}", nodes) as started:
            await meet(started)
            for rate in RATES_PER_S:
                found = await load(started, rate, SECONDS)
                _take(figures, f"{nodes} nodes {rate}/s", found)
    # Nodes that have nothing else to do: what an overload left behind is no part of these.
    async with fleet(engine, folder / f"{engine}-deaths", 3) as started:
        await meet(started)
        figures |= await _deaths(started)
    times = [await _spawn(engine, folder / f"{engine}-spawn{number}") for number in range(SPAWNS)]
    more = {"slowest_s": round(max(times), 3)}
    figures[f"{SPAWNED_NODES} nodes from spawn to full mesh"] = ("s", statistics.median(times), more)
    if POSSIBLE:
        figures |= await _cut(engine, folder / f"{engine}-cut")
    return figures


def _take(figures: Figures, prefix: str, found: dict[str, float]) -> None:
    saturated = found["busy"] >= SATURATED_BUSY
    more = {"busy": round(found["busy"], 2), "rate_per_s": round(found["rate_per_s"], 1), "saturated": saturated}
    figures[f"{prefix} delivered"] = ("ratio", found["delivered"], more)
    figures[f"{prefix} delivery p50"] = ("ms", found["p50_ms"], more)
    figures[f"{prefix} delivery p99"] = ("ms", found["p99_ms"], more)
    figures[f"{prefix} CPU a delivery"] = ("ms", found["cpu_ms"], more)
    figures[f"{prefix} memory a node"] = ("MiB", found["memory_mib"], {})


async def _deaths(started: list[Node]) -> Figures:
    """Kill one peer and stop another; until the first node has noticed."""
    witness, killed, silent = started[0], started[1], started[2]
    began = time.monotonic()
    silent.process.send_signal(signal.SIGSTOP)
    noticed = await witness.ask(lose=silent.peer)
    silence_s = noticed - began
    silent.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    killed.process.kill()
    noticed = await witness.ask(lose=killed.peer)
    return {
        "a silent peer noticed after": ("s", silence_s, {}),
        "a killed peer noticed after": ("s", noticed - began, {}),
    }


async def _cut(engine: str, folder: Path) -> Figures:
    """Two nodes with a cable between them, cut and mended; until the one is heard by the other."""
    with RoutedNetwork(f"c{os.getpid() % 10_000}", 2, {}) as network:
        prefixes = [network.prefix(number) for number in range(2)]
        listen = f"/ip4/0.0.0.0/tcp/{PORT}"
        async with fleet(engine, folder, 2, prefixes=prefixes, listen=listen) as nodes:
            await meet(nodes)
            for node in nodes:
                await node.ask(tick=0.05)
            await nodes[0].ask(hear=nodes[1].peer)
            network.cut(1)
            cut = time.monotonic()
            noticed = await nodes[0].ask(lose=nodes[1].peer)
            await asyncio.sleep(max(0.0, cut + CUT_S - time.monotonic()))
            network.mend(1)
            mended = time.monotonic()
            heard = await nodes[0].ask(hear=nodes[1].peer)
    return {
        "a cut noticed after": ("s", noticed - cut, {}),
        f"heard again after a cut of {CUT_S:g} s": ("s", heard - mended, {}),
    }


async def _spawn(engine: str, folder: Path) -> float:
    """Seconds from the spawn of real nodes until each is connected to all others."""
    # As where it is installed: compiled modules are kept. The first start fills the cache.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONPYCACHEPREFIX": str(folder.parent / "compiled"),
        "BZZZ_MESH_ENGINE": engine,
        "BZZZ_MESH_NAME": folder.name,
    }
    if folder.name.endswith("spawn0"):
        await _spawned(environment, folder / "first")
    return await _spawned(environment, folder)


async def _spawned(environment: dict[str, str], folder: Path) -> float:
    began = time.monotonic()
    processes = []
    try:
        for number in range(SPAWNED_NODES):
            words = ["up", "--log-json", "--name", f"n{number}", "--data-dir", str(folder / f"n{number}")]
            words += ["--listen", "/ip4/127.0.0.1/tcp/0", "--sandbox", "none"]
            processes.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "bzzz", *words), stderr=asyncio.subprocess.PIPE, env=environment
                )
            )
        async with asyncio.timeout(MEETING_S_MAX):
            await asyncio.gather(*map(_met, processes))
        return time.monotonic() - began
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _met(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    met = set()
    async for line in process.stderr:
        event = json.loads(line) if line.startswith(b"{") else {}
        if event.get("kind") == "peer_connected":
            met.add(event["peer"])
        if len(met) == SPAWNED_NODES - 1:
            return
    raise RuntimeError("a node ended before it met the others")


if __name__ == "__main__":
    for measured in run():
        print(measured)

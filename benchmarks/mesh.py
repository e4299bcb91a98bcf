"""Delivery over the libp2p mesh: three nodes of one process on loopback, 100 messages a second."""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import Received, Transport

NODES = 3
MESSAGES = 1000
RATE_PER_S = 100
TOPIC = "bzzz/coordination/v1"
_MEETING_S_MAX = 20.0
_DRAIN_S_MAX = 10.0


def run() -> list[dict[str, Any]]:
    """Measure; objects with ``name``, ``value`` and ``unit``."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[dict[str, Any]]:
    began = time.monotonic()
    nodes = [_node(folder, number) for number in range(NODES)]
    latencies: list[float] = []
    readers: list[asyncio.Task[None]] = []
    try:
        for node in nodes:
            await node.start()
            await node.join(TOPIC)
            readers.append(asyncio.create_task(_read(node, latencies)))
        async with asyncio.timeout(_MEETING_S_MAX):
            while any(len(node.peers()) < NODES - 1 for node in nodes):  # noqa: ASYNC110 - peers give no signal
                await asyncio.sleep(0.01)
        met_s = time.monotonic() - began
        # The first messages would wait for subscriptions to be told.
        await asyncio.sleep(1.5)
        cpu_s = _cpu_s()
        await _publish(nodes)
        expected = MESSAGES * (NODES - 1)
        deadline = time.monotonic() + _DRAIN_S_MAX
        while len(latencies) < expected and time.monotonic() < deadline:  # noqa: ASYNC110 - filled by readers
            await asyncio.sleep(0.01)
        cpu_s = _cpu_s() - cpu_s
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*(node.stop() for node in nodes))
    prefix = f"mesh libp2p {NODES} nodes {RATE_PER_S}/s"
    steps = statistics.quantiles(latencies, n=100)
    return [
        {"name": f"{prefix} delivery p50", "value": round(steps[49] * 1000, 2), "unit": "ms"},
        {"name": f"{prefix} delivery p99", "value": round(steps[98] * 1000, 2), "unit": "ms"},
        {"name": f"{prefix} delivered", "value": round(len(latencies) / expected, 4), "unit": "ratio"},
        {"name": f"{prefix} CPU a delivery", "value": round(cpu_s / expected * 1000, 2), "unit": "ms"},
        {"name": f"mesh libp2p {NODES} nodes met by mDNS", "value": round(met_s, 2), "unit": "s"},
    ]


def _node(folder: Path, number: int) -> Transport:
    return Libp2pTransport(
        MeshSettings(folder / f"{number}.key", listen=("/ip4/127.0.0.1/tcp/0",), mesh_name=str(folder))
    )


async def _publish(nodes: list[Transport]) -> None:
    start = time.monotonic()
    for number in range(MESSAGES):
        await asyncio.sleep(max(0.0, start + number / RATE_PER_S - time.monotonic()))
        # Padded to about the size of an availability message.
        payload = f"{time.monotonic():.6f}".ljust(300).encode()
        await nodes[number % NODES].publish(TOPIC, payload)


async def _read(node: Transport, latencies: list[float]) -> None:
    while True:
        event = await node.receive()
        if isinstance(event, Received):
            latencies.append(time.monotonic() - float(event.payload))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    for measured in run():
        print(measured)

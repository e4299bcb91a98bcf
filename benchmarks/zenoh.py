"""Zenoh beside libp2p as the mesh's engine: the same transport port, load and machine, in one run.

Each node is a process of its own on loopback, as in a fleet; both engines sign and check every message. Each node
publishes its share of the rate; a latency is from before the publish to the receiver's event, by the monotonic
clock that all processes of one machine share. What has not arrived ``DRAIN_S`` after the last publish is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.mesh.zenoh_settings import ZenohSettings
from bzzz.mesh.zenoh_transport import ZenohTransport
from bzzz.ports import Received, Transport

ENGINES = ("zenoh", "libp2p")
NODES = (2, 5)
RATES_PER_S = (10, 100, 500)
SECONDS = 5.0
DRAIN_S = 4.0
SETTLE_S = 1.5
START_S_MAX = 30.0
PAYLOAD_BYTES = 300  # about an availability message
TOPIC = "bzzz/coordination/v1"

Figures = dict[tuple[int, int], dict[str, float]]


def run() -> list[dict[str, Any]]:
    """All figures, about two minutes."""
    with tempfile.TemporaryDirectory() as folder:
        measured = {engine: asyncio.run(_measure(engine, Path(folder))) for engine in ENGINES}
    results = []
    for (nodes, rate), ours in measured["zenoh"].items():
        theirs = measured["libp2p"][nodes, rate]
        prefix = f"mesh zenoh {nodes} nodes {rate}/s"
        results += [
            _row(f"{prefix} delivered", "ratio", ours["delivered"], theirs["delivered"]),
            _row(f"{prefix} delivery p50", "ms", ours["p50_ms"], theirs["p50_ms"]),
            _row(f"{prefix} delivery p99", "ms", ours["p99_ms"], theirs["p99_ms"]),
            _row(f"{prefix} CPU a delivery", "ms", ours["cpu_ms"], theirs["cpu_ms"]),
            _row(f"{prefix} memory a node", "MiB", ours["memory_mib"], theirs["memory_mib"]),
        ]
    return results


def _row(name: str, unit: str, value: float, peer_value: float) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "value": round(value, 4), "unit": unit}
    if peer_value:
        row |= {"peer": "libp2p", "peer_value": round(peer_value, 4), "ratio": round(value / peer_value, 4)}
    return row


async def _measure(engine: str, folder: Path) -> Figures:
    figures: Figures = {}
    for nodes in NODES:
        home = folder / f"{engine}-{nodes}"
        await asyncio.to_thread(home.mkdir)
        async with _fleet(engine, home, nodes) as workers:
            for rate in RATES_PER_S:
                figures[nodes, rate] = await _load(workers, rate)
    return figures


@contextlib.asynccontextmanager
async def _fleet(engine: str, folder: Path, nodes: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    workers: list[asyncio.subprocess.Process] = []
    addresses: list[str] = []
    try:
        for number in range(nodes):
            command = [sys.executable, "-m", "benchmarks.zenoh", engine, str(folder), str(number), *addresses]
            pipe = asyncio.subprocess.PIPE
            worker = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=2**24)
            workers.append(worker)
            addresses.append((await _answer(worker))["address"])
        for worker in workers:
            await _ask(worker, {"peers": nodes - 1})
        await asyncio.gather(*map(_answer, workers))
        await asyncio.sleep(SETTLE_S)
        yield workers
    finally:
        for worker in workers:
            if worker.stdin is not None:
                worker.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.wait(), 10)
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


async def _load(workers: list[asyncio.subprocess.Process], rate: int) -> dict[str, float]:
    each = max(1, round(rate * SECONDS / len(workers)))
    for worker in workers:
        await _ask(worker, {"messages": each, "every_s": SECONDS / each, "expected": each * (len(workers) - 1)})
    answers = await asyncio.gather(*map(_answer, workers))
    latencies = sorted(latency for answer in answers for latency in answer["latencies"])
    expected = each * (len(workers) - 1) * len(workers)
    steps = statistics.quantiles(latencies, n=100)
    return {
        "delivered": len(latencies) / expected,
        "p50_ms": steps[49] * 1000,
        "p99_ms": steps[98] * 1000,
        "cpu_ms": sum(answer["cpu_s"] for answer in answers) / expected * 1000,
        "memory_mib": max(answer["memory_mib"] for answer in answers),
    }


async def _ask(worker: asyncio.subprocess.Process, question: Mapping[str, Any]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(question).encode() + b"\n")
    await worker.stdin.drain()


async def _answer(worker: asyncio.subprocess.Process) -> dict[str, Any]:
    assert worker.stdout is not None
    line = await asyncio.wait_for(worker.stdout.readline(), START_S_MAX)
    answer: dict[str, Any] = json.loads(line)
    return answer


# --- one node, in a process of its own ---------------------------------------------------------------------


class Worker:
    """Publishes and receives as it is asked to."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # By round, as others may have begun one that this node has not been told of yet.
        self._latencies: defaultdict[int, list[float]] = defaultdict(list)
        self._round = 0

    async def read(self) -> None:
        while True:
            event = await self._transport.receive()
            if isinstance(event, Received):
                number, sent = event.payload.split()[:2]
                self._latencies[int(number)].append(time.monotonic() - float(sent))

    async def meet(self, peers: int) -> None:
        async with asyncio.timeout(START_S_MAX):
            while len(self._transport.peers()) < peers:  # noqa: ASYNC110 - peers give no signal
                await asyncio.sleep(0.01)

    async def load(self, messages: int, every_s: float, expected: int) -> dict[str, Any]:
        self._round += 1
        heard = self._latencies[self._round]
        before, begun = _cpu_s(), time.monotonic()
        for number in range(messages):
            await asyncio.sleep(max(0.0, begun + number * every_s - time.monotonic()))
            payload = f"{self._round} {time.monotonic():.6f}".ljust(PAYLOAD_BYTES).encode()
            await self._transport.publish(TOPIC, payload)
        deadline = time.monotonic() + DRAIN_S
        while len(heard) < expected and time.monotonic() < deadline:  # noqa: ASYNC110 - filled by the reader
            await asyncio.sleep(0.01)
        memory = psutil.Process(os.getpid()).memory_info().rss / 2**20
        return {"latencies": heard, "cpu_s": _cpu_s() - before, "memory_mib": memory}


def _transport(engine: str, folder: Path, number: str, peers: tuple[str, ...]) -> Transport:
    identity, listen = folder / f"{number}.key", ("/ip4/127.0.0.1/tcp/0",)
    if engine == "zenoh":
        settings = ZenohSettings(identity, listen, peers, mesh_name=str(folder), mdns=False, gossip=False)
        return ZenohTransport(settings)
    return Libp2pTransport(MeshSettings(identity, listen, peers, str(folder), mdns=False))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def work(engine: str, folder: str, number: str, *peers: str) -> None:
    """One node: answers questions on standard input with lines on standard output until it ends."""
    transport = _transport(engine, Path(folder), number, peers)
    await transport.start()
    await transport.join(TOPIC)
    worker = Worker(transport)
    reader = asyncio.create_task(worker.read())
    print(json.dumps({"address": transport.addresses[0]}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        question = json.loads(line)
        if "peers" in question:
            await worker.meet(question["peers"])
            print("{}", flush=True)
        else:
            print(json.dumps(await worker.load(**question)), flush=True)
    reader.cancel()
    await transport.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(work(*sys.argv[1:]))
    else:
        for one in run():
            print(one)

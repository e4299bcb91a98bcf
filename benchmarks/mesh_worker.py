"""One node of a mesh in a process of its own: publishes, receives and counts as it is asked to.

``python -m benchmarks.mesh_worker SETTINGS`` runs one; SETTINGS is a JSON object with ``engine``,
``identity_file``, ``listen``, ``static_peers``, ``mesh_name``, and further settings of the engine. It tells its
address in one line of JSON, then answers each line on standard input by one, until that ends:

    {"peers": n}                            when so many are connected: what time it was, by the machine's clock
    {"messages": n, "every_s": s, "expected": n}   publish, receive what is expected; latencies, CPU, memory
    {"lose": peer} / {"hear": peer}         when the connection to a peer is gone, when something of it is heard
    {"tick": s}                             publish something every so often from now on
    {"held": true}                          memory, file descriptors, tasks, drops by reason
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from bzzz.errors import TransportError
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.mesh.zenoh_settings import ZenohSettings
from bzzz.mesh.zenoh_transport import ZenohTransport
from bzzz.ports import PeerConnected, PeerDisconnected, Received, Transport

TOPIC = "bzzz/coordination/v1"
PAYLOAD_BYTES = 300  # about an availability message
DRAIN_S_MAX = 8.0
WAIT_S_MAX = 120.0


class Worker:
    """Does what it is asked."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # By round, as others may have begun one that this node has not been told of yet.
        self._latencies: defaultdict[int, list[float]] = defaultdict(list)
        self._round = 0
        self._lost: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._news = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Receive until the end."""
        while True:
            event = await self._transport.receive()
            now = time.monotonic()
            if isinstance(event, Received):
                number, sent = event.payload.split()[:2]
                self._latencies[int(number)].append(now - float(sent))
                self._heard[event.peer] = now
            elif isinstance(event, PeerConnected):
                self._lost.pop(event.peer, None)
            elif isinstance(event, PeerDisconnected):
                self._lost[event.peer] = now
            self._news.set()

    async def answer(self, question: dict[str, Any]) -> Any:
        """What one line asks for."""
        match question:
            case {"peers": int(peers)}:
                await self._until(lambda: len(self._transport.peers()) >= peers)
                return time.monotonic()
            case {"lose": str(peer)}:
                await self._until(lambda: peer in self._lost)
                return self._lost[peer]
            case {"hear": str(peer)}:
                before = time.monotonic()
                await self._until(lambda: self._heard.get(peer, 0.0) > before)
                return self._heard[peer]
            case {"tick": float(every_s)}:
                self._ticking = asyncio.create_task(self._tick(every_s))
                return None
            case {"held": True}:
                gc.collect()
                process = psutil.Process()
                memory_mib = process.memory_info().rss / 2**20
                counters = dict(self._transport.counters())
                return {
                    "memory_mib": memory_mib,
                    "files": process.num_fds(),
                    "tasks": len(asyncio.all_tasks()),
                    "dropped": {name: n for name, n in counters.items() if name.startswith("dropped_") and n},
                }
            case _:
                return await self._load(**question)

    async def _tick(self, every_s: float) -> None:
        while True:
            try:
                await self._publish(0)
            except TransportError:
                continue
            finally:
                await asyncio.sleep(every_s)

    async def _publish(self, number: int) -> None:
        payload = f"{number} {time.monotonic():.6f}".ljust(PAYLOAD_BYTES).encode()
        await self._transport.publish(TOPIC, payload)

    async def _load(
        self,
        messages: int,
        every_s: float,
        expected: int,
        samples_max: int = 20_000,
        drain_s_max: float = DRAIN_S_MAX,
    ) -> dict[str, Any]:
        self._round += 1
        heard = self._latencies[self._round]
        before, begun = _cpu_s(), time.monotonic()
        for number in range(messages):
            await asyncio.sleep(max(0.0, begun + number * every_s - time.monotonic()))
            await self._publish(self._round)
        published_s = time.monotonic() - begun
        await self._until(lambda: len(heard) >= expected, drain_s_max, fails=False)
        cpu_s = _cpu_s() - before
        self._latencies.pop(self._round)
        return {
            "heard": len(heard),
            "latencies": sorted(heard)[:: max(1, len(heard) // samples_max)],
            "published_s": published_s,
            "took_s": time.monotonic() - begun,
            "cpu_s": cpu_s,
            "memory_mib": psutil.Process().memory_info().rss / 2**20,
        }

    async def _until(self, done: Any, timeout_s: float = WAIT_S_MAX, *, fails: bool = True) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            if fails:
                raise


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_transport(engine: str, identity_file: str, listen: str, static_peers: list[str], **more: Any) -> Transport:
    """A node's transport."""
    place = (Path(identity_file), (listen,), tuple(static_peers))
    if engine == "zenoh":
        return ZenohTransport(ZenohSettings(*place, mdns=False, **more))
    return Libp2pTransport(MeshSettings(*place, mdns=False, **more))


async def main(settings: dict[str, Any]) -> None:
    """One node, until standard input ends."""
    transport = make_transport(**settings)
    await transport.start()
    await transport.join(TOPIC)
    worker = Worker(transport)
    reader = asyncio.create_task(worker.read())
    print(json.dumps({"address": transport.addresses[0]}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await worker.answer(json.loads(line))), flush=True)
    reader.cancel()
    await transport.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

"""A node in a process of its own, driven by lines of JSON, and the class that drives it.

``python -m tests.support.mesh_child SETTINGS`` runs one; SETTINGS is a JSON object of ``MeshSettings``. It tells
its peer id and addresses, then every event, one line each, and answers commands: ``{"publish": [topic, text]}``,
``{"dial": address}``, ``{"counters": true}``, ``{"stop": true}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.mesh_node import WAIT_S

from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import PeerConnected, PeerDisconnected, Received

ROOT = Path(__file__).parents[2]
TOPIC = "bzzz/coordination/v1"
START_S_MAX = 60.0


class Child:
    """One such process, and what it has told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.peer_id = ""
        self.addresses: tuple[str, ...] = ()
        self.peers: dict[str, list[str]] = {}
        self.heard: list[tuple[str, str, str]] = []
        self.lost: list[tuple[str, str]] = []
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._take(json.loads(line))
            self._news.set()

    def _take(self, told: dict[str, Any]) -> None:
        match told:
            case {"is": [peer_id, addresses]}:
                self.peer_id, self.addresses = peer_id, tuple(addresses)
            case {"connected": [peer, addresses]}:
                self.peers[peer] = addresses
            case {"disconnected": [peer, reason]}:
                self.peers.pop(peer, None)
                self.lost.append((peer, reason))
            case {"heard": [topic, peer, text]}:
                self.heard.append((topic, peer, text))
            case {"answer": answer}:
                self._answers.put_nowait(answer)

    async def until(self, condition: Callable[[], bool], complaint: str, timeout_s: float = WAIT_S) -> None:
        """Wait until what the child told makes ``condition`` true."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{complaint}; peers: {self.peers}, lost: {self.lost}") from None

    async def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(WAIT_S):
            return await self._answers.get()

    async def meets(self, *others: Child, timeout_s: float = WAIT_S) -> None:
        await self.until(
            lambda: all(other.peer_id in self.peers for other in others), "they did not meet", timeout_s
        )

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader


@asynccontextmanager
async def children() -> AsyncIterator[Callable[..., Any]]:
    """Gives a function that starts a child: settings by name, and ``prefix``, a command to run it under."""
    started: list[Child] = []

    async def start(folder: Path, name: str, *, prefix: Sequence[str] = (), **settings: Any) -> Child:
        chosen = {"identity_file": str(folder / f"{name}.key"), "mesh_name": "test", **settings}
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-m", "tests.support.mesh_child", json.dumps(chosen)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            limit=2**24,
        )
        child = Child(process)
        started.append(child)
        await child.until(lambda: bool(child.peer_id), f"{name} did not start", START_S_MAX)
        return child

    try:
        yield start
    finally:
        await asyncio.gather(*(child.end() for child in started))


def _tell(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def _tell_events(transport: Libp2pTransport) -> None:
    while True:
        event = await transport.receive()
        if isinstance(event, PeerConnected):
            _tell(connected=[event.peer, list(event.addresses)])
        elif isinstance(event, PeerDisconnected):
            _tell(disconnected=[event.peer, event.reason])
        elif isinstance(event, Received):
            _tell(heard=[event.topic, event.peer, event.payload.decode()])


async def _obey(transport: Libp2pTransport, command: dict[str, Any]) -> Any:
    match command:
        case {"publish": [topic, text]}:
            await transport.publish(topic, text.encode())
        case {"dial": address}:
            await transport.dial(address)
        case {"counters": True}:
            return dict(transport.counters())
    return time.time()


async def main(settings: dict[str, Any]) -> None:
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else Path(value) if key.endswith("_file") else value
        for key, value in settings.items()
    }
    transport = Libp2pTransport(MeshSettings(**chosen))
    await transport.start()
    await transport.join(TOPIC)
    _tell(**{"is": [transport.peer_id, list(transport.addresses)]})
    telling = asyncio.create_task(_tell_events(transport))
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        command = json.loads(line)
        if "stop" in command:
            break
        _tell(answer=await _obey(transport, command))
    telling.cancel()
    await transport.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

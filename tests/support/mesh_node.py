"""A transport with a reader, so that tests wait for what happens instead of sleeping."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bzzz.errors import TransportError
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.mesh.zenoh_settings import ZenohSettings
from bzzz.mesh.zenoh_transport import ZenohTransport
from bzzz.ports import PeerConnected, PeerDisconnected, Received, Transport, TransportEvent

WAIT_S = 15.0
_POLL_S = 0.02


class Node:
    """Collects a transport's events."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.events: list[TransportEvent] = []
        self._reader: asyncio.Task[None] | None = None

    @property
    def peer_id(self) -> str:
        return self.transport.peer_id

    async def start(self, *topics: str, reads: bool = True) -> Node:
        await self.transport.start()
        for topic in topics:
            await self.transport.join(topic)
        if reads:
            self._reader = asyncio.create_task(self._read())
        return self

    async def stop(self) -> None:
        await self.transport.stop()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        try:
            while True:
                self.events.append(await self.transport.receive())
        except TransportError:
            return

    def payloads(self, topic: str) -> list[bytes]:
        return [e.payload for e in self.events if isinstance(e, Received) and e.topic == topic]

    def connected(self) -> list[str]:
        return [e.peer for e in self.events if isinstance(e, PeerConnected)]

    def disconnected(self) -> list[PeerDisconnected]:
        return [e for e in self.events if isinstance(e, PeerDisconnected)]

    async def hears(self, topic: str, payload: bytes) -> None:
        await until(lambda: payload in self.payloads(topic), f"{payload[:20]!r} was not heard on {topic}")

    async def meets(self, *others: Node) -> None:
        await until(
            lambda: all(other.peer_id in self.transport.peers() for other in others), "the nodes did not meet"
        )

    async def loses(self, peer: str) -> PeerDisconnected:
        await until(lambda: peer in [e.peer for e in self.disconnected()], "no PeerDisconnected")
        return self.disconnected()[-1]

    async def counts(self, name: str, least: int = 1) -> None:
        await until(lambda: self.transport.counters().get(name, 0) >= least, f"{name} stayed below {least}")


async def until(condition: Callable[[], bool], complaint: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition, checked often; fail with ``complaint``."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - counters and peers give no signal
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise AssertionError(complaint) from None


def libp2p_node(folder: Path, name: str, **settings: Any) -> Node:
    """A node on loopback, without discovery unless asked for."""
    return Node(Libp2pTransport(libp2p_settings(folder, name, **settings)))


def libp2p_settings(folder: Path, name: str, **settings: Any) -> MeshSettings:
    chosen = {"listen": ("/ip4/127.0.0.1/tcp/0",), "mdns": False, "mesh_name": str(folder), **settings}
    return MeshSettings(folder / f"{name}.key", **chosen)


def zenoh_node(folder: Path, name: str, **settings: Any) -> Node:
    """A node on loopback, without discovery or gossip unless asked for."""
    return Node(ZenohTransport(zenoh_settings(folder, name, **settings)))


def zenoh_settings(folder: Path, name: str, **settings: Any) -> ZenohSettings:
    chosen = {"listen": ("/ip4/127.0.0.1/tcp/0",), "mdns": False, "gossip": False, "mesh_name": str(folder)}
    return ZenohSettings(folder / f"{name}.key", **{**chosen, **settings})


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port

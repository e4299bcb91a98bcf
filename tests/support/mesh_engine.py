"""A way into the engines of libp2p nodes: for peers that misbehave, and for counting what a node holds."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed
from tests.support.mesh_node import Node, libp2p_node

from bzzz.mesh.libp2p_engine import Engine
from bzzz.mesh.libp2p_transport import Libp2pTransport

TOPIC = "bzzz/coordination/v1"
MESHSUB = "/meshsub/1.1.0"


def engine_of(node: Node) -> Engine:
    assert isinstance(node.transport, Libp2pTransport)
    assert node.transport._engine is not None
    return node.transport._engine


async def inside(node: Node, function: Callable[[Engine], Awaitable[Any]]) -> Any:
    """Run something in the trio thread of a node's engine."""
    assert isinstance(node.transport, Libp2pTransport)
    assert node.transport._thread is not None
    return await node.transport._thread.call(function, engine_of(node))


class Nodes:
    """Starts nodes of one mesh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Node] = []

    async def node(self, name: str, **settings: Any) -> Node:
        chosen = {"gossip_addresses": False, **settings}
        node = libp2p_node(self.folder, name, **chosen)
        self.started.append(node)
        return await node.start(TOPIC)


@asynccontextmanager
async def nodes(folder: Path) -> AsyncIterator[Nodes]:
    """A ``Nodes`` whose nodes are stopped at the end."""
    started = Nodes(folder)
    try:
        yield started
    finally:
        await asyncio.gather(*(node.stop() for node in started.started))


async def connect(one: Node, other: Node) -> None:
    await one.transport.dial(other.transport.addresses[0])
    await one.meets(other)
    await other.meets(one)


def keys_of(node: Node) -> KeyPair:
    private = engine_of(node)._host.get_private_key()
    return KeyPair(private, private.get_public_key())


def signed(author: KeyPair | None, number: int, data: bytes, topic: str = TOPIC) -> Any:
    """A message, well signed by its author; a new one if none is given."""
    author = author or create_new_key_pair()
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[topic],
        from_id=ID.from_pubkey(author.public_key).to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    message.signature = author.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.key = author.public_key.serialize()
    return message


def framed(rpc: Any) -> bytes:
    framed: bytes = encode_varint_prefixed(rpc.SerializeToString())
    return framed


async def send_frames(sender: Node, receiver: Node, *frames: bytes, protocol: str = MESHSUB) -> None:
    """Open a stream of one's own and write bytes to it."""

    async def send(engine: Engine) -> None:
        stream = await engine._host.new_stream(ID.from_base58(receiver.peer_id), [protocol])
        for frame in frames:
            await stream.write(frame)

    await inside(sender, send)


async def send(sender: Node, receiver: Node, *messages: Any) -> None:
    """Send messages, whoever wrote them, in one frame."""
    await send_frames(sender, receiver, framed(rpc_pb2.RPC(publish=messages)))


def held(node: Node) -> Counter[str]:
    """How much is kept in every container of every part of an engine; what grows there is a leak.

    Counts of events, and the library's one-time registrations, are left out.
    """
    engine = engine_of(node)
    swarm, router, pubsub = engine._swarm, engine._router, engine._pubsub
    parts = {
        "engine": engine,
        "swarm": swarm,
        "tags": swarm.tag_store,
        "peerstore": swarm.peerstore,
        "negative": swarm._negative_peer_cache,
        "connector": swarm.auto_connector,
        "host": engine._host,
        "pubsub": pubsub,
        "router": router,
        "scorer": router.scorer,
        "mcache": router.mcache,
        "lazy": router._lazy,
        "missing": router._missing,
        "extensions": router.extensions_state,
        "seen": pubsub.seen_messages,
        "dialler": engine._dialler,
        "conduct": engine._conduct,
        "gate": engine._gate,
        "admission": engine._admission,
    }
    if engine._gossip is not None:
        parts["gossip"] = engine._gossip._book
    found: Counter[str] = Counter()
    for name, part in parts.items():
        for attribute, value in vars(part).items():
            if attribute != "_counts":
                found[f"{name}.{attribute}"] = _size(value)
    return found


def _size(value: Any, depth: int = 3) -> int:
    if isinstance(value, Counter):
        return len(value)
    if isinstance(value, dict) and depth:
        return len(value) + sum(_size(one, depth - 1) for one in value.values())
    if isinstance(value, list | set | tuple | frozenset | deque) and depth:
        return len(value) + sum(_size(one, depth - 1) for one in value)
    return 0

"""Real nodes that send each message once to each other, and what is made good where they do not send it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import signature_validator
from tests.support.mesh_engine import TOPIC, Nodes, connect, engine_of, inside, nodes, send, signed
from tests.support.mesh_node import until

from bzzz.mesh.libp2p_author import AUTHOR_BYTES_MAX, is_signed, signed_part
from bzzz.mesh.libp2p_engine import Engine


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with nodes(tmp_path) as started:
        yield started


async def test_on_a_full_mesh_copies_end_after_the_first_messages(mesh: Nodes) -> None:
    """Without marks each of four nodes gets each message up to three times."""
    fleet = [await mesh.node(name) for name in "abcd"]
    for number, node in enumerate(fleet):
        for other in fleet[:number]:
            await connect(node, other)
    routers = [engine_of(node)._router for node in fleet]
    await until(lambda: all(len(router.mesh[TOPIC]) == 3 for router in routers), "the topic has gaps")

    async def say(mark: bytes, times: int) -> int:
        before = sum(node.transport.counters().get("duplicates", 0) for node in fleet)
        for number in range(times):
            for node in fleet:
                payload = b"%s %d %s" % (mark, number, node.peer_id.encode())
                await node.transport.publish(TOPIC, payload)
                for other in fleet:
                    if other is not node:
                        await other.hears(TOPIC, payload)
        return sum(node.transport.counters().get("duplicates", 0) for node in fleet) - before

    await say(b"early", 5)
    deliveries = 10 * 4 * 3
    # One or two may be asked for that are on their way.
    assert await say(b"late", 10) <= deliveries // 20


async def test_what_is_only_told_of_is_asked_for_and_the_next_comes_at_once(mesh: Nodes) -> None:
    """Two nodes that meet through a third, which believes wrongly that the one hears of the other elsewhere."""
    hub, author, reader = [await mesh.node(name) for name in ("hub", "author", "reader")]
    await connect(author, hub)
    await connect(reader, hub)
    await author.transport.publish(TOPIC, b"before")
    await reader.hears(TOPIC, b"before")

    async def mistake(engine: Engine) -> None:
        of = ID.from_base58(author.peer_id).to_bytes()
        engine._router.duplicate(ID.from_base58(reader.peer_id), of, b"")

    await inside(hub, mistake)
    await author.transport.publish(TOPIC, b"told of")
    await reader.hears(TOPIC, b"told of")
    assert hub.transport.counters()["ids_told"] == 1
    assert reader.transport.counters()["messages_asked_for"] == 1
    await author.transport.publish(TOPIC, b"at once")
    await reader.hears(TOPIC, b"at once")
    assert hub.transport.counters()["ids_told"] == 1


async def test_nobody_is_spared_own_messages_whatever_they_bring(mesh: Nodes) -> None:
    a, b = await mesh.node("a"), await mesh.node("b")
    await connect(a, b)

    async def copies(engine: Engine) -> None:
        for _ in range(3):
            engine._router.duplicate(ID.from_base58(b.peer_id), ID.from_base58(a.peer_id).to_bytes(), b"")

    await inside(a, copies)
    await a.transport.publish(TOPIC, b"whole")
    await b.hears(TOPIC, b"whole")
    assert a.transport.counters().get("ids_told", 0) == 0


async def test_an_author_whose_id_is_longer_than_any_is_refused_before_it_is_written_as_text(mesh: Nodes) -> None:
    """The time for that grows with the square of its length: a frame of 1 MiB would stop a node for minutes."""
    a, b = await mesh.node("a"), await mesh.node("b")
    await connect(a, b)
    message = signed(None, 1, b"x")
    message.from_id = bytes(AUTHOR_BYTES_MAX + 1)
    await send(a, b, message)
    await b.counts("dropped_malformed")


def test_a_signature_holds_for_its_message_and_author_alone_as_the_library_has_it() -> None:
    author, other = create_new_key_pair(), create_new_key_pair()
    good = signed(author, 1, b"payload")
    changes = [
        {},
        {"data": b"other"},
        {"seqno": bytes(8)},
        {"signature": b""},
        {"signature": bytes(64)},
        {"from_id": ID.from_pubkey(other.public_key).to_bytes()},
        {"from_id": good.from_id + b"\x00"},
        {"from_id": b"\x00"},
        {"key": other.public_key.serialize()},
    ]
    for change in changes:
        message = rpc_pb2.Message()
        message.CopyFrom(good)
        for name, value in change.items():
            setattr(message, name, value)
        assert outcome(is_signed, message) == outcome(signature_validator, message), change
    assert is_signed(good)
    assert signed_part(good).startswith(b"libp2p-pubsub:")


def outcome(check: object, message: object) -> object:
    assert callable(check)
    try:
        return check(message)
    except Exception:
        return "raised"

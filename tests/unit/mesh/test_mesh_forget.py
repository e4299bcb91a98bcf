"""Of peers that come and go, and of streams that are opened again, nothing is left behind.

It speaks for bzzz.mesh.libp2p_pubsub and bzzz.mesh.libp2p_connection, and for what is remembered of peers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from tests.support.mesh_engine import TOPIC, Nodes, connect, engine_of, held, inside, nodes
from tests.support.mesh_node import Node, until

from bzzz.mesh.address import parse_address
from bzzz.mesh.address_gossip import ADDRESS_MESSAGES_BURST, ADDRESS_MESSAGES_PER_S, AddressBook, write_addresses
from bzzz.mesh.conduct import OFFENCES_BURST, OFFENCES_PER_S, Conduct
from bzzz.mesh.libp2p_engine import Engine

FORGIVEN_S = OFFENCES_BURST / OFFENCES_PER_S


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with nodes(tmp_path) as started:
        yield started


async def met(mesh: Nodes) -> tuple[Node, Node]:
    """Two connected nodes, each of which has its stream to the other."""
    a, b = await mesh.node("a"), await mesh.node("b")
    await connect(a, b)
    for one, other in ((a, b), (b, a)):
        await one.transport.publish(TOPIC, b"hello")
        await other.hears(TOPIC, b"hello")
    return a, b


def open_streams(node: Node) -> int:
    return sum(len(link.muxed_conn.streams) for links in engine_of(node)._links.values() for link in links)


def lose_stream(engine: Engine, peer: Any) -> None:
    """As the library does it, without a try at another one."""
    del engine._pubsub.peers[peer]
    engine._pubsub.peer_queues.pop(peer).close()


async def test_a_stream_that_is_opened_twice_at_once_leaves_nothing_of_the_first(mesh: Nodes) -> None:
    """Who sends over the first one would wait on its queue for good, and keep the connection after its end."""
    a, b = await met(mesh)
    peer = ID.from_base58(b.peer_id)

    async def senders(_: Engine) -> int:
        root: Any = trio.lowlevel.current_root_task()
        waiting, found = [root], 0
        while waiting:
            task = waiting.pop()
            found += "handle_sending_messages" in task.name
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        return found

    async def open_again(engine: Engine) -> None:
        lose_stream(engine, peer)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(engine._pubsub._handle_new_peer, peer)

    assert await inside(a, senders) == 1
    streams = open_streams(a), open_streams(b)
    await inside(a, open_again)
    await a.transport.publish(TOPIC, b"after")
    await b.hears(TOPIC, b"after")
    await until(lambda: (open_streams(a), open_streams(b)) == streams, "a stream is left open")
    assert await inside(a, senders) == 1
    await b.stop()
    await until(lambda: not a.transport.peers(), "b was not seen to leave")
    assert await inside(a, senders) == 0


async def test_a_stream_that_is_being_opened_is_not_opened_again(mesh: Nodes) -> None:
    a, b = await met(mesh)
    peer = ID.from_base58(b.peer_id)

    async def mend_meanwhile(engine: Engine) -> bool:
        pubsub = engine._pubsub
        lose_stream(engine, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pubsub._handle_new_peer, peer)
            while not pubsub._opening:
                await trio.lowlevel.checkpoint()
            pubsub.mend(peer)
            is_opened_again = peer in pubsub._peer_stream_retries_pending
        assert peer in pubsub.peers
        return is_opened_again

    assert not await inside(a, mend_meanwhile)


async def test_a_peer_that_left_is_not_remembered_by_what_dials_by_itself(mesh: Nodes) -> None:
    """The library remembers each peer that ever left, so as not to dial it at once; here it never dials."""
    a = await mesh.node("a")
    before = held(a)
    for number in range(3):
        visitor = await mesh.node(f"visitor-{number}")
        await connect(visitor, a)
        await visitor.stop()
        await until(lambda: not a.transport.peers(), "the visitor was not seen to leave")
    grown = {name: size for name, size in held(a).items() if size > before[name]}
    assert not [name for name in grown if name.startswith("connector.")], grown


async def test_what_a_peer_sent_while_it_left_does_not_stay(mesh: Nodes) -> None:
    a, b = await met(mesh)
    ghost = ID.from_pubkey(create_new_key_pair().public_key)

    async def haunt(engine: Engine) -> None:
        pubsub = engine._pubsub
        pubsub.peers[ghost] = pubsub.peers[ID.from_base58(b.peer_id)]
        pubsub._records[ghost] = b"record"
        pubsub.handle_subscription(ghost, rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC))

    await inside(a, haunt)
    pubsub = engine_of(a)._pubsub
    await until(lambda: ghost not in pubsub.peers, "who is not there is still sent to")
    assert ghost not in pubsub._records
    assert ghost not in pubsub.peer_topics[TOPIC]
    assert ghost not in pubsub._peer_subscription_count
    await a.transport.publish(TOPIC, b"after")
    await b.hears(TOPIC, b"after")


async def test_failed_dials_that_lapsed_are_forgotten_when_a_peer_leaves(mesh: Nodes) -> None:
    """The library keeps ten thousand of them before it looks."""
    a, b = await met(mesh)
    cache = engine_of(a)._swarm._negative_peer_cache
    cache._cache["lapsed"] = time.monotonic() - 1
    cache._cache["fresh"] = time.monotonic() + 60
    await b.stop()
    await until(lambda: not a.transport.peers(), "b was not seen to leave")
    assert "lapsed" not in cache._cache
    assert "fresh" in cache._cache


def test_a_peer_that_may_send_as_much_as_a_new_one_is_forgotten_and_no_other() -> None:
    conduct = Conduct(messages_per_s_max=10, bytes_per_s_max=1000)
    conduct.offends("offender", OFFENCES_BURST, 0.0)
    for number in range(100):
        conduct.may_write(str(number), 1.0)
    assert len(conduct) == 101
    # Who was heard longest ago is not forgiven yet, and the others wait for that.
    conduct.may_write("early", FORGIVEN_S - 1.0)
    assert len(conduct) == 102
    assert conduct.offends("offender", OFFENCES_BURST, FORGIVEN_S - 1.0)
    conduct.may_write("later", FORGIVEN_S - 0.99)
    assert list(conduct._records) == ["early", "offender", "later"]


def test_an_author_of_addresses_is_forgotten_when_it_may_say_as_much_as_a_new_one() -> None:
    own = [parse_address("/ip4/192.0.2.2/tcp/4001")]
    book, payload = AddressBook(own), write_addresses(own)
    for number in range(50):
        book.read(payload, str(number), 0.0)
    assert len(book._buckets) == 50
    book.read(payload, "later", ADDRESS_MESSAGES_BURST / ADDRESS_MESSAGES_PER_S)
    assert list(book._buckets) == ["later"]

"""The measured defects of libp2p 0.8.1: each test fails without the remedy for the number it names.

It speaks for bzzz.mesh.libp2p_connection, bzzz.mesh.libp2p_patch and bzzz.mesh.libp2p_pubsub.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import logging
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.id import ID
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr
from tests.support.mesh_engine import signed
from tests.support.mesh_node import Node, free_port, libp2p_node, until

from bzzz.errors import PayloadTooLarge, TransportError
from bzzz.mesh import libp2p_engine, libp2p_pubsub, libp2p_version
from bzzz.mesh.address import parse_address
from bzzz.mesh.frame import FrameReader
from bzzz.mesh.interface import read_own_ips
from bzzz.mesh.libp2p_muxer import LiveYamux, MeshStream
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.ports import PeerConnected, TransportRestarted

TOPIC = "bzzz/coordination/v1"
MESHSUB = "/meshsub/1.1.0"


class Pair:
    """Two connected nodes, and a way into the engine of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    async def node(self, name: str, *topics: str, **settings: Any) -> Node:
        node = libp2p_node(self.folder, name, **settings)
        self.nodes.append(node)
        return await node.start(*topics)

    async def connect(self, one: Node, other: Node) -> None:
        await one.transport.dial(other.transport.addresses[0])
        await one.meets(other)
        await other.meets(one)

    async def pair(self, **settings: Any) -> tuple[Node, Node]:
        a, b = await self.node("a", TOPIC, **settings), await self.node("b", TOPIC, **settings)
        await self.connect(a, b)
        return a, b


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Pair]:
    mesh = Pair(tmp_path)
    yield mesh
    await asyncio.gather(*(node.stop() for node in mesh.nodes))


def engine_of(node: Node) -> libp2p_engine.Engine:
    assert isinstance(node.transport, Libp2pTransport)
    assert node.transport._engine is not None
    return node.transport._engine


async def inside(node: Node, function: Callable[[libp2p_engine.Engine], Awaitable[Any]]) -> Any:
    """Run something in the trio thread of a node's engine."""
    assert isinstance(node.transport, Libp2pTransport)
    assert node.transport._thread is not None
    return await node.transport._thread.call(function, engine_of(node))


async def send_raw(sender: Node, receiver: Node, *frames: bytes, protocol: str = MESHSUB) -> None:
    """Open a stream of one's own and write bytes to it."""

    async def send(engine: libp2p_engine.Engine) -> None:
        stream = await engine._host.new_stream(ID.from_base58(receiver.peer_id), [protocol])
        for frame in frames:
            await stream.write(frame)

    await inside(sender, send)


def framed(rpc: Any) -> bytes:
    framed: bytes = encode_varint_prefixed(rpc.SerializeToString())
    return framed


def message(sender: Node, number: int, data: bytes = b"forged", **changes: Any) -> Any:
    fields = {
        "data": data,
        "topicIDs": [TOPIC],
        "from_id": ID.from_base58(sender.peer_id).to_bytes(),
        "seqno": number.to_bytes(8, "big"),
        **changes,
    }
    return rpc_pb2.Message(**fields)


async def assert_alive(a: Node, b: Node, mark: bytes = b"still here") -> None:
    """Both hear each other, and no engine died."""
    await a.transport.publish(TOPIC, mark + b" a")
    await b.transport.publish(TOPIC, mark + b" b")
    await b.hears(TOPIC, mark + b" a")
    await a.hears(TOPIC, mark + b" b")
    assert "engine_deaths" not in {**a.transport.counters(), **b.transport.counters()}


async def test_a_hundred_messages_a_second_on_a_topic_all_arrive(mesh: Pair) -> None:
    """Defect 1: the spam limiter drops above ten a second."""
    a, b = await mesh.pair()
    for number in range(100):
        await a.transport.publish(TOPIC, b"%d" % number)
    await until(lambda: len(b.payloads(TOPIC)) == 100, "some were dropped")


async def test_a_node_restarted_at_once_with_its_key_is_heard(mesh: Pair) -> None:
    """Defect 2: sequence numbers begin at the second of the clock, and are repeated after a restart."""
    a, b = await mesh.pair()
    before = [b"before %d" % number for number in range(30)]
    for payload in before:
        await a.transport.publish(TOPIC, payload)
    await b.hears(TOPIC, before[-1])
    await a.stop()
    again = await mesh.node("a", TOPIC)
    await mesh.connect(again, b)
    for number in range(5):
        await again.transport.publish(TOPIC, b"after %d" % number)
    await until(lambda: sum(p.startswith(b"after") for p in b.payloads(TOPIC)) == 5, "it was ignored")


async def test_an_exception_in_a_stream_handler_does_not_end_the_node(mesh: Pair) -> None:
    """Defect 3: an exception in a stream handler ends the node."""
    a, b = await mesh.pair()

    async def fail(stream: Any) -> None:
        raise RuntimeError("a bug in a handler")

    async def install(engine: libp2p_engine.Engine) -> None:
        engine._host.set_stream_handler("/fails/1", fail)

    await inside(a, install)
    await send_raw(b, a, protocol="/fails/1")
    await a.counts("dropped_stream_error")
    await assert_alive(a, b)


async def test_malformed_and_forged_messages_are_counted_and_dropped(mesh: Pair) -> None:
    """Defect 3, as a peer would use it: bytes that are no message, or not the author's, end the node."""
    a, b = await mesh.pair()
    author = ID.from_base58(b.peer_id).to_bytes()
    long_key = create_new_key_pair()
    forged = [
        message(b, 1),
        message(b, 2, signature=bytes(64)),
        message(b, 3, from_id=b"\x12\x20" + bytes(32), signature=b"x", key=b"no key"),
        message(b, 4, from_id=author, signature=b"x", key=long_key.public_key.serialize()),
        message(b, 5, seqno=b"short"),
        message(b, 6, topicIDs=[]),
        message(a, 7, signature=bytes(64)),
        message(b, 8, data=bytes(900_001), signature=bytes(64)),
    ]
    await send_raw(
        b,
        a,
        encode_varint_prefixed(b"\xff\xff\xff no protobuf"),
        *(framed(rpc_pb2.RPC(publish=[m])) for m in forged),
    )
    await a.counts("dropped_oversized")
    counts = a.transport.counters()
    assert counts["dropped_unsigned"] == 1
    assert counts["dropped_signature"] == 3
    assert counts["dropped_own"] == 1
    assert counts["dropped_malformed"] == 3
    assert a.payloads(TOPIC) == []
    await assert_alive(a, b)


async def test_a_frame_longer_than_allowed_ends_its_stream_and_no_more(mesh: Pair) -> None:
    """Defect 3: an endless or huge length prefix must cost nothing."""
    a, b = await mesh.pair()
    await send_raw(b, a, b"\xff" * 10)
    await a.counts("dropped_malformed")
    await send_raw(b, a, b"\xff\xff\xff\xff\x0f")
    await a.counts("dropped_oversized")
    await assert_alive(a, b)


async def test_a_good_message_written_by_hand_is_delivered(mesh: Pair) -> None:
    """The counterpart of the forged ones: what they lack is the signature alone."""
    a, b = await mesh.pair()

    async def sign(engine: libp2p_engine.Engine) -> Any:
        good = message(b, 9, data=b"signed")
        good.signature = engine._host.get_private_key().sign(
            PUBSUB_SIGNING_PREFIX.encode() + good.SerializeToString()
        )
        return good

    await send_raw(b, a, framed(rpc_pb2.RPC(publish=[await inside(b, sign)])))
    await a.hears(TOPIC, b"signed")


async def test_a_node_listens_only_when_its_services_run(mesh: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 4: a pubsub stream that comes before the service runs ends the node."""
    running = []
    listen = libp2p_engine.Engine._listen_on

    async def spy(engine: libp2p_engine.Engine, address: Any) -> Any:
        services = (engine._swarm, engine._pubsub, engine._router)
        running.append(all(hasattr(s, "_manager") and s.manager.is_running for s in services))
        running.append(engine._pubsub.event_handle_peer_queue_started.is_set())
        return await listen(engine, address)

    monkeypatch.setattr(libp2p_engine.Engine, "_listen_on", spy)
    port = free_port()
    early = await mesh.node("b", TOPIC)
    identity = libp2p_node(mesh.folder, "a").peer_id
    await early.transport.dial(f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity}")
    late = await mesh.node("a", TOPIC, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    await early.meets(late)
    await assert_alive(early, late)
    assert running == [True] * len(running)
    assert engine_of(late)._host.bootstrap is None


async def test_a_burst_larger_than_the_librarys_queues_arrives_whole(mesh: Pair) -> None:
    """Defect 5: subscription and outbound queues of 32 overflow in silence."""
    a, b = await mesh.pair()
    await asyncio.gather(*(a.transport.publish(TOPIC, b"%d" % number) for number in range(300)))
    await until(lambda: len(b.payloads(TOPIC)) == 300, "some were lost")
    assert a.transport.counters().get("dropped_outbound", 0) == 0


async def test_what_overflows_towards_a_slow_peer_is_counted(mesh: Pair) -> None:
    """Defect 5: the overflow is silent."""
    a, _ = await mesh.pair(outbound_queue_messages_max=4)

    async def flood(engine: libp2p_engine.Engine) -> None:
        for number in range(200):
            engine.publish(TOPIC, b"%d" % number)

    await inside(a, flood)
    await a.counts("dropped_outbound")


async def test_a_peer_lost_from_the_topic_is_taken_back_within_seconds(mesh: Pair) -> None:
    """Defect 6: the heartbeat, which repairs the topic's mesh, comes every two minutes."""
    a, b = await mesh.pair()
    await assert_alive(a, b)

    async def forget(engine: libp2p_engine.Engine) -> None:
        engine._router.mesh[TOPIC].clear()

    # Each engine's first heartbeat comes soon after its start; so the third repair needs a second one.
    for _ in range(3):
        await inside(a, forget)
        await inside(b, forget)
        await until(lambda: bool(engine_of(a)._router.mesh[TOPIC]), "the topic was not repaired", 5.0)
    await assert_alive(a, b, b"repaired")


async def test_what_was_published_while_a_peer_was_out_of_the_topic_reaches_it(mesh: Pair) -> None:
    """Beside 6: the library tells a peer that is back in the topic's mesh nothing of what it missed."""
    a, b = await mesh.pair()
    await assert_alive(a, b)

    async def leave_out(engine: libp2p_engine.Engine) -> None:
        peer, other = ID.from_base58(b.peer_id), create_new_key_pair()
        engine._router.mesh[TOPIC].discard(peer)
        # Another peer's: one's own go to everybody who joined the topic.
        engine._pubsub.take(ID.from_pubkey(other.public_key), signed(other, 1, b"missed"))
        engine._router.mesh[TOPIC].add(peer)
        engine._router._notify_mesh_peer_added(peer, TOPIC)

    await inside(a, leave_out)
    await b.hears(TOPIC, b"missed")


async def test_a_stale_record_does_not_drop_what_comes_with_it(mesh: Pair) -> None:
    """Defect 7: a stale signed peer record drops the whole RPC, SUBSCRIBE included."""
    a, b = await mesh.pair()

    async def records(engine: libp2p_engine.Engine) -> list[bytes]:
        host = engine._host
        made = [
            create_signed_peer_record(host.get_id(), host.get_addrs(), host.get_private_key()) for _ in range(2)
        ]
        return [record.marshal_envelope() for record in made]

    older, newer = await inside(b, records)
    rpcs = [
        rpc_pb2.RPC(senderRecord=record, subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic)])
        for record, topic in ((newer, "with newer"), (older, "with older"), (b"garbage", "with garbage"))
    ]
    await send_raw(b, a, *map(framed, rpcs))
    topics = engine_of(a)._pubsub.peer_topics
    await until(lambda: "with garbage" in topics, "a subscription was dropped")
    assert {"with newer", "with older"} <= set(topics)
    assert a.transport.counters()["dropped_record"] == 1


@pytest.mark.parametrize("wildcard", ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"])
async def test_listening_everywhere_advertises_concrete_addresses(mesh: Pair, wildcard: str) -> None:
    """Defect 8: listening on 0.0.0.0 advertises 0.0.0.0."""
    if ":" in wildcard and not any(":" in ip for ip in read_own_ips()):
        wildcard = "/ip4/0.0.0.0/tcp/0"
    a = await mesh.node("a", TOPIC, listen=(wildcard,))
    b = await mesh.node("b", TOPIC)
    hosts = {parse_address(text).host for text in a.transport.addresses}
    assert hosts
    assert hosts <= read_own_ips()
    assert len({parse_address(text).port for text in a.transport.addresses}) == 1
    await mesh.connect(b, a)
    told = b.transport.peers()[a.peer_id]
    assert set(told) == set(a.transport.addresses)
    await assert_alive(a, b)


async def test_a_taken_port_is_an_error_that_names_it(mesh: Pair) -> None:
    """Beside 8: the library lets two nodes share a port, and each gets some of the connections."""
    a = await mesh.node("a")
    address = str(parse_address(a.transport.addresses[0]).bare())
    with pytest.raises(TransportError, match=f"cannot listen on {address}"):
        await mesh.node("b", listen=(address,))


async def test_two_nodes_find_each_other_by_mdns_at_once(mesh: Pair) -> None:
    """Defect 9: the library's mDNS only reports, and blocks while it registers."""
    a = await mesh.node("a", TOPIC, mdns=True)
    b = await mesh.node("b", TOPIC, mdns=True)
    stranger = await mesh.node("c", mdns=True, mesh_name="another mesh")
    await until(lambda: b.peer_id in a.transport.peers(), "they did not find each other", 5.0)
    await b.meets(a)
    await assert_alive(a, b)
    assert dict(stranger.transport.peers()) == {}


async def test_a_lost_peer_is_dialled_until_it_is_back(mesh: Pair) -> None:
    """Defect 10: the library does not reconnect, and remembers failed dials."""
    port = free_port()
    a = await mesh.node("a", TOPIC)
    b = await mesh.node("b", TOPIC, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    await b.stop()
    await a.loses(b.peer_id)
    await a.counts("dials_failed")
    again = await mesh.node("b", TOPIC, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    await again.meets(a)
    await a.meets(again)
    await assert_alive(a, again)


async def test_of_two_connections_one_is_left_and_messages_go_on(mesh: Pair) -> None:
    """Defect 11: simultaneous dials leave two connections; ending one makes the peer forget subscriptions."""
    a, b = await mesh.node("a", TOPIC), await mesh.node("b", TOPIC)
    for one, other in ((a, b), (b, a)):
        address = parse_address(other.transport.addresses[0])

        async def dial(engine: libp2p_engine.Engine, address: Any = address) -> None:
            # The engine itself does not dial a connected peer.
            await engine._swarm.dial_addr(Multiaddr(str(address)), ID.from_base58(address.peer))

        await inside(one, dial)
    counts = (a.transport.counters, b.transport.counters)
    await until(lambda: sum(count().get("pruned", 0) for count in counts) == 1, "no connection was pruned")
    await until(
        lambda: len(engine_of(a)._links[b.peer_id]) == len(engine_of(b)._links[a.peer_id]) == 1, "two are left"
    )
    await assert_alive(a, b)
    assert a.disconnected() == b.disconnected() == []


async def test_who_left_while_it_joined_does_not_keep_its_place_in_the_topic(mesh: Pair) -> None:
    """What a peer sent just before it left is taken in after its end: six such, and no live peer gets a place."""
    a, b = await mesh.pair()
    ghosts = [ID.from_pubkey(create_new_key_pair().public_key) for _ in range(12)]

    async def haunt(engine: Any) -> None:
        engine._router.mesh[TOPIC].update(ghosts)
        for ghost in ghosts:
            engine._router.scorer.score(ghost, [TOPIC])

    await inside(a, haunt)
    router = engine_of(a)._router
    await until(lambda: not router.mesh[TOPIC] & set(ghosts), "who is not there keeps its place")
    assert not set(router.scorer.behavior_penalty) & set(ghosts)
    await assert_alive(a, b)


async def test_a_lost_stream_does_not_lose_what_the_peer_subscribed_to(mesh: Pair) -> None:
    """Defect 11: a stream that ends with one of two connections takes the peer's subscriptions with it."""
    a, b = await mesh.pair()
    await assert_alive(a, b)

    async def lose_stream(engine: libp2p_engine.Engine) -> None:
        engine._pubsub._handle_dead_peer(ID.from_base58(b.peer_id))

    await inside(a, lose_stream)
    await assert_alive(a, b, b"after the loss")


async def test_a_peer_back_before_its_old_connection_ended_is_told_the_subscriptions(mesh: Pair) -> None:
    """Defect 11: the library goes on with the old connection's stream, and greets the new one never."""
    smaller, greater = sorted(("x", "y"), key=lambda name: libp2p_node(mesh.folder, name).peer_id)
    # Of two, the smaller id prunes; here it is one peer twice, and neither of it has two connections.
    old, b = await mesh.node(smaller, TOPIC), await mesh.node(greater, TOPIC)
    await mesh.connect(old, b)
    await assert_alive(old, b)
    new = await mesh.node(smaller, TOPIC)
    await new.transport.dial(b.transport.addresses[0])
    await new.meets(b)
    await old.stop()
    # Not the other way round first: a message to the peer would show that its stream is dead.
    await new.transport.publish(TOPIC, b"as the new one")
    await b.hears(TOPIC, b"as the new one")
    await assert_alive(new, b)


async def test_a_peer_that_does_not_answer_pings_is_disconnected(mesh: Pair) -> None:
    """Defect 12: a dead host is not noticed."""
    a = await mesh.node("a", TOPIC, ping_interval_s=0.1, ping_timeout_s=0.5)
    # It does not ping itself, or else it would end the connection first, for it cannot.
    b = await mesh.node("b", TOPIC, ping_interval_s=60.0, stop_timeout_s=1.0)
    await mesh.connect(a, b)

    async def stall(_: bytes) -> None:
        await trio.sleep_forever()

    async def fall_silent(engine: libp2p_engine.Engine) -> None:
        for link in engine._links[a.peer_id]:
            link.muxed_conn._write_frame = stall

    await inside(b, fall_silent)
    assert (await a.loses(b.peer_id)).reason == "no answer to pings"


async def test_a_message_the_library_would_lose_is_refused(mesh: Pair) -> None:
    """Defect 13: publishing above 1 MiB is lost without an error."""
    a, b = await mesh.pair()
    for size in (900_001, 2_000_000):
        with pytest.raises(PayloadTooLarge):
            await a.transport.publish(TOPIC, bytes(size))
    await assert_alive(a, b)


async def test_the_engines_death_is_told_and_it_lives_again(mesh: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Defect 16: all rests on one thread; if it dies it must be started again, and that be said."""
    a, b = await mesh.pair()
    addresses = a.transport.addresses
    # Held on to, so that its sockets are not closed by chance, when it is collected as garbage.
    dead = engine_of(a)
    assert isinstance(a.transport, Libp2pTransport)
    assert a.transport._thread is not None

    def crash() -> None:
        raise RuntimeError("broken on purpose")

    with caplog.at_level(logging.CRITICAL):
        a.transport._thread.post(crash)
        await until(lambda: any(isinstance(e, TransportRestarted) for e in a.events), "it did not come back")
    assert [type(e).__name__ for e in a.events][:3] == ["PeerConnected", "PeerDisconnected", "TransportRestarted"]
    assert "broken on purpose" in next(e.reason for e in a.events if isinstance(e, TransportRestarted))
    assert a.transport.addresses == addresses
    assert engine_of(a) is not dead
    await a.meets(b)
    await b.meets(a)
    await a.transport.publish(TOPIC, b"alive again")
    await b.hears(TOPIC, b"alive again")
    await b.transport.publish(TOPIC, b"heard again")
    await a.hears(TOPIC, b"heard again")


def told_of(node: Node, peer: str) -> list[tuple[str, ...]]:
    """The addresses that a node was told each time that a peer was connected."""
    return [event.addresses for event in node.events if isinstance(event, PeerConnected) and event.peer == peer]


async def test_where_a_peer_listens_is_known_though_the_connection_it_came_by_is_closed_by_then(
    mesh: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11: of two connections one is pruned, and where a closed one led to cannot be asked any more.

    A peer on this host has then no address that counts, and nobody could look whether it died.
    """
    closed: set[int] = set()
    linked, asked = libp2p_engine.Engine.linked, LiveYamux.get_remote_address

    def link(engine: libp2p_engine.Engine, one: Any) -> None:
        linked(engine, one)
        closed.add(id(one.muxed_conn))

    monkeypatch.setattr(libp2p_engine.Engine, "linked", link)
    monkeypatch.setattr(LiveYamux, "get_remote_address", lambda one: None if id(one) in closed else asked(one))
    a, b = await mesh.pair()
    assert told_of(a, b.peer_id) == [tuple(b.transport.addresses)]
    assert told_of(b, a.peer_id) == [tuple(a.transport.addresses)]


async def test_a_peer_that_says_not_where_it_listens_listens_where_it_was_dialled(
    mesh: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_engine.Engine, "_learn", lambda *_: None)
    monkeypatch.setattr(libp2p_engine.Engine, "_stored", lambda *_: [])
    monkeypatch.setattr(libp2p_engine, "INTRODUCTION_S", 0.1)
    a, b = await mesh.pair()
    assert told_of(a, b.peer_id) == [tuple(b.transport.addresses)]
    assert told_of(b, a.peer_id) == [()]


async def test_a_peer_is_told_again_when_its_addresses_come_later_than_its_connection(mesh: Pair) -> None:
    a, b = await mesh.pair()

    async def learn_late(engine: libp2p_engine.Engine) -> None:
        engine._introduced[b.peer_id] = ()
        for _ in range(2):
            engine._learn(b.peer_id, list(b.transport.addresses))

    await inside(a, learn_late)
    await until(lambda: len(told_of(a, b.peer_id)) > 1, "it was not told again")
    assert told_of(a, b.peer_id) == [tuple(b.transport.addresses)] * 2


async def test_garbage_and_half_handshakes_on_the_port_are_counted_and_nothing_else(mesh: Pair) -> None:
    """Connections that never become a peer cost a slot for a while, and do not touch those that are."""
    a, b = await mesh.pair(handshake_timeout_s=2.0)
    where = ("127.0.0.1", parse_address(a.transport.addresses[0]).port)
    with socket.create_connection(where) as garbage, socket.create_connection(where) as half:
        garbage.sendall(bytes(range(256)) * 40)
        half.sendall(b"\x13/multistream/1.0.0\n")
        await a.counts("dropped_handshake", 2)
    with socket.create_connection(where):
        pass
    await a.counts("probed")
    await assert_alive(a, b)


async def test_connections_that_ended_give_their_slots_back(mesh: Pair) -> None:
    """The library keeps the slot of every incoming connection until the node ends."""
    a = await mesh.node("a", TOPIC, connections_max=3)
    for _ in range(5):
        visitor = await mesh.node("b", TOPIC)
        await visitor.transport.dial(a.transport.addresses[0])
        await visitor.meets(a)
        await visitor.stop()
        await until(lambda: not a.transport.peers(), "the visitor was not seen to leave")
    assert len(a.connected()) == 5


@pytest.mark.parametrize("found", ["0.9.0", None])
async def test_another_version_of_the_library_is_refused(
    mesh: Pair, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    """What is changed in the library was made for one version of it."""

    def version(_: str) -> str:
        if found is None:
            raise importlib.metadata.PackageNotFoundError
        return found

    monkeypatch.setattr(libp2p_version, "version", version)
    with pytest.raises(
        TransportError, match=r"libp2p (0\.9\.0 is|is not) installed, but the mesh needs version 0\.8\.1"
    ):
        await mesh.node("a")
    monkeypatch.undo()
    assert importlib.metadata.version("libp2p") == libp2p_version.LIBP2P_VERSION


STARTED = """
import asyncio, sys, pathlib
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings

async def main():
    transport = Libp2pTransport(MeshSettings(pathlib.Path(sys.argv[1]), ("/ip4/127.0.0.1/tcp/0",), mdns=False))
    await transport.start()
    await transport.stop()

asyncio.run(main())
print(" ".join(sys.modules))
"""


def test_a_node_starts_without_what_the_library_brings_along_for_nothing(tmp_path: Path) -> None:
    """Importing all of the library takes half of a node's start; speaks for ``bzzz.mesh.libp2p_import``."""
    command = [sys.executable, "-c", STARTED, str(tmp_path / "identity.key")]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert "libp2p.pubsub.gossipsub" in loaded
    assert {"aioquic", "OpenSSL", "requests", "dns.resolver", "zenoh"} & set(loaded) == set()


async def test_a_message_costs_no_record_made_or_verified_and_few_reads(
    mesh: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect 14: the sender's record is rebuilt for every message sent and verified for every one received."""
    a, b = await mesh.pair()
    await a.transport.publish(TOPIC, b"first")
    await b.hears(TOPIC, b"first")
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return count

    host = engine_of(a)._host
    monkeypatch.setattr(host, "get_addrs", counted("made", host.get_addrs))
    monkeypatch.setattr(libp2p_pubsub, "consume_envelope", counted("verified", consume_envelope))
    monkeypatch.setattr(yamux.YamuxStream, "read", counted("reads", yamux.YamuxStream.read))
    for number in range(50):
        await a.transport.publish(TOPIC, b"%d" % number)
    await until(lambda: len(b.payloads(TOPIC)) == 51, "some were dropped")
    assert (calls["made"], calls["verified"]) == (0, 0)
    assert calls["reads"] < 50 * 4


async def test_frames_are_split_wherever_the_stream_breaks_them() -> None:
    """Defect 14: reads go byte by byte; reading in bulk must give the same frames."""
    frames = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 70_000]
    data = b"".join(encode_varint_prefixed(frame) for frame in frames)

    class Stream:
        def __init__(self, piece: int) -> None:
            self.pieces = [data[at : at + piece] for at in range(0, len(data), piece)]

        async def read(self, n: int) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

    for piece in (1, 7, 1000, len(data)):
        reader = FrameReader(Stream(piece), 100_000)
        assert [await reader.next() for _ in frames] == frames
        with pytest.raises(EOFError):
            await reader.next()


def test_what_two_write_to_a_stream_at_once_does_not_mix() -> None:
    """Beside 14: the library sends a long message in pieces, and another's may come between them."""
    sent = bytearray()

    class Connection:
        async def _write_frame(self, frame: bytes) -> None:
            sent.extend(frame[yamux.HEADER_SIZE :])
            await trio.lowlevel.checkpoint()

    async def write() -> None:
        stream = MeshStream(1, Connection(), True)
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b"):
                nursery.start_soon(stream.write, letter * 100_000)

    trio.run(write)
    assert len(sent) == 200_000
    assert len(list(itertools.groupby(sent))) == 2

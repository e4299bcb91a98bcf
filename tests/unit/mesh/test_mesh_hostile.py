"""Peers that flood, stall, overrun and lie: bounded and counted, put out, and nobody else harmed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from tests.support.mesh_engine import (
    MESHSUB,
    TOPIC,
    Nodes,
    connect,
    engine_of,
    framed,
    held,
    inside,
    keys_of,
    nodes,
    send,
    send_frames,
    signed,
)
from tests.support.mesh_node import Node, until

from bzzz.mesh.address import parse_address
from bzzz.mesh.conduct import BURST_S, NEIGHBOUR_FACTOR, OFFENCES_BURST, PEERS_MAX, Conduct
from bzzz.mesh.libp2p_engine import Engine
from bzzz.mesh.libp2p_muxer import CONNECTION_BUFFER_BYTES_MAX, PINGS_BURST, LiveYamux
from bzzz.mesh.libp2p_patch import NEGOTIATION_BYTES_MAX
from bzzz.mesh.libp2p_pubsub import SUBSCRIPTIONS_PER_PEER_MAX, TOPIC_CHARS_MAX
from bzzz.mesh.libp2p_router import CONTROL_IDS_MAX, REPLY_BYTES_MAX, BoundedQueue
from bzzz.mesh.libp2p_stream import HANDSHAKE_BYTES_MAX, READ_BYTES_MAX, MeteredStream
from bzzz.mesh.seen import SeenMessages

# --- the parts ----------------------------------------------------------------------------------------------


def test_a_neighbour_and_an_author_may_send_so_much_and_no_more() -> None:
    conduct = Conduct(messages_per_s_max=10, bytes_per_s_max=1000)
    burst = int(10 * BURST_S)
    assert sum(conduct.may_write("author", 0.0) for _ in range(1000)) == burst
    assert sum(conduct.may_write("author", 1.0) for _ in range(1000)) == 10
    assert conduct.may_write("other", 0.0)
    assert sum(conduct.may_send("neighbour", 1, 0, 0.0) for _ in range(1000)) == burst * NEIGHBOUR_FACTOR
    assert sum(conduct.may_send("large", 0, 500, 0.0) for _ in range(1000)) == 1000 * BURST_S / 500


def test_offences_are_forgiven_with_time_and_not_without() -> None:
    conduct = Conduct(messages_per_s_max=10, bytes_per_s_max=1000)
    assert not any(conduct.offends("once an hour", 1.0, at * 3600.0) for at in range(1000))
    ended = [at for at in range(1000) if conduct.offends("at once", 1.0, 0.0)]
    assert ended[0] == OFFENCES_BURST
    assert conduct.offends("heavily", OFFENCES_BURST * 2, 0.0)


def test_what_is_remembered_of_peers_is_bounded() -> None:
    conduct = Conduct(messages_per_s_max=10, bytes_per_s_max=1000)
    for number in range(PEERS_MAX + 100):
        conduct.may_write(str(number), 0.0)
    assert len(conduct) == PEERS_MAX


def test_seen_messages_are_bounded_in_number_and_time() -> None:
    now = [0.0]
    seen = SeenMessages(ids_max=3, ttl_s=10.0, now_s=lambda: now[0])
    assert [seen.add(key) for key in (b"a", b"b", b"a", b"c")] == [True, True, False, True]
    seen.add(b"d")
    assert [seen.has(key) for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    now[0] = 9.0
    assert seen.has(b"a")
    now[0] = 10.0
    assert (seen.length(), seen.has(b"a"), seen.has(b"c")) == (3, True, False)
    now[0] = 1000.0
    assert not seen.has(b"a")
    assert seen.length() == 0
    seen.stop()


def test_a_queue_is_bounded_in_messages_and_in_bytes() -> None:
    small, large = rpc_pb2.RPC(), signed_rpc(1000)
    queue = BoundedQueue(messages_max=3, bytes_max=2500)
    assert [queue.push(small) for _ in range(4)] == [True, True, True, False]
    assert [queue.pop() for _ in range(4)] == [b"\x00", b"\x00", b"\x00", None]
    assert [queue.push(large) for _ in range(3)] == [True, True, False]
    assert queue.size_bytes == 2 * len(framed(large))
    queue.pop()
    queue.pop()
    assert queue.size_bytes == 0
    # One that is larger than all the room is sent when nothing else waits.
    assert queue.push(signed_rpc(5000))


def signed_rpc(size: int) -> Any:
    return rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(size))])


class Endless:
    """A stream that never ends."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(n)
        return bytes(min(n, 4096))


def test_who_has_not_shaken_hands_may_send_little_and_nobody_is_read_faster_than_allowed() -> None:
    async def read() -> float:
        stream = MeteredStream(Endless(), 100.0)
        for _ in range(HANDSHAKE_BYTES_MAX // 4096):
            await stream.read(2**62)
        with pytest.raises(IOException, match="before the handshake"):
            await stream.read(2**62)
        assert stream._stream.asked == [READ_BYTES_MAX] * (HANDSHAKE_BYTES_MAX // 4096 + 1)
        stream.is_admitted = True
        began = trio.current_time()
        for _ in range(1400):
            await stream.read(1)
        return trio.current_time() - began

    elapsed_s = trio.run(read, clock=trio.testing.MockClock(autojump_threshold=0))
    assert 10.0 <= elapsed_s <= 11.0


# --- nodes --------------------------------------------------------------------------------------------------


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with nodes(tmp_path) as started:
        yield started


async def trio_of(mesh: Nodes, **settings: Any) -> tuple[Node, Node, Node]:
    """A node, an honest peer of it, and a hostile one that nothing holds back."""
    a, honest = await mesh.node("a", **settings), await mesh.node("honest")
    hostile = await mesh.node("hostile", peer_messages_per_s_max=1e9, peer_bytes_per_s_max=1e12)
    await connect(honest, a)
    await connect(hostile, a)
    return a, honest, hostile


async def assert_unharmed(a: Node, honest: Node, mark: bytes = b"unharmed") -> None:
    await honest.transport.publish(TOPIC, mark)
    await a.hears(TOPIC, mark)
    await a.transport.publish(TOPIC, mark + b" too")
    await honest.hears(TOPIC, mark + b" too")
    assert "engine_deaths" not in a.transport.counters()
    assert honest.peer_id not in [event.peer for event in a.disconnected()]


async def test_whoever_floods_is_cut_off_and_kept_out_and_its_flood_goes_no_further(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh, peer_messages_per_s_max=25)
    allowed = 25 * BURST_S
    keys = keys_of(hostile)
    flood = [framed(rpc_pb2.RPC(publish=[signed(keys, number, b"flood")])) for number in range(2_000)]
    with contextlib.suppress(Exception):
        await send_frames(hostile, a, *flood)
    assert "flood" in (await a.loses(hostile.peer_id)).reason
    counts = a.transport.counters()
    assert counts["dropped_flood"] >= OFFENCES_BURST
    heard = a.payloads(TOPIC).count(b"flood")
    # A little more may come in while it lasts.
    assert allowed <= heard <= allowed * 2
    assert honest.payloads(TOPIC).count(b"flood") <= allowed * 2
    await a.counts("dropped_admission")
    assert hostile.peer_id not in a.transport.peers()
    await assert_unharmed(a, honest)


async def test_whoever_forwards_a_flood_is_not_to_blame_for_it(mesh: Nodes) -> None:
    a, honest, _ = await trio_of(mesh, peer_messages_per_s_max=25)
    stranger = create_new_key_pair()
    for start in range(0, 300, 50):
        await send(honest, a, *(signed(stranger, number, b"flood") for number in range(start, start + 50)))
    await a.counts("dropped_flood_forwarded", 100)
    await assert_unharmed(a, honest)


async def test_a_neighbour_that_sends_more_than_any_may_is_cut_off_whoever_wrote_it(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh, peer_messages_per_s_max=25)
    authors = [create_new_key_pair() for _ in range(100)]
    frames = [
        framed(rpc_pb2.RPC(publish=[signed(author, number, b"x") for author in authors])) for number in range(60)
    ]
    with contextlib.suppress(Exception):
        await send_frames(hostile, a, *frames)
    assert "flood" in (await a.loses(hostile.peer_id)).reason
    assert a.payloads(TOPIC).count(b"x") <= 2 * 25 * BURST_S * NEIGHBOUR_FACTOR
    await assert_unharmed(a, honest)


async def test_bytes_are_bounded_as_messages_are(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh, peer_bytes_per_s_max=100_000)
    frames = [framed(rpc_pb2.RPC(publish=[signed(None, 1, os.urandom(50_000))])) for _ in range(8)]
    with contextlib.suppress(Exception):
        await send_frames(hostile, a, *(frames * 20))
    await a.loses(hostile.peer_id)
    assert a.transport.counters()["dropped_flood"] >= OFFENCES_BURST
    await assert_unharmed(a, honest)


BAD = {
    "unsigned": lambda: rpc_pb2.RPC(publish=[rpc_pb2.Message(**_fields())]),
    "signature": lambda: rpc_pb2.RPC(publish=[rpc_pb2.Message(**_fields(), signature=bytes(64))]),
    "malformed": lambda: rpc_pb2.RPC(publish=[rpc_pb2.Message(**{**_fields(), "seqno": b"1"})]),
    "oversized": lambda: rpc_pb2.RPC(publish=[rpc_pb2.Message(**{**_fields(), "data": bytes(900_001)})]),
    "record": lambda: rpc_pb2.RPC(senderRecord=os.urandom(100)),
    "subscriptions": lambda: rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="x" * (TOPIC_CHARS_MAX + 1))]
    ),
}


def _fields() -> dict[str, Any]:
    author = ID.from_pubkey(create_new_key_pair().public_key).to_bytes()
    return {"data": b"bad", "topicIDs": [TOPIC], "from_id": author, "seqno": os.urandom(8)}


@pytest.mark.parametrize("what", sorted(BAD))
async def test_whoever_sends_what_no_honest_node_sends_is_cut_off_after_some_of_it(mesh: Nodes, what: str) -> None:
    a, honest, hostile = await trio_of(mesh, peer_bytes_per_s_max=1e12)
    with contextlib.suppress(Exception):
        await send_frames(hostile, a, *(framed(BAD[what]()) for _ in range(int(OFFENCES_BURST) + 20)))
    assert what in (await a.loses(hostile.peer_id)).reason
    assert OFFENCES_BURST <= a.transport.counters()[f"dropped_{what}"] <= OFFENCES_BURST + 20
    assert a.payloads(TOPIC) == []
    await assert_unharmed(a, honest)


async def test_subscriptions_and_control_messages_leave_nothing_behind(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)
    await assert_unharmed(a, honest, b"before")
    before = held(a)
    control = rpc_pb2.ControlMessage()
    for number in range(3000):
        control.graft.add(topicID=f"t{number}")
        prune = control.prune.add(topicID=f"t{number}", backoff=2**31)
        prune.peers.add(peerID=os.urandom(34), signedPeerRecord=os.urandom(50))
    control.ihave.add(topicID="nobody's", messageIDs=[os.urandom(30) for _ in range(1000)])
    control.idontwant.add(messageIDs=[os.urandom(1000) for _ in range(100)])
    topics = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{number}") for number in range(280)]
    await send_frames(hostile, a, framed(rpc_pb2.RPC(control=control)), framed(rpc_pb2.RPC(subscriptions=topics)))
    await a.counts("dropped_control", 7000)
    await a.counts("dropped_subscriptions", 20)
    grown = {name: size - before[name] for name, size in held(a).items() if size > before[name] + 10}
    expected = {"pubsub.peer_topics", "pubsub._replayed_recent_topics", "router._mesh_peer_events"}
    assert set(grown) <= expected, grown
    assert sum(grown.values()) <= 4 * SUBSCRIPTIONS_PER_PEER_MAX
    await assert_unharmed(a, honest)
    await hostile.stop()
    await a.loses(hostile.peer_id)
    after = held(a)
    assert {name for name, size in after.items() if size > before[name] + 10} == set()


async def test_a_message_asked_for_many_times_is_sent_once(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)
    await a.transport.publish(TOPIC, bytes(800_000))
    await honest.hears(TOPIC, bytes(800_000))

    async def ask(engine: Engine) -> tuple[int, int]:
        key = next(iter(engine._router.mcache.msgs))
        sent: list[Any] = []
        engine._router.send_rpc = lambda _, rpc, **__: sent.append(rpc)
        wanted = rpc_pb2.ControlIWant(messageIDs=[key] * 100_000)
        await engine._router.handle_iwant(wanted, ID.from_base58(hostile.peer_id))
        del engine._router.send_rpc
        return len(sent), sum(rpc.ByteSize() for rpc in sent)

    packets, size = await inside(a, ask)
    assert packets == 1
    assert size < REPLY_BYTES_MAX < CONTROL_IDS_MAX * 800_000


async def test_connections_that_say_nothing_are_bounded_and_leave_room_for_others(mesh: Nodes) -> None:
    a = await mesh.node("a", handshakes_per_ip_max=8, handshakes_max=12, handshake_timeout_s=20.0)
    port = parse_address(a.transport.addresses[0]).port
    held_open: list[socket.socket] = []
    try:
        for number in range(1_000):
            sock = socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.0.{2 + number % 2}", 0))
            sock.sendall(b"\x13/multistream/1.0.0\n" if number % 3 else b"\x13")
            held_open.append(sock)
        await a.counts("dropped_connections", 988)
        swarm = engine_of(a)._swarm
        assert swarm.handshakes.total() <= 12
        assert max(swarm.handshakes.values()) <= 8
        assert swarm.guests.total() <= 12
        for sock in held_open[:200]:
            sock.close()
        honest = await mesh.node("honest")
        await until(lambda: swarm.handshakes.total() < 12, "no slot became free")
        await connect(honest, a)
        await assert_unharmed(a, honest)
    finally:
        for sock in held_open:
            sock.close()
    await until(lambda: swarm.handshakes.total() == 0, "slots were not given back")
    assert set(swarm.guests) <= {"127.0.0.1"}


async def test_one_address_cannot_take_all_connections(mesh: Nodes) -> None:
    a = await mesh.node("a", connections_per_ip_max=2)
    visitors = [await mesh.node(name) for name in ("x", "y", "z")]
    for visitor in visitors:
        await visitor.transport.dial(a.transport.addresses[0])
    await a.counts("dropped_connections")
    await until(lambda: len(a.transport.peers()) == 2, "those within the bound were not let in")
    # What this node dials itself is not bounded so.
    left = next(visitor for visitor in visitors if visitor.peer_id not in a.transport.peers())
    await a.transport.dial(left.transport.addresses[0])
    await a.meets(left)


def frame(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream_id, length)


async def write_muxed(hostile: Node, victim: Node, *frames: bytes) -> None:
    """Write bytes to a connection as they are, past all the rules of its streams."""

    async def write(engine: Engine) -> None:
        conn = engine._links[victim.peer_id][0].muxed_conn
        for data in frames:
            async with conn._write_lock:
                await conn.secured_conn.write(data)

    with contextlib.suppress(Exception):
        await inside(hostile, write)


def muxed(node: Node, peer: Node) -> LiveYamux:
    conn = engine_of(node)._links[peer.peer_id][0].muxed_conn
    assert isinstance(conn, LiveYamux)
    return conn


async def test_whoever_sends_more_than_its_window_is_cut_off(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)
    conn = muxed(a, hostile)
    # Ids of the side that dialled are odd; nobody has so many streams yet.
    opening = frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, 1001, 0)
    body = frame(yamux.TYPE_DATA, 0, 1001, 60_000) + bytes(60_000)
    largest = 0

    async def watch(_: Engine) -> None:
        nonlocal largest
        while not conn.is_closed:
            largest = max(largest, conn.buffered_bytes)
            await trio.sleep(0.001)

    watching = asyncio.create_task(inside(a, watch))
    await write_muxed(hostile, a, opening, *([body] * 400))
    assert "window" in (await a.loses(hostile.peer_id)).reason
    await watching
    assert largest <= CONNECTION_BUFFER_BYTES_MAX
    await assert_unharmed(a, honest)


async def test_a_frame_larger_than_any_window_is_not_waited_for(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)
    await write_muxed(hostile, a, frame(yamux.TYPE_DATA, yamux.FLAG_SYN, 1001, 2**32 - 1))
    await a.loses(hostile.peer_id)
    await assert_unharmed(a, honest)


async def test_streams_of_one_connection_are_bounded(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh, streams_per_connection_max=20, handshake_timeout_s=20.0)
    conn = muxed(a, hostile)
    await write_muxed(
        hostile, a, *(frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, 1001 + 2 * n, 0) for n in range(40))
    )
    await a.counts("offences")
    await until(lambda: len(conn.streams) <= 25, "streams were kept")
    await write_muxed(
        hostile, a, *(frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, 2001 + 2 * n, 0) for n in range(200))
    )
    assert "streams" in (await a.loses(hostile.peer_id)).reason
    await assert_unharmed(a, honest)


async def test_pings_are_answered_so_often_and_no_more(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)
    pings = [frame(yamux.TYPE_PING, yamux.FLAG_SYN, 0, number) for number in range(int(PINGS_BURST) + 100)]
    await write_muxed(hostile, a, *pings)
    assert "pings" in (await a.loses(hostile.peer_id)).reason
    await assert_unharmed(a, honest)


async def test_a_negotiation_has_short_lines(mesh: Nodes) -> None:
    a, honest, hostile = await trio_of(mesh)

    async def talk(engine: Engine) -> bytes:
        stream = await engine._swarm.new_stream(ID.from_base58(a.peer_id))
        await stream.write(b"\x13/multistream/1.0.0\n" + b"\xff\xff\xff\x7f" + bytes(NEGOTIATION_BYTES_MAX))
        heard = b""
        with contextlib.suppress(StreamError), trio.fail_after(3.0):
            while True:
                heard += await stream.read(64)
        return heard

    # The answer to the first line, and then the end; not a wait for what will never be said.
    assert await inside(hostile, talk) == b"\x13/multistream/1.0.0\n"
    await assert_unharmed(a, honest)


async def test_a_peer_that_takes_nothing_is_ended_and_costs_no_more_than_its_queue(mesh: Nodes) -> None:
    queue_bytes, never_s = 2_000_000, 3600.0
    settings = {"write_timeout_s": 3.0, "outbound_queue_bytes_max": queue_bytes}
    a = await mesh.node("a", ping_interval_s=never_s, **settings)
    # Whoever is stopped does not look for answers to its own pings, nor ends the connection for want of them.
    honest, hostile = await mesh.node("honest"), await mesh.node("hostile", ping_interval_s=never_s)
    await connect(honest, a)
    await connect(hostile, a)
    await assert_unharmed(a, honest, b"before")
    await hostile.hears(TOPIC, b"before")

    async def nothing(*_: Any) -> None:
        await trio.sleep_forever()

    async def fall_asleep(engine: Engine) -> None:
        # Nothing is read from the socket any more, as if the process were stopped with its kernel awake.
        for link in engine._links[a.peer_id]:
            link.muxed_conn._session.fill = nothing

    async def keep_little_in_the_kernel(engine: Engine) -> None:
        # It can hold all that the muxer's window allows to be sent, and then no write waits.
        for stream in engine._swarm._streams:
            stream.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    await inside(a, keep_little_in_the_kernel)
    await inside(hostile, fall_asleep)
    queue = engine_of(a)._pubsub.peer_queues[ID.from_base58(hostile.peer_id)]._queue
    largest = 0
    for number in range(80):
        payload = bytes([number]) * 400_000
        await a.transport.publish(TOPIC, payload)
        largest = max(largest, queue.size_bytes)
        await honest.hears(TOPIC, payload)
        if a.disconnected():
            break
    assert (await a.loses(hostile.peer_id)).reason == "takes nothing"
    assert a.transport.counters()["dropped_outbound"] > 0
    assert largest <= queue_bytes
    await assert_unharmed(a, honest)


async def test_an_unread_stream_is_ended_and_its_peer_cut_off_when_it_goes_on_so(
    mesh: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, honest, hostile = await trio_of(mesh, peer_bytes_per_s_max=1e12)
    monkeypatch.setattr("bzzz.mesh.libp2p_pubsub._STALL_WEIGHT", OFFENCES_BURST + 1)

    async def nothing(*_: Any) -> None:
        await trio.sleep_forever()

    async def stop_reading(engine: Engine) -> None:
        for stream in list(engine._links[a.peer_id][0].streams):
            if str(stream.get_protocol()) == MESHSUB:
                stream.muxed_stream.read = nothing

    await assert_unharmed(a, honest, b"before")
    await hostile.hears(TOPIC, b"before")
    await inside(hostile, stop_reading)
    for number in range(4):
        payload = bytes([number]) * 500_000
        await a.transport.publish(TOPIC, payload)
        await honest.hears(TOPIC, payload)
    assert "stalled" in (await a.loses(hostile.peer_id)).reason
    await assert_unharmed(a, honest)

"""What the ``Transport`` port promises, asked of every adapter."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mesh_node import Node, libp2p_settings, until, zenoh_settings

from bzzz.errors import PayloadTooLarge, RequestFailed, TransportError
from bzzz.mesh.identity import load_identity
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.memory import MemoryNetwork, MemoryTransport
from bzzz.mesh.request import RequestBounds
from bzzz.mesh.zenoh_transport import ZenohTransport
from bzzz.ports import PeerConnected, Probe, Received, Transport

TOPIC = "bzzz/coordination/v1"
OTHER = "antennae/meta-discussion/v1"


class Mesh:
    """Makes transports of one adapter that can reach each other; the same name is the same identity."""

    def __init__(self, adapter: str, folder: Path) -> None:
        self.adapter = adapter
        self.folder = folder
        self.network = MemoryNetwork()
        self.nodes: list[Node] = []

    def transport(self, name: str, **settings: Any) -> Transport:
        if self.adapter == "memory":
            return MemoryTransport(self.network, load_identity(self.folder / f"{name}.key"), **settings)
        if self.adapter == "zenoh":
            return ZenohTransport(zenoh_settings(self.folder, name, **settings))
        return Libp2pTransport(libp2p_settings(self.folder, name, **settings))

    def node(self, name: str, **settings: Any) -> Node:
        node = Node(self.transport(name, **settings))
        self.nodes.append(node)
        return node

    async def line(self, *names: str, topics: tuple[str, ...] = (TOPIC,)) -> list[Node]:
        """Started nodes, each connected to the next."""
        nodes = [await self.node(name).start(*topics) for name in names]
        for one, other in itertools.pairwise(nodes):
            await one.transport.dial(other.transport.addresses[0])
            await one.meets(other)
            await other.meets(one)
        return nodes


@pytest.fixture(params=["memory", "libp2p", "zenoh"])
async def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(request.param, tmp_path)
    yield mesh
    await asyncio.gather(*(node.stop() for node in mesh.nodes))


async def test_a_message_reaches_who_joined_its_topic_and_names_its_author(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    await a.transport.publish(TOPIC, b"\x00bytes\xff")
    await b.hears(TOPIC, b"\x00bytes\xff")
    assert [e for e in b.events if isinstance(e, Received)] == [Received(TOPIC, a.peer_id, b"\x00bytes\xff")]


async def test_own_messages_do_not_come_back(mesh: Mesh) -> None:
    a, _, c = await mesh.line("a", "b", "c")
    await a.transport.publish(TOPIC, b"own")
    await c.hears(TOPIC, b"own")
    await c.transport.publish(TOPIC, b"answer")
    await a.hears(TOPIC, b"answer")
    assert a.payloads(TOPIC) == [b"answer"]


async def test_the_peer_of_a_forwarded_message_is_its_author(mesh: Mesh) -> None:
    a, _, c = await mesh.line("a", "b", "c")
    await a.transport.publish(TOPIC, b"through b")
    await c.hears(TOPIC, b"through b")
    assert a.peer_id not in c.transport.peers()
    assert [e.peer for e in c.events if isinstance(e, Received)] == [a.peer_id]


async def test_only_joined_topics_are_received(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b", topics=(TOPIC, OTHER))
    await b.transport.join(TOPIC)
    await b.transport.leave(TOPIC)
    await b.transport.leave("never joined")
    await a.transport.publish(TOPIC, b"left")
    await a.transport.publish(OTHER, b"stayed")
    await b.hears(OTHER, b"stayed")
    assert b.payloads(TOPIC) == []


async def test_a_topic_left_can_be_joined_again(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    await b.transport.leave(TOPIC)
    await b.transport.join(TOPIC)
    await a.transport.publish(TOPIC, b"again")
    await b.hears(TOPIC, b"again")


async def test_a_topic_joined_before_the_start_is_received(mesh: Mesh) -> None:
    a = await mesh.node("a").start()
    b = mesh.node("b")
    await b.transport.join(TOPIC)
    await b.transport.dial(a.transport.addresses[0])
    await b.start()
    await b.meets(a)
    await a.meets(b)
    await a.transport.publish(TOPIC, b"early")
    await b.hears(TOPIC, b"early")


async def test_a_payload_at_the_limit_arrives_and_above_it_is_refused(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    with pytest.raises(PayloadTooLarge, match="900001 bytes"):
        await a.transport.publish(TOPIC, bytes(900_001))
    largest = bytes(900_000)
    await a.transport.publish(TOPIC, largest)
    await b.hears(TOPIC, largest)


async def test_connections_and_their_ends_are_told_on_both_sides(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    await until(lambda: b.connected() == [a.peer_id], "b was not told of a")
    assert [e for e in a.events if isinstance(e, PeerConnected)] == [
        PeerConnected(b.peer_id, b.transport.addresses)
    ]
    assert dict(a.transport.peers()) == {b.peer_id: b.transport.addresses}
    await b.stop()
    assert (await a.loses(b.peer_id)).reason
    assert dict(a.transport.peers()) == {}


async def test_a_peer_that_comes_back_with_its_identity_is_heard_again(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    await b.stop()
    await a.loses(b.peer_id)
    again = await mesh.node("b").start(TOPIC)
    assert again.peer_id == b.peer_id
    await again.transport.dial(a.transport.addresses[0])
    await again.meets(a)
    await again.transport.publish(TOPIC, b"back")
    await a.hears(TOPIC, b"back")


async def test_a_probe_is_answered_while_a_node_listens_and_refused_afterwards(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    address = b.transport.addresses[0]
    assert await a.transport.probe(address, 5.0) is Probe.ANSWERED
    await b.stop()
    assert await a.transport.probe(address, 5.0) is Probe.REFUSED
    with pytest.raises(TransportError, match="nonsense"):
        await a.transport.probe("nonsense", 5.0)


async def test_stopping_twice_is_stopping_once_and_ends_a_waiting_reader(mesh: Mesh) -> None:
    a = await mesh.node("a").start(reads=False)
    reading = asyncio.create_task(a.transport.receive())
    await asyncio.sleep(0)
    await a.transport.stop()
    await a.transport.stop()
    with pytest.raises(TransportError, match="stopped"):
        await reading
    with pytest.raises(TransportError):
        await a.transport.publish(TOPIC, b"late")


async def test_nothing_can_be_sent_or_received_before_the_start(mesh: Mesh) -> None:
    transport = mesh.node("a").transport
    assert transport.addresses == ()
    assert dict(transport.peers()) == {}
    with pytest.raises(TransportError, match="start"):
        await transport.publish(TOPIC, b"early")
    with pytest.raises(TransportError, match="start"):
        await transport.receive()


async def test_a_transport_starts_once(mesh: Mesh) -> None:
    a = await mesh.node("a").start()
    with pytest.raises(TransportError, match="before"):
        await a.transport.start()


@pytest.mark.parametrize("address", ["", "127.0.0.1:3333", "/ip4/127.0.0.1/tcp/1", "/ip4/1.2.3/tcp/1/p2p/x"])
async def test_dialling_what_is_no_address_of_a_peer_is_an_error(mesh: Mesh, address: str) -> None:
    a = await mesh.node("a").start()
    with pytest.raises(TransportError, match="cannot dial"):
        await a.transport.dial(address)


async def test_messages_are_counted(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    for number in range(3):
        await a.transport.publish(TOPIC, b"%d" % number)
    await until(lambda: len(b.payloads(TOPIC)) == 3, "not all arrived")
    assert a.transport.counters()["published"] == 3
    assert b.transport.counters()["received"] == 3
    assert b.transport.counters()["dropped_queue"] == 0


async def test_what_is_not_read_is_bounded_and_its_overflow_counted(mesh: Mesh) -> None:
    a = await mesh.node("a").start(TOPIC)
    b = await mesh.node("b", receive_queue_messages_max=5).start(TOPIC, reads=False)
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    for number in range(20):
        await a.transport.publish(TOPIC, b"%d" % number)
    await b.counts("dropped_queue", 15)
    kinds = [type(await b.transport.receive()) for _ in range(6)]
    assert kinds.count(Received) == 5
    assert kinds.count(PeerConnected) == 1


async def test_a_burst_of_messages_among_three_nodes_arrives_whole(mesh: Mesh) -> None:
    nodes = await mesh.line("a", "b", "c")
    await nodes[0].transport.dial(nodes[2].transport.addresses[0])
    await nodes[0].meets(nodes[2])
    sent = [b"%d" % number for number in range(500)]
    await asyncio.gather(*(nodes[at % 3].transport.publish(TOPIC, payload) for at, payload in enumerate(sent)))
    for at, node in enumerate(nodes):
        expected = sorted(payload for number, payload in enumerate(sent) if number % 3 != at)
        await until(lambda n=node, e=expected: len(n.payloads(TOPIC)) >= len(e), "some were lost")  # type: ignore[misc]
        assert sorted(node.payloads(TOPIC)) == expected


# --- requests ----------------------------------------------------------------------------------------------

KIND = "test/transcript"


async def echo(peer: str, payload: bytes) -> bytes:
    return peer.encode() + b" asked " + payload


async def test_a_request_is_answered_by_the_peer_asked_and_says_who_asks(mesh: Mesh) -> None:
    a, b, c = await mesh.line("a", "b", "c")
    for node in (a, b, c):
        node.transport.serve(KIND, echo)
    answers: tuple[bytes, ...] = await asyncio.gather(
        a.transport.request(b.peer_id, KIND, b"\x00one\xff", 10.0),
        c.transport.request(b.peer_id, KIND, b"", 10.0),
        b.transport.request(a.peer_id, KIND, b"three", 10.0),
    )
    assert list(answers) == [
        f"{a.peer_id} asked ".encode() + b"\x00one\xff",
        f"{c.peer_id} asked ".encode(),
        f"{b.peer_id} asked three".encode(),
    ]
    assert b.transport.counters()["requests_answered"] == 2
    assert a.transport.counters()["requests_asked"] == 1


async def test_a_request_and_an_answer_larger_than_any_message_arrive_whole(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")

    async def turned(_: str, payload: bytes) -> bytes:
        return payload[::-1]

    b.transport.serve(KIND, turned)
    large = bytes(range(256)) * 8192 + b"the end"
    assert await a.transport.request(b.peer_id, KIND, large, 30.0) == large[::-1]


async def test_what_is_too_large_to_ask_or_to_answer_is_refused(mesh: Mesh) -> None:
    bounds = RequestBounds(bytes_max=1000)
    a = await mesh.node("a", requests=bounds).start()
    b = await mesh.node("b").start()
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    await b.meets(a)

    async def much(_: str, payload: bytes) -> bytes:
        return payload * 2

    for node in (a, b):
        node.transport.serve(KIND, much)
    with pytest.raises(PayloadTooLarge, match="1001 bytes"):
        await a.transport.request(b.peer_id, KIND, bytes(1001), 10.0)
    with pytest.raises(RequestFailed):
        await b.transport.request(a.peer_id, KIND, bytes(600), 10.0)
    assert a.transport.counters()["dropped_request_answer_oversized"] == 1
    assert len(await b.transport.request(a.peer_id, KIND, bytes(500), 10.0)) == 1000


async def test_a_request_that_nobody_answers_fails_by_its_deadline_and_its_work_ends_with_it(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    given_up = asyncio.Event()

    async def never(_: str, __: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return b""

    b.transport.serve(KIND, never)
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(b.peer_id, KIND, b"", 0.3)
    assert caught.value.reason in ("timeout", "failed")
    async with asyncio.timeout(10):
        await given_up.wait()
    await b.counts("dropped_request_late")


async def test_a_kind_that_nobody_serves_and_a_handler_that_breaks_are_told_apart(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")

    async def breaks(_: str, __: bytes) -> bytes:
        raise ValueError("the secret of b")

    b.transport.serve("test/broken", breaks)
    with pytest.raises(RequestFailed, match="test/unknown") as caught:
        await a.transport.request(b.peer_id, "test/unknown", b"", 10.0)
    assert caught.value.reason == "unserved"
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(b.peer_id, "test/broken", b"", 10.0)
    assert caught.value.reason == "failed"
    assert "secret" not in str(caught.value)
    counts = b.transport.counters()
    assert (counts["dropped_request_unserved"], counts["dropped_request_failed"]) == (1, 1)
    assert a.transport.counters()["requests_failed_unserved"] == 1


async def test_who_is_not_connected_is_not_asked(mesh: Mesh) -> None:
    a, _, c = await mesh.line("a", "b", "c")
    c.transport.serve(KIND, echo)
    assert c.peer_id not in a.transport.peers()
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(c.peer_id, KIND, b"", 10.0)
    assert caught.value.reason == "unconnected"
    for kind, timeout_s in (("No kind", 1.0), ("", 1.0), ("x" * 65, 1.0), (KIND, 0.0), (KIND, 1e9)):
        with pytest.raises(TransportError):
            await a.transport.request(c.peer_id, kind, b"", timeout_s)
    with pytest.raises(TransportError, match="start"):
        await mesh.transport("d").request(c.peer_id, KIND, b"", 1.0)


async def test_more_requests_than_one_peer_may_have_open_are_refused_at_once_and_counted(mesh: Mesh) -> None:
    a = await mesh.node("a").start()
    b = await mesh.node("b", requests=RequestBounds(served_per_peer_max=2)).start()
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    release, begun = asyncio.Event(), []

    async def held(_: str, payload: bytes) -> bytes:
        begun.append(payload)
        await release.wait()
        return payload

    b.transport.serve(KIND, held)
    asked = [asyncio.create_task(a.transport.request(b.peer_id, KIND, b"%d" % n, 20.0)) for n in range(2)]
    await until(lambda: len(begun) == 2, "they were not begun")
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(b.peer_id, KIND, b"third", 20.0)
    assert caught.value.reason == "busy"
    assert b.transport.counters()["dropped_request_busy"] == 1
    release.set()
    assert [await one for one in asked] == [b"0", b"1"]
    assert await a.transport.request(b.peer_id, KIND, b"again", 20.0) == b"again"


async def test_more_own_requests_than_may_wait_fail_at_once(mesh: Mesh) -> None:
    a = await mesh.node("a", requests=RequestBounds(asked_max=1)).start()
    b = await mesh.node("b").start()
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    release, begun = asyncio.Event(), asyncio.Event()

    async def held(_: str, payload: bytes) -> bytes:
        begun.set()
        await release.wait()
        return payload

    b.transport.serve(KIND, held)
    first = asyncio.create_task(a.transport.request(b.peer_id, KIND, b"first", 20.0))
    await begun.wait()
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(b.peer_id, KIND, b"second", 20.0)
    assert caught.value.reason == "crowded"
    release.set()
    assert await first == b"first"


async def test_a_peer_that_asks_too_often_is_refused_and_counted(mesh: Mesh) -> None:
    a = await mesh.node("a").start()
    b = await mesh.node("b", requests=RequestBounds(peer_requests_per_s_max=0.01)).start()
    await a.transport.dial(b.transport.addresses[0])
    await a.meets(b)
    b.transport.serve(KIND, echo)
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(b.peer_id, KIND, b"", 10.0)
    assert caught.value.reason == "busy"
    assert b.transport.counters()["dropped_request_flood"] == 1


async def test_a_request_to_a_peer_that_goes_away_fails_and_holds_nothing(mesh: Mesh) -> None:
    a, b = await mesh.line("a", "b")
    begun = asyncio.Event()

    async def never(_: str, __: bytes) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    b.transport.serve(KIND, never)
    asked = asyncio.create_task(a.transport.request(b.peer_id, KIND, b"", 8.0))
    async with asyncio.timeout(10):
        await begun.wait()
    await b.stop()
    with pytest.raises(RequestFailed):
        async with asyncio.timeout(12):
            await asked

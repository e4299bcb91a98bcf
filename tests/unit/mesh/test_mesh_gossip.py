"""Addresses told over the mesh: what is believed of them, what is bounded, and what they make of a star."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.mesh_node import Node, libp2p_node, until

from bzzz.errors import PeerError
from bzzz.mesh.address import Address, parse_address
from bzzz.mesh.address_gossip import (
    ADDRESS_MESSAGE_BYTES_MAX,
    ADDRESS_MESSAGES_BURST,
    ADDRESS_TOPIC,
    AddressBook,
    write_addresses,
)
from bzzz.mesh.bucket import Bucket
from bzzz.mesh.libp2p_dialler import Dialler

PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
OTHER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
OWN = [parse_address("/ip4/192.0.2.2/tcp/4001")]


def read(told: list[str], own: list[Address] = OWN) -> list[str]:
    payload = json.dumps({"addresses": told}).encode()
    return [str(address) for address in AddressBook(own).read(payload, PEER, 0.0)]


def test_a_node_tells_where_it_listens_and_is_read() -> None:
    own = [parse_address(f"/ip4/{ip}/tcp/7/p2p/{PEER}") for ip in ("127.0.0.1", "192.0.2.7")]
    payload = write_addresses(own)
    assert json.loads(payload) == {"addresses": ["/ip4/192.0.2.7/tcp/7"]}
    assert AddressBook(OWN).read(payload, PEER, 0.0) == (own[1],)
    assert json.loads(write_addresses(own[:1])) == {"addresses": ["/ip4/127.0.0.1/tcp/7"]}


def test_addresses_that_lead_nowhere_or_astray_are_left() -> None:
    good = f"/ip4/192.0.2.2/tcp/4002/p2p/{PEER}"
    told = [
        "/ip4/127.0.0.1/tcp/7",
        "/ip4/192.0.2.2/tcp/4001",
        "/ip4/192.0.2.2/tcp/4002",
        "/ip4/0.0.0.0/tcp/7",
        "/ip4/192.0.2.9/tcp/0",
        "/dns4/internal.example/tcp/7",
        f"/ip4/192.0.2.9/tcp/7/p2p/{OTHER}",
        "junk",
    ]
    assert read(told) == [good]
    assert read(told[:1], [parse_address("/ip4/127.0.0.1/tcp/1")]) == [f"/ip4/127.0.0.1/tcp/7/p2p/{PEER}"]
    assert len(read([f"/ip4/10.0.0.{number}/tcp/7" for number in range(200)])) == 8


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"addresses": 1}',
        b'{"addresses": [1]}',
        b"[" * 8000,
        b"1" * 5000,
        bytes(ADDRESS_MESSAGE_BYTES_MAX + 1),
    ],
)
def test_what_is_no_such_message_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerError, match=r"^addresses: "):
        AddressBook(OWN).read(payload, PEER, 0.0)


def test_a_peer_is_read_only_so_often() -> None:
    book = AddressBook(OWN)
    payload = write_addresses(OWN)
    for _ in range(ADDRESS_MESSAGES_BURST):
        book.read(payload, PEER, 0.0)
    with pytest.raises(PeerError, match="addresses_flood"):
        book.read(payload, PEER, 0.0)
    book.read(payload, OTHER, 0.0)
    book.read(payload, PEER, 2.0)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate_per_s=2.0, burst=3.0, now_s=10.0)
    assert [bucket.take(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(1, 10.4)
    assert bucket.take(1, 10.5)
    assert not bucket.is_full(11.9)
    assert bucket.is_full(12.0)
    assert not bucket.take(4, 100.0)


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    nodes: list[Node] = []
    yield nodes
    await asyncio.gather(*(node.stop() for node in nodes))


async def star(folder: Path, nodes: list[Node], **settings: bool) -> None:
    for name in ("hub", "one", "two"):
        seeds = nodes[0].transport.addresses if nodes else ()
        node = libp2p_node(folder, name, static_peers=seeds, **settings)
        nodes.append(node)
        await node.start()
        await node.meets(*nodes[:1] if len(nodes) > 1 else [])


async def test_a_star_becomes_a_mesh(tmp_path: Path, nodes: list[Node]) -> None:
    await star(tmp_path, nodes)
    await nodes[1].meets(nodes[2])
    await nodes[2].meets(nodes[1])
    assert all(ADDRESS_TOPIC not in str(event) for node in nodes for event in node.events)


async def test_with_gossip_off_a_star_stays_one(tmp_path: Path, nodes: list[Node]) -> None:
    await star(tmp_path, nodes, gossip_addresses=False)
    await nodes[1].transport.join("x")
    await nodes[2].transport.publish("x", b"through the hub")
    assert nodes[2].peer_id not in nodes[1].transport.peers()
    assert "addresses_told" not in nodes[0].transport.counters()


# --- the dialler, in virtual time ---------------------------------------------------------------------------


class World:
    """Peers that answer where they are said to, and a dialler that tries them."""

    def __init__(self, discovered_max: int = 8) -> None:
        self.there: dict[str, str] = {}
        self.refusing: set[str] = set()
        self.up: set[str] = set()
        self.tried: list[tuple[float, str]] = []
        self.counts: Counter[str] = Counter()
        self.dialler = Dialler(
            "zz", self._dial, self.up.__contains__, timeout_s=5.0, discovered_max=discovered_max, counts=self.counts
        )

    async def _dial(self, address: Address) -> str:
        await trio.lowlevel.checkpoint()
        self.tried.append((trio.current_time(), address.host))
        if address.host in self.refusing:
            raise PeerError("admission", "it does not prove it")
        peer = self.there.get(address.host)
        if peer is None or address.peer not in {None, peer}:
            raise OSError("nobody there")
        if peer != "zz":
            self.up.add(peer)
            self.dialler.nudge(peer)
        return peer

    def lose(self, peer: str) -> None:
        self.up.discard(peer)
        self.dialler.nudge(peer)

    def tries(self, host: str) -> list[float]:
        return [round(at, 3) for at, tried in self.tried if tried == host]


def seed(host: str) -> Address:
    return Address("ip4", host, 1)


# In virtual time, where it costs nothing.
elapse = trio.sleep


def in_virtual_time(play: object) -> None:
    """Run a coroutine function of a nursery where sleeping costs nothing."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await play(nursery)  # type: ignore[operator]
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_seed_that_left_its_name_is_not_dialled_any_more() -> None:
    world = World()

    async def play(nursery: trio.Nursery) -> None:
        nursery.start_soon(world.dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        world.dialler.want_seeds("name", [seed("10.0.0.1"), seed("10.0.0.2")])
        await elapse(60)
        assert world.tries("10.0.0.1")
        world.dialler.want_seeds("name", [seed("10.0.0.2")])
        before = len(world.tries("10.0.0.1"))
        await elapse(60)
        assert len(world.tries("10.0.0.1")) == before
        assert len(world.tries("10.0.0.2")) > before
        world.there["10.0.0.2"] = "peer"
        await elapse(20)
        assert world.up == {"peer"}
        assert world.dialler.wishes == 1

    in_virtual_time(play)


def test_a_seed_that_is_this_node_is_left_alone_for_long() -> None:
    world = World()
    world.there["10.0.0.1"] = "zz"

    async def play(nursery: trio.Nursery) -> None:
        nursery.start_soon(world.dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        world.dialler.want_seeds("name", [seed("10.0.0.1")])
        await elapse(55)
        assert len(world.tries("10.0.0.1")) == 1

    in_virtual_time(play)


def test_who_refuses_is_tried_again_after_growing_pauses_whatever_is_heard_of_it() -> None:
    world = World()
    world.refusing.add("10.0.0.1")

    async def play(nursery: trio.Nursery) -> None:
        nursery.start_soon(world.dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(600):
            world.dialler.want((Address("ip4", "10.0.0.1", 1, "peer"),), lasting=True)
            await elapse(1)
        assert 10 < len(world.tries("10.0.0.1")) < 30
        world.refusing.clear()
        world.there["10.0.0.1"] = "peer"
        await elapse(60)
        assert world.up == {"peer"}

    in_virtual_time(play)


def test_a_peer_that_is_lost_as_soon_as_it_is_connected_is_dialled_ever_more_seldom() -> None:
    world = World()
    world.there["10.0.0.1"] = "peer"

    async def play(nursery: trio.Nursery) -> None:
        nursery.start_soon(world.dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        world.dialler.want((Address("ip4", "10.0.0.1", 1, "peer"),), lasting=True)
        for _ in range(1200):
            await elapse(0.1)
            world.lose("peer")
        assert len(world.tries("10.0.0.1")) < 30

    in_virtual_time(play)


def test_of_too_many_discovered_peers_the_one_that_failed_most_is_forgotten() -> None:
    world = World(discovered_max=3)
    world.there["10.0.0.0"] = "peer0"

    async def play(nursery: trio.Nursery) -> None:
        nursery.start_soon(world.dialler.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3):
            world.dialler.want((Address("ip4", f"10.0.0.{number}", 1, f"peer{number}"),), lasting=False)
            await elapse(5)
        world.dialler.want((Address("ip4", "10.0.0.9", 1, "peer9"),), lasting=False)
        world.there["10.0.0.9"] = "peer9"
        await elapse(20)
        assert world.up == {"peer0", "peer9"}
        assert world.dialler.wishes == 3
        before = len(world.tries("10.0.0.1"))
        await elapse(60)
        assert len(world.tries("10.0.0.1")) == before

    in_virtual_time(play)


async def test_nodes_met_at_a_third_stay_met_when_it_goes(tmp_path: Path, nodes: list[Node]) -> None:
    await star(tmp_path, nodes)
    await nodes[1].meets(nodes[2])
    await nodes[0].stop()
    await nodes[1].loses(nodes[0].peer_id)
    await nodes[1].transport.join("x")
    await until(lambda: nodes[2].peer_id in nodes[1].transport.peers(), "they parted")
    await nodes[2].transport.publish("x", b"without the hub")
    await nodes[1].hears("x", b"without the hub")

"""Discovery by mDNS, on loopback alone: what is announced, what is believed, and how fast."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.mesh_node import until
from zeroconf._dns import DNSPointer, DNSRecord, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR, _TYPE_TXT

from bzzz.mesh import discovery
from bzzz.mesh.address import Address, parse_address
from bzzz.mesh.discovery import MdnsDiscovery, read_announcement, write_announcement
from bzzz.mesh.identity import load_identity
from bzzz.mesh.settings import DEFAULT_MESH_NAME, PREDECESSOR_SERVICE_TAG, SERVICE_TAG

_GROUP = "224.0.0.251"


def address(folder: Path, name: str, port: int, host: str = "127.0.0.1") -> Address:
    return Address("ip4", host, port, load_identity(folder / f"{name}.key").peer_id)


class Finder:
    """A discovery and what it found."""

    def __init__(self, own: Address, mesh: str, *tags: str) -> None:
        self.found: list[tuple[Address, ...]] = []
        self.counts: Counter[str] = Counter()
        self.own = own
        self.discovery = MdnsDiscovery([own], mesh, tags or (SERVICE_TAG,), self.found.append, self.counts)

    def start(self) -> Finder:
        self.discovery.start()
        return self


@pytest.fixture
async def finders(tmp_path: Path) -> AsyncIterator[list[Finder]]:
    """Three nodes, not started; the third is of another mesh."""
    meshes = (str(tmp_path), str(tmp_path), "another mesh")
    made = [Finder(address(tmp_path, f"n{at}", 4000 + at), mesh) for at, mesh in enumerate(meshes)]
    yield made
    await asyncio.gather(*(finder.discovery.stop() for finder in made))


async def test_nodes_of_one_mesh_find_each_other_and_starting_does_not_wait_for_that(finders: list[Finder]) -> None:
    a, b, stranger = finders
    began = time.monotonic()
    for finder in finders:
        finder.start()
    # Three announcements one after the other would take more than two seconds.
    assert time.monotonic() - began < 2.0
    await until(lambda: bool(a.found and b.found), "they did not find each other")
    await until(lambda: stranger.counts["mdns_ignored"] > 0, "the other mesh was not heard")
    assert set(a.found) == {(b.own,)}
    assert set(b.found) == {(a.own,)}
    assert stranger.found == []


async def test_a_node_that_comes_later_finds_those_that_are_there(finders: list[Finder]) -> None:
    a, b, _ = finders
    a.start()
    await until(lambda: a.discovery._zeroconf is not None, "mDNS did not start")
    await asyncio.sleep(0)
    b.start()
    await until(lambda: bool(a.found and b.found), "they did not find each other")


async def test_the_predecessors_service_tag_is_announced_and_browsed(tmp_path: Path) -> None:
    tag = PREDECESSOR_SERVICE_TAG.removesuffix(".local.")
    a = Finder(address(tmp_path, "a", 4001), str(tmp_path), tag).start()
    b = Finder(address(tmp_path, "b", 4002), str(tmp_path), PREDECESSOR_SERVICE_TAG).start()
    try:
        await until(lambda: bool(a.found and b.found), "they did not find each other")
    finally:
        await asyncio.gather(a.discovery.stop(), b.discovery.stop())


class PlainResponder(asyncio.DatagramProtocol):
    """Speaks multicast DNS on loopback without zeroconf, and without SRV records, as js-libp2p does."""

    def __init__(self, peer: Address, mesh: str) -> None:
        self._name = f"fromjs.{SERVICE_TAG}"
        self._text = DNSText(self._name, _TYPE_TXT, _CLASS_IN, 120, write_announcement([peer], mesh))
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", 5353))
        loopback = socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(_GROUP) + loopback)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)

    def datagram_received(self, data: bytes, addr: object) -> None:
        asked = [question.name for question in DNSIncoming(data).questions if question.type == _TYPE_TXT]
        if self._name in asked:
            self.send(self._text)

    def announce(self, *, with_text: bool) -> None:
        pointer = DNSPointer(SERVICE_TAG, _TYPE_PTR, _CLASS_IN, 120, self._name)
        self.send(pointer, *([self._text] if with_text else []))

    def send(self, *records: DNSRecord) -> None:
        answer = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
        for record in records:
            answer.add_answer_at_time(record, 0)
        assert self._transport is not None
        for packet in answer.packets():
            self._transport.sendto(packet, (_GROUP, 5353))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@pytest.mark.parametrize("with_text", [True, False])
async def test_a_peer_that_answers_without_srv_is_found_at_once(
    finders: list[Finder], tmp_path: Path, with_text: bool
) -> None:
    """Defect 9: a peer that answers PTR and TXT without SRV, as js-libp2p does, is not found for 18 s."""
    a, b, _ = finders
    a.start()
    b.start()
    await until(lambda: bool(a.found and b.found), "mDNS did not start")
    other = address(tmp_path, "js", 4009)
    responder = PlainResponder(other, str(tmp_path))
    await responder.open()
    try:
        responder.announce(with_text=with_text)
        await until(lambda: (other,) in a.found, "it was not found", 2.0)
    finally:
        responder.close()


async def test_without_multicast_it_says_so_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discovery, "MDNS_RETRY_S", 0.01)
    a = Finder(address(tmp_path, "a", 4001), str(tmp_path))
    monkeypatch.setattr(a.discovery, "_interfaces", lambda: ["192.0.2.250"])
    a.start()
    try:
        await until(lambda: a.counts["mdns_failures"] >= 2, "it did not try again")
        monkeypatch.undo()
        await until(lambda: a.discovery._zeroconf is not None, "it did not recover")
    finally:
        await a.discovery.stop()
    assert [record.message for record in caplog.records if "no discovery by mDNS" in record.message]
    assert len(caplog.records) == 1


def test_an_announcement_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = [address(tmp_path, "a", 1, "192.0.2.7"), address(tmp_path, "a", 1, "198.51.100.1")]
    assert read_announcement(write_announcement(own, "mine"), "mine") == tuple(own)
    assert read_announcement(write_announcement(own, "mine"), "yours") == ()


def test_loopback_is_announced_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    loopback, lan = address(tmp_path, "a", 1), address(tmp_path, "a", 1, "192.0.2.7")
    assert read_announcement(write_announcement([loopback], "m"), "m") == (loopback,)
    assert read_announcement(write_announcement([loopback, lan], "m"), "m") == (lan,)


def test_an_announcement_of_another_program_belongs_to_the_default_mesh(tmp_path: Path) -> None:
    own = address(tmp_path, "a", 1)
    strings = [b"dnsaddr2=" + str(own).encode(), b"other=1", b"plain", b""]
    data = b"".join(bytes((len(s),)) + s for s in strings)
    assert read_announcement(data, DEFAULT_MESH_NAME) == (own,)
    assert read_announcement(data, "mine") == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xffdnsaddr=",
        b"\x00" * 50,
        b"\x09dnsaddr=/",
        bytes(range(256)) * 3,
        b"\x2adnsaddr=/ip4/127.0.0.1/tcp/99999/p2p/12D3K",
    ],
)
def test_hostile_announcements_tell_nothing(data: bytes) -> None:
    assert read_announcement(data, DEFAULT_MESH_NAME) == ()


def test_an_announcement_is_of_one_peer_and_bounded(tmp_path: Path) -> None:
    mine = [address(tmp_path, "a", port) for port in range(1, 30)]
    texts = [f"dnsaddr={known}" for known in [*mine, address(tmp_path, "b", 1)]]
    data = b"".join(bytes((len(text),)) + text.encode() for text in texts)
    assert read_announcement(data, DEFAULT_MESH_NAME) == tuple(mine[:8])
    assert parse_address(str(mine[0])) == mine[0]

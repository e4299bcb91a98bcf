"""Discovery by DNS: what a name stands for, as it changes, and what a hostile answer can do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tests.support.mesh_node import Node, free_port, libp2p_node, libp2p_settings, until

from bzzz.errors import TransportError
from bzzz.mesh import dns_discovery
from bzzz.mesh.address import Address, parse_wanted
from bzzz.mesh.dns_discovery import DnsDiscovery, look_up
from bzzz.mesh.identity import load_identity
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.name_resolver import SystemResolver

PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
OTHER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
TOPIC = "bzzz/coordination/v1"


class Names:
    """A resolver that knows what it is told."""

    def __init__(self) -> None:
        self.ips: dict[str, list[str]] = {}
        self.records: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str]] = []

    async def addresses(self, kind: str, name: str) -> list[str]:
        self.asked.append((kind, name))
        return self._of(self.ips, name)

    async def texts(self, name: str) -> list[str]:
        self.asked.append(("txt", name))
        return self._of(self.records, name)

    def _of(self, known: dict[str, list[str]], name: str) -> list[str]:
        if name not in known:
            raise OSError(f"there is no {name}")
        return known[name]


async def found(text: str, names: Names) -> list[str]:
    return [str(address) for address in await look_up(parse_wanted(text), names)]


async def test_a_name_stands_for_all_its_addresses() -> None:
    names = Names()
    names.ips["tasks.bzzz"] = ["10.0.1.3", "10.0.1.4", "2001:db8::3"]
    assert await found("/dns/tasks.bzzz/tcp/4001", names) == [
        "/ip4/10.0.1.3/tcp/4001",
        "/ip4/10.0.1.4/tcp/4001",
        "/ip6/2001:db8::3/tcp/4001",
    ]
    assert await found(f"/dns4/tasks.bzzz/tcp/1/p2p/{PEER}", names) == [
        f"/{kind}/{ip}/tcp/1/p2p/{PEER}"
        for kind, ip in (("ip4", "10.0.1.3"), ("ip4", "10.0.1.4"), ("ip6", "2001:db8::3"))
    ]
    assert [kind for kind, _ in names.asked] == ["dns", "dns4"]


async def test_dnsaddr_is_read_through_names_to_addresses() -> None:
    names = Names()
    names.records["_dnsaddr.mesh.example"] = [
        f"dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/{PEER}",
        f"dnsaddr=/dnsaddr/east.mesh.example/p2p/{OTHER}",
        "dnsaddr=/dns4/west.mesh.example/tcp/4001",
        f"dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1/p2p/{PEER}",
        "dnsaddr=/dnsaddr/away.mesh.example",
        "v=spf1 -all",
    ]
    names.records["_dnsaddr.east.mesh.example"] = [
        f"dnsaddr=/ip6/2001:db8::7/tcp/4001/p2p/{OTHER}",
        "dnsaddr=/dnsaddr/mesh.example",
    ]
    names.ips["west.mesh.example"] = ["198.51.100.1"]
    all_found = [
        f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}",
        "/ip4/198.51.100.1/tcp/4001",
        f"/ip6/2001:db8::7/tcp/4001/p2p/{OTHER}",
    ]
    assert sorted(await found("/dnsaddr/mesh.example", names)) == sorted(all_found)
    # Whoever names a peer gets that one alone.
    assert await found(f"/dnsaddr/mesh.example/p2p/{OTHER}", names) == all_found[2:]


async def test_what_a_name_can_cost_is_bounded() -> None:
    names = Names()
    for number in range(200):
        names.records[f"_dnsaddr.n{number}.example"] = [
            f"dnsaddr=/dnsaddr/n{number + 1}.example",
            f"dnsaddr=/dnsaddr/n{number}.example",
            f"dnsaddr=/ip4/10.0.0.{number}/tcp/1",
        ]
    assert len(await found("/dnsaddr/n0.example", names)) == dns_discovery.DNSADDR_DEPTH_MAX
    names.records["_dnsaddr.wide.example"] = [f"dnsaddr=/dnsaddr/w{number}.example" for number in range(200)]
    names.asked.clear()
    assert await found("/dnsaddr/wide.example", names) == []
    assert len(names.asked) == dns_discovery.DNSADDR_LOOKUPS_MAX
    names.ips["many.example"] = [f"10.0.{number // 250}.{number % 250}" for number in range(5000)]
    assert len(await found("/dns/many.example/tcp/1", names)) == dns_discovery.NAME_ADDRESSES_MAX
    names.records["_dnsaddr.junk.example"] = ["dnsaddr=", "dnsaddr=/", "dnsaddr=/ip4/0.0.0.0/tcp/1", "\x00\xff"]
    assert await found("/dnsaddr/junk.example", names) == []


class Watched:
    """A discovery over a name, and what it resolved."""

    def __init__(self, names: Names, interval_s: float = 0.02) -> None:
        self.resolved: list[tuple[Address, ...]] = []
        self.counts: Counter[str] = Counter()
        self.discovery = DnsDiscovery(
            names, lambda _, found: self.resolved.append(found), self.counts, interval_s=interval_s, timeout_s=0.2
        )


async def test_a_name_is_looked_up_again_as_it_changes_and_through_failures(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_discovery, "redial_delay_s", lambda *_, **__: 0.01)
    names = Names()
    watched = Watched(names)
    watched.discovery.watch(parse_wanted("/dns/tasks.bzzz/tcp/1"))
    watched.discovery.watch(parse_wanted("/dns/tasks.bzzz/tcp/1"))
    try:
        await until(lambda: watched.counts["dns_failures"] >= 3, "it did not try again")
        names.ips["tasks.bzzz"] = ["10.0.1.3"]
        await until(lambda: bool(watched.resolved), "it was not looked up")
        names.ips["tasks.bzzz"] = ["10.0.1.4", "10.0.1.5"]
        await until(lambda: len(watched.resolved[-1]) == 2, "the change was not seen")
    finally:
        await watched.discovery.stop()
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "/dns/tasks.bzzz/tcp/1 cannot be looked up",
        "/dns/tasks.bzzz/tcp/1 could be looked up again: 1 addresses",
    ]


async def test_an_answer_that_does_not_come_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(Names):
        async def addresses(self, kind: str, name: str) -> list[str]:
            await asyncio.Event().wait()
            return []

    watched = Watched(Silent())
    watched.discovery.watch(parse_wanted("/dns/tasks.bzzz/tcp/1"))
    try:
        await until(lambda: watched.counts["dns_failures"] == 1, "it waited for ever")
    finally:
        await watched.discovery.stop()
    assert "no answer in 0.2 s" in caplog.text


class TextServer(asyncio.DatagramProtocol):
    """A DNS server that knows one text, in two pieces."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.flags |= dns.flags.RA
        name = str(answer.question[0].name)
        if name == "_dnsaddr.mesh.example.":
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", '"dnsaddr=/ip4/192.0." "2.7/tcp/1"'))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


async def test_the_system_is_asked_for_addresses_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    system = SystemResolver()
    assert "127.0.0.1" in await system.addresses("dns4", "localhost")
    for name in ("name.invalid", "x" * 64 + ".invalid"):
        with pytest.raises(OSError, match=r"."):
            await system.addresses("dns", name)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        TextServer, local_addr=("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    try:
        assert await system.texts("_dnsaddr.mesh.example") == ["dnsaddr=/ip4/192.0.2.7/tcp/1"]
        with pytest.raises(OSError, match="does not exist"):
            await system.texts("_dnsaddr.other.example")
    finally:
        transport.close()


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    nodes: list[Node] = []
    yield nodes
    await asyncio.gather(*(node.stop() for node in nodes))


async def test_a_peer_known_by_its_place_alone_is_dialled_lost_and_found_again_as_another(
    tmp_path: Path, nodes: list[Node]
) -> None:
    where = f"/ip4/127.0.0.1/tcp/{free_port()}"
    a = libp2p_node(tmp_path, "a", static_peers=(where,), gossip_addresses=False)
    first = libp2p_node(tmp_path, "first", listen=(where,), gossip_addresses=False)
    nodes += [a, first]
    await first.start()
    await a.start()
    await a.meets(first)
    assert a.transport.counters()["dials"] >= 1
    await first.stop()
    await a.loses(first.peer_id)
    second = libp2p_node(tmp_path, "second", listen=(where,), gossip_addresses=False)
    nodes.append(second)
    await second.start()
    await a.meets(second)


async def test_nodes_that_share_one_name_find_each_other_and_not_themselves(
    tmp_path: Path, nodes: list[Node]
) -> None:
    """As tasks of one service: the name stands for all of them, the one that asks included."""
    names = Names()
    port = free_port()
    names.ips["tasks.bzzz"] = ["127.0.0.2"]
    settings = {"static_peers": (f"/dns/tasks.bzzz/tcp/{port}",), "dns_interval_s": 0.05, "gossip_addresses": False}
    for number in (2, 3):
        made = libp2p_settings(tmp_path, f"n{number}", listen=(f"/ip4/127.0.0.{number}/tcp/{port}",), **settings)
        nodes.append(Node(Libp2pTransport(made, names)))
    await asyncio.gather(*(node.start() for node in nodes))
    await until(lambda: nodes[0].transport.counters().get("dns_lookups", 0) > 3, "it was not looked up again")
    names.ips["tasks.bzzz"] = ["127.0.0.2", "127.0.0.3"]
    await nodes[0].meets(nodes[1])
    await nodes[1].meets(nodes[0])
    assert all(node.peer_id not in node.transport.peers() for node in nodes)
    # A node that left the name is not dialled any more.
    names.ips["tasks.bzzz"] = ["127.0.0.2"]
    await nodes[1].stop()
    await nodes[0].loses(nodes[1].peer_id)


async def test_a_name_with_a_peer_id_is_that_peer_alone(tmp_path: Path, nodes: list[Node]) -> None:
    names = Names()
    names.ips["seed.example"] = ["127.0.0.1"]
    seed = libp2p_node(tmp_path, "seed")
    nodes.append(seed)
    await seed.start()
    port = seed.transport.addresses[0].split("/")[4]
    impostor = load_identity(tmp_path / "somebody.key").peer_id
    wrong = libp2p_settings(tmp_path, "wrong", static_peers=(f"/dns4/seed.example/tcp/{port}/p2p/{impostor}",))
    right = libp2p_settings(tmp_path, "right", static_peers=(f"/dns4/seed.example/tcp/{port}/p2p/{seed.peer_id}",))
    nodes += [Node(Libp2pTransport(made, names)) for made in (wrong, right)]
    await asyncio.gather(*(node.start() for node in nodes[1:]))
    await nodes[2].meets(seed)
    await nodes[1].counts("dials_failed")
    assert dict(nodes[1].transport.peers()) == {}


async def test_with_dns_off_a_name_is_refused(tmp_path: Path, nodes: list[Node]) -> None:
    with pytest.raises(
        TransportError, match=r"/dns4/seed.example/tcp/1: names are not looked up .* mesh.dns is off"
    ):
        libp2p_node(tmp_path, "a", dns=False, static_peers=("/dns4/seed.example/tcp/1",))
    node = libp2p_node(tmp_path, "a", dns=False)
    nodes.append(node)
    await node.start()
    with pytest.raises(TransportError, match=r"mesh\.dns is off"):
        await node.transport.dial(f"/dnsaddr/mesh.example/p2p/{PEER}")


@pytest.mark.parametrize(
    "text",
    ["/dnsaddr/", "/dnsaddr/a b", "/dnsaddr/x/tcp/1", f"/dnsaddr/x/{PEER}", "/dnsaddr/x/p2p/short", "/dns/x"],
)
def test_what_is_no_place_to_look_for_peers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r" (is|does) "):
        parse_wanted(text)


def test_a_dnsaddr_is_written_as_it_was_read() -> None:
    for text in ("/dnsaddr/mesh.example", f"/dnsaddr/mesh.example/p2p/{PEER}"):
        assert str(parse_wanted(text)) == text

"""Zenoh as engine: discovery, gossip, routers, mutual TLS, deaths, and hostile neighbours, over real sockets.

It speaks for bzzz.mesh.zenoh_session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zenoh
from tests.support.authority import Authority
from tests.support.mesh_node import Node, free_port, until, zenoh_node, zenoh_settings

from bzzz.errors import TransportError
from bzzz.mesh.identity import load_identity
from bzzz.mesh.zenoh_key import KeySpace
from bzzz.mesh.zenoh_presence import Presence, write_presence
from bzzz.mesh.zenoh_settings import TlsFiles
from bzzz.mesh.zenoh_signature import MESSAGE, Signer
from bzzz.mesh.zenoh_transport import ZenohTransport

TOPIC = "bzzz/coordination/v1"
NUMBER = bytes(16)

MakeNode = Callable[..., Node]
MakeSession = Callable[..., zenoh.Session]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeNode]:
    nodes: list[Node] = []

    def make(name: str, **settings: Any) -> Node:
        nodes.append(zenoh_node(tmp_path, name, **settings))
        return nodes[-1]

    yield make
    await asyncio.gather(*(node.stop() for node in nodes))


@pytest.fixture
def outsider() -> Iterator[MakeSession]:
    """A Zenoh program that is no node."""
    sessions: list[zenoh.Session] = []

    def make(*endpoints: str, **entries: Any) -> zenoh.Session:
        config = zenoh.Config()
        chosen = {
            "mode": "peer",
            "listen/endpoints": [],
            "connect/endpoints": endpoints,
            "connect/timeout_ms": -1,
            "connect/exit_on_failure": False,
            "scouting/multicast/enabled": False,
            "scouting/delay": 0,
            "transport/shared_memory/enabled": False,
            **{key.replace("__", "/"): value for key, value in entries.items()},
        }
        for key, value in chosen.items():
            config.insert_json5(key, json.dumps(value))
        sessions.append(zenoh.open(config))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()  # type: ignore[no-untyped-call]


def port_of(node: Node) -> str:
    return node.transport.addresses[0].split("/")[4]


def endpoint(node: Node) -> str:
    return f"tcp/127.0.0.1:{port_of(node)}"


def tls_entries(files: TlsFiles) -> dict[str, Any]:
    """What a router is configured with, as docs/operations.md says."""
    section = "transport__link__tls__"
    return {
        f"{section}root_ca_certificate": str(files.authority),
        f"{section}listen_certificate": str(files.certificate),
        f"{section}listen_private_key": str(files.key),
        f"{section}enable_mtls": True,
    }


async def heard_both_ways(a: Node, b: Node) -> None:
    for one, other in ((a, b), (b, a)):
        text = f"from {one.peer_id}".encode()
        await one.transport.publish(TOPIC, text)
        await other.hears(TOPIC, text)


# --- finding each other ----------------------------------------------------------------------------------


async def test_nodes_find_each_other_by_multicast_and_those_of_another_mesh_are_not_met(make: MakeNode) -> None:
    a, b = [await make(name, mdns=True).start(TOPIC) for name in "ab"]
    stranger = await make("stranger", mdns=True, mesh_name="another").start(TOPIC)
    await a.meets(b)
    await b.meets(a)
    await heard_both_ways(a, b)
    assert dict(stranger.transport.peers()) == {}
    assert stranger.payloads(TOPIC) == []


async def test_a_star_becomes_a_mesh_by_gossip(make: MakeNode) -> None:
    hub = await make("hub", gossip=True).start(TOPIC)
    rim = [
        await make(name, gossip=True, static_peers=(hub.transport.addresses[0],)).start(TOPIC)
        for name in ("one", "two", "three")
    ]
    for node in rim:
        await node.meets(hub, *(other for other in rim if other is not node))


async def test_nodes_of_different_names_do_not_hear_each_other_although_connected(make: MakeNode) -> None:
    a = await make("a").start(TOPIC)
    b = await make("b", mesh_name="another").start(TOPIC)
    witness = await make("witness").start(TOPIC)
    await b.transport.dial(a.transport.addresses[0])
    await witness.transport.dial(a.transport.addresses[0])
    await witness.meets(a)
    await b.transport.publish(TOPIC, b"from elsewhere")
    await witness.transport.publish(TOPIC, b"from here")
    await a.hears(TOPIC, b"from here")
    assert a.payloads(TOPIC) == [b"from here"]
    assert b.peer_id not in a.transport.peers()


async def test_a_router_joins_nodes_that_have_no_way_to_each_other(make: MakeNode, outsider: MakeSession) -> None:
    port = free_port()
    routers = (f"/ip4/127.0.0.1/tcp/{port}",)
    a, b = [await make(name, routers=routers).start(TOPIC) for name in "ab"]
    await a.counts("router_failures")
    outsider(mode="router", listen__endpoints=[f"tcp/127.0.0.1:{port}"])
    await a.meets(b)
    await b.meets(a)
    await heard_both_ways(a, b)
    await b.stop()
    assert "it left" in (await a.loses(b.peer_id)).reason


async def test_an_address_that_nobody_listens_on_yet_is_dialled_until_somebody_does(make: MakeNode) -> None:
    a = make("a", listen=(f"/ip4/127.0.0.1/tcp/{free_port()}",))
    address = f"{a.transport._settings.listen[0]}/p2p/{a.peer_id}"  # type: ignore[attr-defined]
    b = await make("b", static_peers=(address,)).start(TOPIC)
    c = await make("c").start(TOPIC)
    await c.transport.dial(address)
    await a.start(TOPIC)
    await b.meets(a)
    await c.meets(a)


# --- what can go wrong at the start ------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_named(make: MakeNode) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        with pytest.raises(TransportError, match=f"{listen}.*in use"):
            await make("a", listen=(listen,)).start()


async def test_a_name_cannot_be_listened_on(make: MakeNode) -> None:
    with pytest.raises(TransportError, match="not a name"):
        await make("a", listen=("/dns4/localhost/tcp/0",)).start()


async def test_addresses_dialled_after_the_start_are_bounded(make: MakeNode) -> None:
    a = await make("a", dialled_max=1).start()
    peer = a.peer_id
    await a.transport.dial(f"/ip4/127.0.0.1/tcp/9/p2p/{peer}")
    await a.transport.dial(f"/ip4/127.0.0.1/tcp/9/p2p/{peer}")
    with pytest.raises(TransportError, match="1 addresses"):
        await a.transport.dial(f"/ip4/127.0.0.1/tcp/10/p2p/{peer}")


async def test_a_topic_that_cannot_be_one_is_refused(make: MakeNode) -> None:
    a = await make("a").start()
    with pytest.raises(TransportError, match="topic"):
        await a.transport.publish("", b"x")


async def test_wildcard_addresses_are_told_as_concrete_ones(make: MakeNode) -> None:
    a = await make("a", listen=("/ip4/0.0.0.0/tcp/0",)).start()
    assert a.transport.addresses
    assert not any("/0.0.0.0/" in address or "/tcp/0/" in address for address in a.transport.addresses)


# --- strangers and liars -----------------------------------------------------------------------------------


def attached(node: Node, tmp_path: Path, payload: bytes, topic: str = TOPIC, mesh: str | None = None) -> bytes:
    """The attachment that a node of this folder would send."""
    signer = Signer(load_identity(tmp_path / "liar.key"))
    name = str(tmp_path) if mesh is None else mesh
    return NUMBER + signer.seal(MESSAGE, name.encode(), topic.encode(), NUMBER, payload)


async def test_what_is_not_signed_for_here_is_dropped_and_counted_by_its_reason(
    make: MakeNode, outsider: MakeSession, tmp_path: Path
) -> None:
    a = await make("a", payload_bytes_max=1000).start(TOPIC)
    session = outsider(endpoint(a))
    key = KeySpace(str(tmp_path)).of_topic(TOPIC)
    await until(lambda: bool(session.info.peers_zid()), "the outsider did not connect")
    good = attached(a, tmp_path, b"good")
    sent: list[tuple[bytes, bytes | None]] = [
        (b"unsigned", None),
        (b"malformed", b"nonsense" * 4),
        (b"another payload", good),
        (b"another topic", attached(a, tmp_path, b"another topic", topic="other")),
        (b"another mesh", attached(a, tmp_path, b"another mesh", mesh="other")),
        (bytes(1001), attached(a, tmp_path, bytes(1001))),
        (b"good", good),
        (b"good", good),
    ]
    for payload, attachment in sent:
        session.put(key, payload, attachment=attachment)
    session.delete(key)
    await a.counts("dropped_malformed", 2)
    counted = a.transport.counters()
    assert {name: counted[name] for name in counted if name.startswith("dropped_") and counted[name]} == {
        "dropped_unsigned": 1,
        "dropped_malformed": 2,
        "dropped_signature": 3,
        "dropped_oversized": 1,
        "dropped_copy": 1,
    }
    assert a.payloads(TOPIC) == [b"good"]


async def test_a_presence_that_is_not_its_peers_own_connects_nobody(
    make: MakeNode, outsider: MakeSession, tmp_path: Path
) -> None:
    a = await make("a").start(TOPIC)
    victim = load_identity(tmp_path / "victim.key")
    session = outsider(endpoint(a))
    keys = KeySpace(str(tmp_path))
    # The victim's own presence, heard somewhere: true, but of another session than the liar's.
    copied = write_presence(Signer(victim), str(tmp_path), Presence(victim.peer_id, "5e55", ()))
    signer = Signer(load_identity(tmp_path / "liar.key"))
    forged = write_presence(signer, str(tmp_path), Presence(victim.peer_id, str(session.zid()), ()))
    tokens = [session.liveliness().declare_token(keys.nodes + text) for text in (copied, forged, "nonsense")]
    await a.counts("dropped_forged")
    await a.counts("dropped_malformed")
    assert dict(a.transport.peers()) == {}
    assert len(tokens) == 3


async def test_a_peer_that_is_not_admitted_is_neither_heard_nor_connected(make: MakeNode, tmp_path: Path) -> None:
    banned: set[str] = set()
    a = Node(ZenohTransport(zenoh_settings(tmp_path, "a"), lambda peer: peer not in banned))
    await a.start(TOPIC)
    try:
        b = make("b", static_peers=a.transport.addresses)
        banned.add(b.peer_id)
        c = await make("c", static_peers=a.transport.addresses).start(TOPIC)
        await b.start(TOPIC)
        await c.meets(a)
        await b.meets(a)
        await b.transport.publish(TOPIC, b"banned")
        await a.counts("dropped_not_admitted", 2)
        await c.transport.publish(TOPIC, b"admitted")
        await a.hears(TOPIC, b"admitted")
        assert a.payloads(TOPIC) == [b"admitted"]
        assert list(a.transport.peers()) == [c.peer_id]
    finally:
        await a.stop()


async def test_garbage_on_the_port_harms_nobody(make: MakeNode) -> None:
    a = await make("a").start(TOPIC)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port_of(a)))
        with contextlib.suppress(OSError):  # it may hang up before all is said
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
        writer.close()
    b = await make("b", static_peers=a.transport.addresses).start(TOPIC)
    await b.meets(a)
    await a.meets(b)
    await heard_both_ways(a, b)


# --- mutual TLS --------------------------------------------------------------------------------------------


async def test_with_certificates_only_those_of_the_authority_hear_and_are_heard(
    make: MakeNode, outsider: MakeSession, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    a = await make("a", tls=ours.issue("a")).start(TOPIC)
    b = await make("b", tls=ours.issue("b"), static_peers=a.transport.addresses).start(TOPIC)
    stranger = await make("stranger", tls=theirs.issue("x"), static_peers=a.transport.addresses).start(TOPIC)
    plain = await make("plain", static_peers=a.transport.addresses).start(TOPIC)
    # Knows the authority, and so trusts the node, but has no certificate to show.
    nameless = outsider(
        f"tls/127.0.0.1:{port_of(a)}",
        transport__link__tls__root_ca_certificate=str(ours.issue("n").authority),
        transport__link__tls__verify_name_on_connect=False,
    )
    caught: list[bytes] = []
    nameless.declare_subscriber(
        "**", lambda sample: caught.append(sample.payload.to_bytes()), allowed_origin=zenoh.Locality.REMOTE
    )
    await b.meets(a)
    await a.meets(b)
    for node in (stranger, plain):
        await node.transport.publish(TOPIC, b"let me in")
    nameless.put(KeySpace(str(tmp_path)).of_topic(TOPIC), b"let me in")
    await heard_both_ways(a, b)
    assert list(a.transport.peers()) == [b.peer_id]
    assert a.payloads(TOPIC) == [f"from {b.peer_id}".encode()]
    for node in (stranger, plain):
        assert dict(node.transport.peers()) == {}
        assert node.payloads(TOPIC) == []
    assert caught == []
    assert nameless.info.peers_zid() == []


async def test_through_a_router_too_only_those_of_the_authority_hear_are_heard_and_are_asked(
    make: MakeNode, outsider: MakeSession, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    port = free_port()
    routers = (f"/ip4/127.0.0.1/tcp/{port}",)
    outsider(mode="router", listen__endpoints=[f"tls/127.0.0.1:{port}"], **tls_entries(ours.issue("router")))
    a, b = [await make(name, routers=routers, tls=ours.issue(name)).start(TOPIC) for name in "ab"]
    stranger = await make("stranger", routers=routers, tls=theirs.issue("x")).start(TOPIC)
    plain = await make("plain", routers=routers).start(TOPIC)
    await a.meets(b)
    await b.meets(a)
    # Neither gets as far as the router, and both go on trying.
    for node in (stranger, plain):
        await node.counts("router_failures", 2)
        await node.transport.publish(TOPIC, b"let me in")
    await heard_both_ways(a, b)

    async def answer(peer: str, payload: bytes) -> bytes:
        return f"{peer} asked ".encode() + payload

    b.transport.serve("test/question", answer)
    answered = await a.transport.request(b.peer_id, "test/question", b"through the router", 10.0)
    assert answered == f"{a.peer_id} asked through the router".encode()
    assert (list(a.transport.peers()), list(b.transport.peers())) == ([b.peer_id], [a.peer_id])
    assert a.payloads(TOPIC) == [f"from {b.peer_id}".encode()]
    for node in (stranger, plain):
        assert dict(node.transport.peers()) == {}
        assert node.payloads(TOPIC) == []


@pytest.mark.parametrize("missing", ["certificate", "key", "authority"])
async def test_a_certificate_file_that_is_not_there_is_named(make: MakeNode, tmp_path: Path, missing: str) -> None:
    files = Authority(tmp_path / "ours").issue("a")
    getattr(files, missing).unlink()
    with pytest.raises(TransportError, match=rf"{getattr(files, missing).name}: No such file"):
        await make("a", tls=files).start()


async def test_a_certificate_file_that_holds_none_is_an_error(make: MakeNode, tmp_path: Path) -> None:
    files = Authority(tmp_path / "ours").issue("a")
    files.key.write_text("nonsense")
    with pytest.raises(TransportError, match="did not start"):
        await make("a", tls=files).start()

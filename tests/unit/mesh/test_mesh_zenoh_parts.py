"""The pure parts of the Zenoh engine: endpoints, keys, signatures, presences, configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bzzz.errors import PeerError
from bzzz.mesh.address import parse_address
from bzzz.mesh.identity import identity_from_secret
from bzzz.mesh.zenoh_config import (
    dialling_config,
    main_config,
    routed_config,
    scouting_address,
    scouting_interfaces,
)
from bzzz.mesh.zenoh_endpoint import address_of_endpoint, endpoint_of
from bzzz.mesh.zenoh_key import TOPIC_CHARS_MAX, KeySpace
from bzzz.mesh.zenoh_presence import Presence, PresenceTable, read_presence, write_presence
from bzzz.mesh.zenoh_seen import SeenMessages
from bzzz.mesh.zenoh_settings import TlsFiles, ZenohSettings
from bzzz.mesh.zenoh_signature import MESSAGE, PRESENCE, SEAL_BYTES, Signer, author_of
from bzzz.ports import PeerConnected, PeerDisconnected

A, B = identity_from_secret(bytes(32)), identity_from_secret(bytes([1]) * 32)
OWN_IPS = frozenset({"127.0.0.1", "192.0.2.2"})
ADDRESS = "/ip4/192.0.2.7/tcp/4001"
SETTINGS = ZenohSettings(Path("key"))
TLS = TlsFiles(Path("own.pem"), Path("own.key"), Path("ca.pem"))


@pytest.mark.parametrize(
    ("address", "tls", "endpoint"),
    [
        ("/ip4/192.0.2.1/tcp/4001", False, "tcp/192.0.2.1:4001"),
        ("/ip4/192.0.2.1/tcp/4001", True, "tls/192.0.2.1:4001"),
        ("/ip6/2001:db8::1/tcp/1", False, "tcp/[2001:db8::1]:1"),
    ],
)
def test_an_address_becomes_an_endpoint_and_back(address: str, tls: bool, endpoint: str) -> None:
    parsed = parse_address(address)
    assert endpoint_of(parsed, tls=tls) == endpoint
    assert address_of_endpoint(endpoint) == parsed


def test_an_address_with_a_name_becomes_an_endpoint_with_that_name() -> None:
    assert endpoint_of(parse_address("/dns4/node.example./tcp/1"), tls=False) == "tcp/node.example:1"


@pytest.mark.parametrize("endpoint", ["", "udp/192.0.2.1:1", "tcp/node.example:1", "tcp/[::1", "tcp/192.0.2.999:1"])
def test_what_is_no_endpoint_with_an_ip_stands_for_no_address(endpoint: str) -> None:
    assert address_of_endpoint(endpoint) is None


def test_metadata_of_an_endpoint_is_left_out() -> None:
    assert str(address_of_endpoint("tcp/192.0.2.1:5?rel=1#iface=eth0")) == "/ip4/192.0.2.1/tcp/5"


@pytest.mark.parametrize("topic", ["bzzz/coordination/v1", "a*b$c?d#e", "//", "ünï 1", "%2F"])
def test_any_topic_has_a_key_of_one_chunk_and_comes_back_from_it(topic: str) -> None:
    keys = KeySpace("a mesh/of *")
    key = keys.of_topic(topic)
    assert keys.topic_of(key) == topic
    assert key.count("/") == keys.all_topics.count("/")
    assert not set("*$?# ") & set(key)


@pytest.mark.parametrize("topic", ["", "x" * (TOPIC_CHARS_MAX + 1)])
def test_what_cannot_be_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        KeySpace("bzzz").of_topic(topic)


def test_a_seal_names_its_author() -> None:
    seal = Signer(A).seal(MESSAGE, b"mesh", b"topic", b"payload")
    assert len(seal) == SEAL_BYTES
    assert author_of(seal, MESSAGE, b"mesh", b"topic", b"payload") == A.peer_id


@pytest.mark.parametrize(
    "parts",
    [
        (PRESENCE, b"mesh", b"topic", b"payload"),
        (MESSAGE, b"other", b"topic", b"payload"),
        (MESSAGE, b"mesh", b"other", b"payload"),
        (MESSAGE, b"mesh", b"topic", b"other"),
        (MESSAGE, b"mesh", b"topicp", b"ayload"),
    ],
    ids=["purpose", "mesh", "topic", "payload", "boundary"],
)
def test_a_seal_is_worth_nothing_for_anything_else(parts: tuple[bytes, ...]) -> None:
    seal = Signer(A).seal(MESSAGE, b"mesh", b"topic", b"payload")
    with pytest.raises(PeerError) as caught:
        author_of(seal, *parts)
    assert caught.value.reason == "signature"


@pytest.mark.parametrize(
    ("seal", "reason"),
    [(None, "unsigned"), (b"", "unsigned"), (b"short", "malformed"), (bytes(SEAL_BYTES), "signature")],
)
def test_what_is_no_seal_is_refused_by_its_reason(seal: bytes | None, reason: str) -> None:
    with pytest.raises(PeerError) as caught:
        author_of(seal, MESSAGE, b"payload")
    assert caught.value.reason == reason


def presence_of(peer: str = B.peer_id, session: str = "5e55") -> Presence:
    return Presence(peer, session, (ADDRESS,))


def test_a_presence_is_read_as_it_was_written() -> None:
    text = write_presence(Signer(B), "mesh", Presence(B.peer_id, "5e55", (f"{ADDRESS}/p2p/{B.peer_id}",)))
    assert read_presence(text, "mesh") == presence_of()


def test_a_presence_of_another_mesh_is_refused() -> None:
    with pytest.raises(PeerError, match="signature"):
        read_presence(write_presence(Signer(B), "mesh", presence_of()), "other")


def test_a_presence_with_another_session_is_refused() -> None:
    text = write_presence(Signer(B), "mesh", presence_of())
    with pytest.raises(PeerError, match="signature"):
        read_presence(text.replace("5e55", "beef"), "mesh")


def test_a_presence_signed_by_another_than_it_names_is_refused() -> None:
    with pytest.raises(PeerError, match="forged"):
        read_presence(write_presence(Signer(A), "mesh", presence_of()), "mesh")


@pytest.mark.parametrize("text", ["", "a/b/c/d", "a/b/a/s", "a/b/a!/s!", "a/b/aYQ/sYQ", "x/" * 3000])
def test_what_is_no_presence_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        read_presence(text, "mesh")


def table(**settings: object) -> PresenceTable:
    chosen = {"presences_max": 3, "read_own_ips": lambda: OWN_IPS, "reason": "gone", **settings}
    return PresenceTable(A.peer_id, **chosen)  # type: ignore[arg-type]


CONNECTED = PeerConnected(B.peer_id, (f"{ADDRESS}/p2p/{B.peer_id}",))


def test_a_peer_is_connected_by_a_presence_and_a_connection_to_its_session() -> None:
    one = table()
    assert list(one.appeared("own", presence_of())) == []
    assert list(one.opened("5e55", "192.0.2.7")) == [CONNECTED]
    assert one.connected == {B.peer_id: CONNECTED.addresses}
    assert list(one.closed("5e55")) == [PeerDisconnected(B.peer_id, "gone")]
    assert one.connected == {}


def test_presence_and_connection_may_come_in_either_order_and_go_in_either() -> None:
    one = table()
    assert list(one.opened("5e55", "192.0.2.7")) == []
    assert list(one.appeared("own", presence_of())) == [CONNECTED]
    assert list(one.vanished("own", presence_of())) == [PeerDisconnected(B.peer_id, "gone")]
    assert list(one.closed("5e55")) == []


def test_a_peer_with_two_sessions_is_connected_once_and_until_the_last_ends() -> None:
    one = table()
    told = []
    for session in ("1", "2"):
        told += [*one.appeared("own", presence_of(session=session)), *one.opened(session, "192.0.2.7")]
    assert told == [CONNECTED]
    assert list(one.closed("1")) == []
    assert list(one.closed("2")) == [PeerDisconnected(B.peer_id, "gone")]


def test_a_presence_stays_while_another_session_still_sees_it() -> None:
    one = table()
    one.opened("5e55", None)
    one.appeared("main", presence_of())
    one.appeared("dialled", presence_of())
    assert list(one.vanished("dialled", presence_of())) == []
    assert list(one.vanished("main", presence_of())) == [PeerDisconnected(B.peer_id, "gone")]


def test_who_names_anothers_session_does_not_hide_it() -> None:
    one = table()
    one.appeared("own", presence_of("12D3KooWLiar"))
    one.appeared("own", presence_of())
    assert {event.peer for event in one.opened("5e55", None)} == {"12D3KooWLiar", B.peer_id}


def test_behind_a_router_a_presence_is_enough() -> None:
    one = table()
    assert [event.peer for event in one.appeared("own", presence_of(), routed=True)] == [B.peer_id]
    assert [event.peer for event in one.vanished("own", presence_of())] == [B.peer_id]


def test_presences_are_bounded_and_the_node_itself_is_none_of_them() -> None:
    one = table()
    assert list(one.appeared("own", presence_of(A.peer_id))) == []
    for session in ("1", "2", "3"):
        one.appeared("own", presence_of(session=session))
    one.appeared("own", presence_of(session="3"))
    with pytest.raises(PeerError) as caught:
        one.appeared("own", presence_of(session="4"))
    assert caught.value.reason == "presence"


def test_seen_messages_are_remembered_up_to_their_bound() -> None:
    seen = SeenMessages(2)
    assert [seen.add(mark) for mark in (b"1", b"1", b"2", b"3")] == [True, False, True, True]
    assert [mark in seen for mark in (b"1", b"2", b"3")] == [False, True, True]


def test_meshes_of_different_names_look_for_each_other_in_different_places() -> None:
    places = [scouting_address(name) for name in ("bzzz", "one", "two")]
    assert places[0] == "224.0.0.224:7446"
    assert len(set(places)) == 3
    assert all(20_000 <= int(place.split(":")[1]) < 30_000 for place in places[1:])


def test_scouting_goes_over_loopback_and_what_is_listened_on() -> None:
    listen = [parse_address(f"/{text}/tcp/1") for text in ("ip4/192.0.2.2", "ip4/127.0.0.1", "ip6/2001:db8::1")]
    assert scouting_interfaces(listen) == "127.0.0.1,192.0.2.2"


def test_without_certificates_links_are_plain_and_with_them_nothing_else_is_taken() -> None:
    listen, target = parse_address("/ip4/192.0.2.2/tcp/1"), parse_address(ADDRESS)
    plain = main_config(SETTINGS, [listen], [target], scouting=False)
    assert plain["transport/link/protocols"] == ["tcp"]
    assert plain["connect/endpoints"] == ["tcp/192.0.2.7:4001"]
    secured = ZenohSettings(Path("key"), tls=TLS)
    for config in (
        main_config(secured, [listen], [target], scouting=False),
        dialling_config(secured, target),
        routed_config(secured, [target]),
    ):
        assert config["transport/link/protocols"] == ["tls"]
        assert config["transport/link/tls/enable_mtls"] is True
        assert config["connect/endpoints"] == ["tls/192.0.2.7:4001"]


def test_discovery_and_gossip_can_be_turned_off() -> None:
    settings = ZenohSettings(Path("key"), mdns=False, gossip=False)
    config = main_config(settings, [], [], scouting=False)
    assert config["scouting/multicast/enabled"] is False
    assert config["scouting/gossip/autoconnect"]["peer"] == []
    assert main_config(SETTINGS, [], [], scouting=True)["scouting/multicast/autoconnect"]["peer"]


def test_a_node_on_the_other_engine_does_not_load_zenoh() -> None:
    code = "import sys, bzzz.cli.compose; sys.exit('zenoh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

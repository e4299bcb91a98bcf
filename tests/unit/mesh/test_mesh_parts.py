"""The small parts of the mesh: addresses, backoff, identity, inbox, probe and bridge."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from bzzz.errors import TransportError
from bzzz.mesh.address import PEER_ADDRESSES_MAX, expand_wildcard, parse_address, useful_addresses
from bzzz.mesh.bridge import TrioThread, describe, root_cause
from bzzz.mesh.identity import identity_from_secret, load_identity
from bzzz.mesh.inbox import NOTICES_MAX, Inbox
from bzzz.mesh.probe import probe_address
from bzzz.mesh.redial import first_dial_delay_s, redial_delay_s
from bzzz.ports import PeerDisconnected, Probe, Received

PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
OWN_IPS = frozenset({"127.0.0.1", "::1", "192.0.2.2", "172.17.0.1", "fe80::1", "2001:db8::2"})


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.1/tcp/3333",
        f"/ip4/192.0.2.1/tcp/3333/p2p/{PEER}",
        f"/ip6/2001:db8::1/tcp/1/p2p/{PEER}",
        f"/dns4/node.example/tcp/3333/p2p/{PEER}",
    ],
)
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "nonsense",
        "/ip4/192.0.2.1",
        "/ip4/192.0.2.1/udp/3333",
        "/ip4/192.0.2.1/tcp/65536",
        "/ip4/192.0.2.1/tcp/-1",
        "/ip4/192.0.2.1/tcp/٣",
        "/ip4/192.0.2.256/tcp/1",
        "/ip6/192.0.2.1/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1/p2p/x",
        "/dns/../tcp/1",
        "/dns/a b/tcp/1",
        "/unix/x/tcp/1",
        "/ip4/192.0.2.1/tcp/1/p2p/short",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}\n",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit",
        f"/ip4/192.0.2.1/tcp/1/ipfs/{PEER}",
        "/dns/" + "a." * 300 + "/tcp/1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^.+ (is|does|lacks) ") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


def test_a_wildcard_stands_for_addresses_other_hosts_can_use() -> None:
    four = expand_wildcard(parse_address("/ip4/0.0.0.0/tcp/7"), OWN_IPS)
    assert [address.host for address in four] == ["172.17.0.1", "192.0.2.2"]
    assert [address.host for address in expand_wildcard(parse_address("/ip6/::/tcp/7"), OWN_IPS)] == ["2001:db8::2"]
    alone = expand_wildcard(parse_address("/ip4/0.0.0.0/tcp/7"), {"127.0.0.1"})
    assert [address.host for address in alone] == ["127.0.0.1"]
    named = parse_address("/ip4/192.0.2.9/tcp/7")
    assert expand_wildcard(named, OWN_IPS) == (named,)


def test_addresses_that_would_lead_to_this_host_are_not_believed_of_another() -> None:
    told = [
        "/ip4/127.0.0.1/tcp/7",
        "/ip4/172.17.0.1/tcp/7",
        "/ip4/10.0.0.3/tcp/7",
        f"/ip4/192.0.2.3/tcp/7/p2p/{PEER}",
        "/ip4/0.0.0.0/tcp/7",
        "/ip4/192.0.2.4/tcp/7/p2p/" + "1" * 44,
        "junk",
    ]
    assert useful_addresses(told, PEER, "192.0.2.3", OWN_IPS) == (
        f"/ip4/192.0.2.3/tcp/7/p2p/{PEER}",
        f"/ip4/10.0.0.3/tcp/7/p2p/{PEER}",
    )
    assert useful_addresses(told[:1], PEER, None, OWN_IPS) == ()
    for same_host in ("127.0.0.1", "192.0.2.2"):
        assert f"/ip4/127.0.0.1/tcp/7/p2p/{PEER}" in useful_addresses(told, PEER, same_host, OWN_IPS)
    many = [f"/ip4/10.0.0.{at}/tcp/7" for at in range(50)]
    assert len(useful_addresses(many, PEER, None, OWN_IPS)) == PEER_ADDRESSES_MAX


def test_redial_pauses_double_to_a_limit_and_are_spread() -> None:
    assert [redial_delay_s(attempt, 0.999999) for attempt in range(3)] == pytest.approx([0.25, 0.5, 1.0], rel=1e-5)
    assert redial_delay_s(0, 0.0) == 0.125
    assert redial_delay_s(10**9, 0.0) == 7.5
    assert first_dial_delay_s("b", "a", 0.4) == 0.4
    assert first_dial_delay_s("a", "b", 0.4) == 0.0


def test_an_identity_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "identity.pem"
    made = load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_identity(path) == made
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.pem"]
    assert made.secret.hex() not in repr(made)


def test_a_peer_id_is_the_one_libp2p_gives() -> None:
    pair = create_new_key_pair()
    assert identity_from_secret(pair.private_key.to_bytes()).peer_id == str(ID.from_pubkey(pair.public_key))


def test_two_threads_that_start_with_no_identity_get_the_same(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    found = []

    def load() -> None:
        barrier.wait()
        found.append(load_identity(tmp_path / "key").peer_id)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_identity_that_is_wrong_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    readable = tmp_path / "readable"
    load_identity(readable)
    readable.chmod(0o640)
    with pytest.raises(TransportError, match=r"readable: others may read it \(mode 0640\); run chmod 600"):
        load_identity(readable)
    garbage = tmp_path / "garbage"
    garbage.touch(0o600)
    garbage.write_bytes(b"\x00garbage")
    with pytest.raises(TransportError, match="garbage: this is no unencrypted Ed25519 key"):
        load_identity(garbage)
    with pytest.raises(TransportError, match=r"garbage/below: .*; give a path this user can write"):
        load_identity(garbage / "below")


async def test_an_inbox_bounds_messages_and_keeps_news_in_order() -> None:
    inbox = Inbox(2)
    for number in range(4):
        inbox.put(Received("t", "p", b"%d" % number))
    inbox.put(PeerDisconnected("p", "gone"))
    assert [await inbox.get() for _ in range(3)] == [
        Received("t", "p", b"0"),
        Received("t", "p", b"1"),
        PeerDisconnected("p", "gone"),
    ]
    assert (inbox.received, inbox.dropped_messages) == (2, 2)
    for _ in range(NOTICES_MAX + 3):
        inbox.put(PeerDisconnected("p", "gone"))
    assert inbox.dropped_notices == 3


async def test_an_inbox_wakes_its_reader_from_another_thread() -> None:
    inbox = Inbox(1000)

    def fill() -> None:
        for number in range(500):
            inbox.put(Received("t", "p", b"%d" % number))

    thread = threading.Thread(target=fill)
    thread.start()
    got = [await inbox.get() for _ in range(500)]
    thread.join()
    assert [event.payload for event in got if isinstance(event, Received)] == [b"%d" % n for n in range(500)]


async def test_a_probe_tells_an_answer_from_a_refusal_from_silence() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}"
        assert await probe_address(address, 2.0) is Probe.REFUSED
        assert await probe_address(f"/dns4/localhost/tcp/{port}", 2.0) is Probe.REFUSED
        listening.listen(1)
        assert await probe_address(address, 2.0) is Probe.ANSWERED
        # Its accept queue full, the kernel lets further connections wait.
        held = [socket.socket() for _ in range(8)]
        for sock in held:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        assert await probe_address(address, 0.2) is Probe.SILENT
        for sock in held:
            sock.close()
    assert await probe_address("/dns4/name.invalid/tcp/1", 2.0) is Probe.SILENT


async def test_a_call_into_trio_gives_its_result_or_its_error() -> None:
    async def main(ready: object) -> None:
        ready()  # type: ignore[operator]
        await trio.sleep_forever()

    async def double(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return number * 2

    async def fail() -> None:
        raise ValueError("mine")

    ends: list[BaseException | None] = []
    thread = TrioThread(main, ends.append)
    with pytest.raises(TransportError, match="down"):
        await thread.call(double, 1)
    await thread.start(5.0)
    assert await asyncio.gather(*(thread.call(double, n) for n in range(20))) == [2 * n for n in range(20)]
    with pytest.raises(ValueError, match="mine"):
        await thread.call(fail)
    assert await thread.stop(5.0)
    with pytest.raises(TransportError, match="down"):
        await thread.call(double, 1)
    assert ends == []


async def test_the_death_of_the_trio_program_fails_waiting_calls_and_is_told() -> None:
    async def main(ready: object) -> None:
        ready()  # type: ignore[operator]
        await trio.sleep_forever()

    ends: list[BaseException | None] = []
    thread = TrioThread(main, ends.append)
    await thread.start(5.0)
    waiting = asyncio.create_task(thread.call(trio.sleep_forever))
    await asyncio.sleep(0)

    def crash() -> None:
        raise RuntimeError("broken")

    thread.post(crash)
    with pytest.raises(TransportError, match="down"):
        await waiting
    assert [describe(error) for error in ends] == ["RuntimeError: broken"]


async def test_a_program_that_fails_to_start_tells_why() -> None:
    async def refuses(ready: object) -> None:
        async with trio.open_nursery():
            raise TransportError("the port is taken")

    async def breaks(ready: object) -> None:
        raise KeyError("x")

    for main, complaint in ((refuses, "^the port is taken$"), (breaks, "did not start: KeyError: 'x'")):
        with pytest.raises(TransportError, match=complaint):
            await TrioThread(main, lambda _: None).start(5.0)

    async def hangs(ready: object) -> None:
        await trio.sleep_forever()

    with pytest.raises(TransportError, match=r"did not start within 0\.05 s"):
        await TrioThread(hangs, lambda _: None).start(0.05)
    assert root_cause(None) is None


def test_the_memory_transport_does_not_load_libp2p() -> None:
    program = (
        "import sys, bzzz.mesh.memory, bzzz.mesh.settings, bzzz.mesh.identity; sys.exit('libp2p' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0

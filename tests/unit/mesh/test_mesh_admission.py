"""Who is let into the mesh: the proof of its secret, the seal on messages, lists of peers, and revoking."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from tests.support.mesh_engine import connect, inside, send, signed
from tests.support.mesh_node import Node, libp2p_node, until

from bzzz.errors import PeerError, TransportError
from bzzz.mesh import libp2p_dialler, libp2p_engine
from bzzz.mesh.address import parse_address
from bzzz.mesh.admission import BAN_FIRST_S, BAN_MAX_S, BANS_MAX, SEAL_BYTES, Gate, Prover, Sealer
from bzzz.mesh.identity import load_identity
from bzzz.mesh.libp2p_admission import REFUSALS_TOLD_BURST, Admission
from bzzz.mesh.mesh_secret import MeshSecret, load_secret, new_secret, read_line, save_secret
from bzzz.mesh.revocation import RevokedFile, read_revoked, write_revoked

TOPIC = "bzzz/coordination/v1"
PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
OTHER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"


# --- the parts ----------------------------------------------------------------------------------------------


def test_an_invitation_is_read_as_it_was_written_and_shows_no_secret_otherwise() -> None:
    secret = new_secret("home").at((f"/ip6/2001:db8::7/tcp/1/p2p/{PEER}", "/dnsaddr/mesh.example"))
    line = secret.line()
    assert "\n" not in line
    assert read_line(f"  {line}\n") == secret
    assert secret.secret.hex() not in repr(secret)
    assert str(secret.secret)[2:-1] not in repr(secret)
    assert new_secret("home").secret != secret.secret


def test_a_slip_in_an_invitation_is_found_and_never_repeated() -> None:
    line = new_secret("home").line()
    changed = [line[:at] + ("A" if line[at] != "A" else "B") + line[at + 1 :] for at in range(len(line))]
    for text in [*changed, "", "hello", line[:-1], line + "0", line + "@", line + "@nonsense", line * 100]:
        with pytest.raises(ValueError, match=r"\S") as caught:
            read_line(text)
        assert line[17:60] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", ".", "x" * 64, "a:b", "a\n"])
def test_a_mesh_needs_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        new_secret(name)


def test_a_secret_is_kept_where_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mesh.secret"
    secret = new_secret("home")
    assert save_secret(path, secret)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secret(path) == secret
    assert not save_secret(path, new_secret("home"))
    assert load_secret(path) == secret
    assert save_secret(path, new_secret("home"), replace=True)
    assert load_secret(path) != secret
    assert [entry.name for entry in path.parent.iterdir()] == ["mesh.secret"]
    path.chmod(0o640)
    with pytest.raises(TransportError, match=r"mesh\.secret: others may read it \(mode 0640\)"):
        load_secret(path)
    with pytest.raises(TransportError, match="make one with 'bzzz mesh init'"):
        load_secret(tmp_path / "none")


def test_keys_of_different_purposes_and_meshes_differ() -> None:
    secret = new_secret("home")
    other = MeshSecret("away", secret.secret)
    assert len({secret.key("proof"), secret.key("message"), other.key("proof"), secret.secret}) == 4


IDS, NONCES = (b"id one", b"id two"), (b"n" * 32, b"m" * 32)


@pytest.mark.parametrize(
    ("role", "ids", "nonces"),
    [
        ("listener", IDS, NONCES),
        ("dialler", IDS[::-1], NONCES),
        ("dialler", IDS, NONCES[::-1]),
        ("dialler", (IDS[0], b"id three"), NONCES),
        ("dialler", IDS, (NONCES[0], b"x" * 32)),
        ("dialler", (b"id onei", b"d two"), NONCES),
    ],
)
def test_a_tag_is_good_for_its_role_its_peers_and_its_nonces_alone(
    role: str, ids: tuple[bytes, bytes], nonces: tuple[bytes, bytes]
) -> None:
    prover = Prover(new_secret("home"))
    tag = prover.tag("dialler", IDS, NONCES)
    assert prover.is_tag(tag, "dialler", IDS, NONCES)
    assert not prover.is_tag(tag, role, ids, nonces)
    assert not Prover(new_secret("home")).is_tag(tag, "dialler", IDS, NONCES)


def test_a_seal_is_good_for_its_message_alone() -> None:
    sealer = Sealer(new_secret("home"))
    sealed = sealer.seal(b"author", b"number", "topic", b"payload")
    assert sealer.open(b"author", b"number", "topic", sealed) == b"payload"
    assert sealer.open(b"other", b"number", "topic", sealed) is None
    assert sealer.open(b"author", b"other", "topic", sealed) is None
    assert sealer.open(b"author", b"number", "other", sealed) is None
    assert sealer.open(b"author", b"number", "topic", sealed[:-1] + b"x") is None
    assert Sealer(new_secret("home")).open(b"author", b"number", "topic", sealed) is None
    for short in (b"", b"x", bytes(SEAL_BYTES)):
        assert sealer.open(b"author", b"number", "topic", short) is None


def test_a_gate_lets_in_who_is_allowed_and_neither_revoked_nor_banned() -> None:
    everybody, few = Gate(), Gate([PEER])
    assert everybody.refusal(OTHER, 0.0) is None
    assert few.refusal(PEER, 0.0) is None
    assert "allowed_peers" in str(few.refusal(OTHER, 0.0))
    few.revoked = frozenset({PEER})
    assert "revoked" in str(few.refusal(PEER, 0.0))
    assert "revoked" in str(few.author_refusal(PEER))


def test_a_ban_ends_and_is_longer_the_next_time() -> None:
    gate = Gate()
    assert gate.ban(PEER, 0.0) == BAN_FIRST_S
    assert gate.refusal(PEER, BAN_FIRST_S - 1) is not None
    assert gate.author_refusal(PEER) is None
    assert gate.refusal(PEER, BAN_FIRST_S) is None
    assert [gate.ban(PEER, 0.0) for _ in range(8)][-1] == BAN_MAX_S
    for number in range(BANS_MAX + 10):
        gate.ban(str(number), 0.0)
    assert gate.bans == BANS_MAX


def test_revoked_peers_are_read_again_when_the_file_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "revoked"
    file = RevokedFile(path)
    assert file.changed() == frozenset()
    assert file.changed() is None
    write_revoked(path, {PEER})
    assert file.changed() == frozenset({PEER})
    assert file.changed() is None
    path.write_text(f"# why\n{PEER}  # because\n\nnonsense\n{OTHER}\n")
    assert file.changed() == frozenset({PEER, OTHER})
    assert "revoked:4: this is no peer id" in caplog.text
    path.unlink()
    path.mkdir()
    # What is there and cannot be read lets nobody in again.
    assert file.changed() is None
    assert file.changed() is None
    assert caplog.text.count("cannot be read") == 1
    path.rmdir()
    assert file.changed() == frozenset()
    path.write_bytes(bytes(2_000_000))
    with pytest.raises(OSError, match="larger than"):
        read_revoked(path)


# --- nodes --------------------------------------------------------------------------------------------------


class Mesh:
    """Nodes that are stopped at the end, and secrets in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    def secret(self, name: str, mesh: str = "home") -> Path:
        path = self.folder / f"{name}.secret"
        save_secret(path, new_secret(mesh))
        return path

    def peer(self, name: str) -> str:
        return load_identity(self.folder / f"{name}.key").peer_id

    async def node(self, name: str, **settings: Any) -> Node:
        chosen = {"mesh_name": "home", "revoked_interval_s": 0.02, "ping_interval_s": 60.0, **settings}
        node = libp2p_node(self.folder, name, **chosen)
        self.nodes.append(node)
        return await node.start(TOPIC)

    async def refused(self, one: Node, other: Node) -> None:
        """``one`` dials ``other``, and they do not become peers."""
        await one.transport.dial(other.transport.addresses[0])
        await one.counts("dropped_admission")
        assert dict(one.transport.peers()) == dict(other.transport.peers()) == {}
        assert one.events == other.events == []


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setattr(libp2p_dialler, "REFUSED_BASE_S", 0.3)
    mesh = Mesh(tmp_path)
    yield mesh
    await asyncio.gather(*(node.stop() for node in mesh.nodes))


async def test_who_knows_the_secret_is_in_and_is_heard_through_others(mesh: Mesh) -> None:
    secret = mesh.secret("mesh")
    a, b, c = [await mesh.node(name, secret_file=secret, gossip_addresses=False) for name in "abc"]
    await connect(a, b)
    await connect(b, c)
    largest = os.urandom(900_000)
    for payload in (b"", b"through b", largest):
        await a.transport.publish(TOPIC, payload)
        await c.hears(TOPIC, payload)
    assert a.peer_id not in c.transport.peers()


async def test_who_has_a_wrong_secret_is_refused_counted_told_once_and_tried_again_seldom(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    a = await mesh.node("a", secret_file=mesh.secret("mesh"))
    wrong = mesh.secret("wrong")
    b = await mesh.node("b", secret_file=wrong)
    await mesh.refused(b, a)
    await a.counts("dropped_admission")
    told = [record.getMessage() for record in caplog.records if "not let into" in record.getMessage()]
    assert len(told) == 2
    assert any(b.peer_id in line or a.peer_id in line for line in told)
    assert all("mesh.secret_file the same" in line for line in told)
    await asyncio.gather(*(b.transport.dial(a.transport.addresses[0]) for _ in range(50)))
    await until(lambda: b.transport.counters()["dropped_admission"] >= 2, "it was not tried again")
    assert b.transport.counters()["dials"] < 5
    assert load_secret(wrong).line().split(":")[3] not in caplog.text
    assert [record.getMessage() for record in caplog.records if "not let into" in record.getMessage()] == told
    # Put right, it is let in.
    await b.stop()
    again = await mesh.node("b", secret_file=mesh.folder / "mesh.secret")
    await connect(again, a)


@pytest.mark.parametrize("dialler", ["with", "without"])
async def test_who_has_no_secret_is_refused_and_told_so_on_both_sides(
    mesh: Mesh, dialler: str, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {"with": await mesh.node("a", secret_file=mesh.secret("mesh")), "without": await mesh.node("b")}
    one = nodes.pop(dialler)
    await mesh.refused(one, next(iter(nodes.values())))
    assert "secret" in caplog.text


async def test_one_secret_under_two_names_is_two_meshes(mesh: Mesh, tmp_path: Path) -> None:
    first = mesh.secret("mesh")
    other = tmp_path / "renamed.secret"
    save_secret(other, MeshSecret("away", load_secret(first).secret))
    a = await mesh.node("a", secret_file=first)
    b = await mesh.node("b", secret_file=other, mesh_name="away")
    await mesh.refused(b, a)
    with pytest.raises(TransportError, match=r"it is of the mesh 'away', but mesh\.name is 'home'"):
        await mesh.node("c", secret_file=other)


async def test_with_a_list_of_peers_others_are_refused_with_or_without_the_secret(mesh: Mesh) -> None:
    secret = mesh.secret("mesh")
    allowed = (mesh.peer("a"), mesh.peer("b"))
    a = await mesh.node("a", allowed_peers=allowed)
    b = await mesh.node("b", allowed_peers=allowed)
    c = await mesh.node("c")
    await connect(a, b)
    await c.transport.dial(a.transport.addresses[0])
    await a.counts("dropped_admission")
    await c.counts("dropped_admission")
    both = await mesh.node("both", secret_file=secret, allowed_peers=(mesh.peer("friend"),))
    friend = await mesh.node("friend", secret_file=secret)
    stranger = await mesh.node("stranger", secret_file=secret)
    await connect(friend, both)
    await stranger.transport.dial(both.transport.addresses[0])
    await both.counts("dropped_admission")
    assert set(both.transport.peers()) == {friend.peer_id}
    with pytest.raises(TransportError, match="'nobody' is no peer id"):
        await mesh.node("d", allowed_peers=("nobody",))


async def test_what_a_stranger_wrote_is_dropped_though_a_member_forwards_it(mesh: Mesh) -> None:
    secret = mesh.secret("mesh")
    a, b = [await mesh.node(name, secret_file=secret) for name in "ab"]
    await connect(a, b)
    stranger = create_new_key_pair()
    await send(b, a, signed(stranger, 1, b"let me in"), signed(stranger, 2, bytes(SEAL_BYTES) + b"let me in"))
    await a.counts("dropped_seal", 2)
    assert a.payloads(TOPIC) == []
    # With a seal of its own, an identity that nobody admitted is vouched for by whoever knows the secret.
    number = (3).to_bytes(8, "big")
    author = ID.from_pubkey(stranger.public_key).to_bytes()
    sealed = Sealer(load_secret(secret)).seal(author, number, TOPIC, b"vouched")
    await send(b, a, signed(stranger, 3, sealed))
    await a.hears(TOPIC, b"vouched")


async def test_without_a_secret_the_list_of_peers_is_that_of_authors_too(mesh: Mesh) -> None:
    allowed = (mesh.peer("a"), mesh.peer("b"))
    a, b = [await mesh.node(name, allowed_peers=allowed) for name in "ab"]
    await connect(a, b)
    await send(b, a, signed(create_new_key_pair(), 1, b"let me in"))
    await a.counts("dropped_author")
    assert a.payloads(TOPIC) == []
    await b.transport.publish(TOPIC, b"mine")
    await a.hears(TOPIC, b"mine")


async def test_a_peer_revoked_on_a_running_mesh_is_cut_off_and_not_heard_through_others(mesh: Mesh) -> None:
    secret = mesh.secret("mesh")
    revoked = mesh.folder / "revoked_peers"
    a = await mesh.node("a", secret_file=secret, revoked_file=revoked, gossip_addresses=False)
    b = await mesh.node("b", secret_file=secret, gossip_addresses=False)
    bad = await mesh.node("bad", secret_file=secret, gossip_addresses=False)
    for one, other in ((bad, a), (b, a), (bad, b)):
        await connect(one, other)
    await bad.transport.publish(TOPIC, b"still in")
    await a.hears(TOPIC, b"still in")

    write_revoked(revoked, {bad.peer_id})
    assert (await a.loses(bad.peer_id)).reason == "revoked"
    await bad.transport.publish(TOPIC, b"through b")
    await b.hears(TOPIC, b"through b")
    await a.counts("dropped_author")
    # It dials again, and is refused.
    await a.counts("dropped_admission")
    await b.transport.publish(TOPIC, b"from b")
    await a.hears(TOPIC, b"from b")
    assert b"through b" not in a.payloads(TOPIC)
    assert bad.peer_id not in a.transport.peers()

    write_revoked(revoked, ())
    await a.transport.dial(bad.transport.addresses[0])
    await a.meets(bad)


async def test_who_was_revoked_before_the_start_stays_out(mesh: Mesh) -> None:
    revoked = mesh.folder / "revoked_peers"
    write_revoked(revoked, {mesh.peer("bad")})
    a = await mesh.node("a", revoked_file=revoked)
    bad = await mesh.node("bad")
    await bad.transport.dial(a.transport.addresses[0])
    await a.counts("dropped_admission")
    await a.transport.dial(bad.transport.addresses[0])
    await a.counts("dropped_admission", 2)
    assert dict(a.transport.peers()) == {}


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 64, bytes(1 + 32), b"\x01" + bytes(32), os.urandom(200_000)])
async def test_whoever_answers_the_proof_with_garbage_is_refused_and_nobody_else_harmed(
    mesh: Mesh, garbage: bytes
) -> None:
    secret = mesh.secret("mesh")
    a, b = [await mesh.node(name, secret_file=secret, handshake_timeout_s=1.0) for name in "ab"]
    hostile = await mesh.node("hostile", secret_file=secret)
    await connect(a, b)

    async def dial(engine: libp2p_engine.Engine) -> None:
        async def talk(_: Any, conn: Any, __: Any) -> None:
            await conn.write(b"\x13/multistream/1.0.0\n\x16/bzzz/admission/1.0.0\n" + bytes(32) + garbage)
            await trio.sleep_forever()

        engine._admission._dial = talk  # type: ignore[method-assign, assignment]
        with trio.move_on_after(3.0):
            await engine._swarm.connect(parse_address(a.transport.addresses[0]), lambda _: False)

    asking = asyncio.create_task(inside(hostile, dial))
    try:
        await until(
            lambda: sum(a.transport.counters().get(f"dropped_{why}", 0) for why in ("admission", "handshake")) > 0,
            "it was not refused",
        )
        assert set(a.transport.peers()) == {b.peer_id}
        await b.transport.publish(TOPIC, b"undisturbed")
        await a.hears(TOPIC, b"undisturbed")
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_refusals_are_told_so_often_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    counts: Counter[str] = Counter()
    caplog.set_level(logging.WARNING)

    async def knock() -> None:
        admission = Admission(None, Gate([PEER]), None, timeout_s=1.0, counts=counts)
        for number in range(1000):
            with pytest.raises(PeerError):
                admission.check(f"peer {number % 500}")
            await trio.lowlevel.checkpoint()

    await asyncio.to_thread(trio.run, knock)
    assert counts["dropped_admission"] == 1000
    assert len(caplog.records) == REFUSALS_TOLD_BURST

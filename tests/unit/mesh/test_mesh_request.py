"""Requests: their form, the desk that bounds them, and what hostile peers make of them on either engine.

It speaks for bzzz.mesh.libp2p_request and bzzz.mesh.zenoh_request.
What honest peers see is in the conformance suite.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zenoh
from hypothesis import given
from hypothesis import strategies as st
from libp2p.utils import encode_varint_prefixed
from tests.support.mesh_engine import Nodes, connect, engine_of, inside, nodes, send_frames
from tests.support.mesh_node import Node, until, zenoh_node

from bzzz.errors import PeerError, RequestFailed
from bzzz.mesh import libp2p_request
from bzzz.mesh.identity import load_identity
from bzzz.mesh.libp2p_engine import Engine
from bzzz.mesh.libp2p_request import REQUEST_PROTOCOL
from bzzz.mesh.request import (
    TIMEOUT_S_MAX,
    Request,
    RequestBounds,
    Status,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from bzzz.mesh.request_desk import PEERS_MAX, RequestDesk
from bzzz.mesh.zenoh_key import KeySpace
from bzzz.mesh.zenoh_signature import ANSWER, REQUEST, Signer

KIND = "test/transcript"
PEER = "12D3KooWPeer"

# --- the form -----------------------------------------------------------------------------------------------


@given(st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,63}", fullmatch=True), st.integers(1, 600_000), st.binary())
def test_a_request_is_read_as_it_was_written(kind: str, timeout_ms: int, payload: bytes) -> None:
    request = Request(kind, timeout_ms / 1000, payload)
    assert read_request(write_request(request)) == request


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_within_its_bounds_or_malformed(data: bytes) -> None:
    try:
        request = read_request(data)
    except PeerError:
        return
    assert 0 < len(request.kind) <= 64
    assert 0 <= request.timeout_s <= TIMEOUT_S_MAX
    assert data.endswith(request.payload)


@given(st.binary(max_size=2_000))
def test_any_bytes_are_an_answer_or_a_failure_that_is_one_plain_line(data: bytes) -> None:
    if data[:1] == bytes((Status.ANSWERED,)):
        assert read_answer(PEER, data) == data[1:]
        return
    with pytest.raises(RequestFailed) as caught:
        read_answer(PEER, data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


# --- the desk -----------------------------------------------------------------------------------------------


def test_what_is_remembered_of_askers_is_bounded_and_who_leaves_makes_room() -> None:
    desk = RequestDesk(RequestBounds(served_max=2, served_per_peer_max=1))
    assert desk.admit("a") is None
    assert desk.admit("a") == write_answer(Status.BUSY, b"other requests are being answered; try again")
    assert desk.admit("b") is None
    assert desk.admit("c") is not None
    desk.leave("a")
    assert desk.admit("c") is None
    for peer in ("b", "c"):
        desk.leave(peer)
    for number in range(PEERS_MAX * 2):
        assert desk.admit(str(number)) is None
        desk.leave(str(number))
    assert len(desk._rates) == PEERS_MAX
    assert not desk._served


async def test_a_handler_gets_no_longer_than_the_answerer_allows_whatever_the_asker_would_wait() -> None:
    desk = RequestDesk(RequestBounds(answer_s_max=0.01))

    async def never(_: str, __: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    desk.serve(KIND, never)
    answer = await desk.answer(PEER, write_request(Request(KIND, 600.0, b"")))
    assert answer[0] == Status.FAILED
    assert desk.counts() == {"dropped_request_late": 1}


# --- hostile peers over libp2p --------------------------------------------------------------------------------


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with nodes(tmp_path) as started:
        yield started


def streams_of(node: Node) -> int:
    links = engine_of(node)._links.values()
    return sum(len(link.muxed_conn.streams) for one in links for link in one)


async def echo(_: str, payload: bytes) -> bytes:
    return payload


async def test_an_oversized_or_malformed_request_is_counted_and_others_are_answered(mesh: Nodes) -> None:
    a, hostile = await mesh.node("a"), await mesh.node("hostile")
    await connect(hostile, a)
    a.transport.serve(KIND, echo)
    oversized = b"\xff\xff\xff\xff\x7f"
    await send_frames(hostile, a, oversized, protocol=REQUEST_PROTOCOL)
    await a.counts("dropped_request_oversized")
    await send_frames(hostile, a, encode_varint_prefixed(b"\xffnonsense"), protocol=REQUEST_PROTOCOL)
    await a.counts("dropped_request_malformed")
    assert await hostile.transport.request(a.peer_id, KIND, b"good", 10.0) == b"good"


async def test_whoever_begins_requests_and_does_not_end_them_holds_a_few_places_for_a_while(
    mesh: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libp2p_request, "TRANSFER_S_MAX", 1.0)
    bounds = RequestBounds(served_per_peer_max=2)
    a, honest = await mesh.node("a", requests=bounds), await mesh.node("honest")
    hostile = await mesh.node("hostile")
    for node in (honest, hostile):
        await connect(node, a)
    a.transport.serve(KIND, echo)
    before = streams_of(a)
    half = encode_varint_prefixed(write_request(Request(KIND, 60.0, bytes(1000))))[:100]
    for _ in range(5):
        await send_frames(hostile, a, half, protocol=REQUEST_PROTOCOL)
    await a.counts("dropped_request_busy", 3)
    assert await honest.transport.request(a.peer_id, KIND, b"meanwhile", 10.0) == b"meanwhile"
    await a.counts("dropped_request_slow", 2)
    assert await hostile.transport.request(a.peer_id, KIND, b"at last", 10.0) == b"at last"
    await until(lambda: streams_of(a) <= before, "streams are kept of requests that came to nothing")
    assert not a.transport._desk._served  # type: ignore[attr-defined]


async def test_two_hundred_requests_leave_no_stream_behind(mesh: Nodes) -> None:
    generous = RequestBounds(peer_requests_per_s_max=1e6)
    a, b = await mesh.node("a", requests=generous), await mesh.node("b", requests=generous)
    await connect(a, b)
    b.transport.serve(KIND, echo)
    before = streams_of(a), streams_of(b)
    for _ in range(50):
        answers = await asyncio.gather(
            *(a.transport.request(b.peer_id, KIND, b"%d" % number, 10.0) for number in range(4))
        )
        assert list(answers) == [b"0", b"1", b"2", b"3"]
    await until(lambda: (streams_of(a), streams_of(b)) <= before, "streams are kept of requests that were answered")


async def test_an_answer_that_breaks_its_bound_is_a_failure_and_an_offence(mesh: Nodes) -> None:
    a = await mesh.node("a", requests=RequestBounds(bytes_max=1000))
    hostile = await mesh.node("hostile")
    await connect(a, hostile)

    async def much(_: str, __: bytes) -> bytes:
        return bytes(100_000)

    hostile.transport.serve(KIND, much)
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(hostile.peer_id, KIND, b"", 10.0)
    assert caught.value.reason == "oversized"
    assert a.transport.counters()["offences"] >= 1


async def test_who_knows_nothing_of_requests_is_told_apart_from_who_is_slow(mesh: Nodes) -> None:
    a, plain = await mesh.node("a"), await mesh.node("plain")
    await connect(a, plain)

    async def forget(engine: Engine) -> None:
        engine._host.remove_stream_handler(REQUEST_PROTOCOL)

    await inside(plain, forget)
    with pytest.raises(RequestFailed) as caught:
        await a.transport.request(plain.peer_id, KIND, b"", 10.0)
    assert caught.value.reason == "unserved"


async def test_a_request_given_up_in_the_middle_leaves_the_connection_whole(mesh: Nodes) -> None:
    """A frame that is half written when its writer is cancelled would end all that goes over the connection."""
    a, b = await mesh.node("a"), await mesh.node("b")
    await connect(a, b)
    b.transport.serve(KIND, echo)
    large = bytes(4 * 1024 * 1024)
    for at in range(12):
        with pytest.raises(RequestFailed):
            await a.transport.request(b.peer_id, KIND, large, 0.002 * (at + 1))
    await until(lambda: not b.transport._desk._served, "places are still held")  # type: ignore[attr-defined]
    assert await a.transport.request(b.peer_id, KIND, b"whole", 10.0) == b"whole"
    assert a.disconnected() == []
    assert b.disconnected() == []


# --- hostile programs over Zenoh ------------------------------------------------------------------------------


async def test_a_request_that_is_not_signed_for_this_peer_or_comes_twice_reaches_no_handler(tmp_path: Path) -> None:
    a = await zenoh_node(tmp_path, "a").start()
    asked: list[bytes] = []

    async def note(_: str, payload: bytes) -> bytes:
        asked.append(payload)
        return b""

    a.transport.serve(KIND, note)
    session = _outsider(a.transport.addresses[0].split("/")[4])
    try:
        await until(lambda: bool(session.info.peers_zid()), "the outsider did not connect")
        key, mesh_name = KeySpace(str(tmp_path)).of_requests(a.peer_id), str(tmp_path).encode()
        signer, number = Signer(load_identity(tmp_path / "liar.key")), bytes(16)
        data = write_request(Request(KIND, 5.0, b"good"))
        good = number + signer.seal(REQUEST, mesh_name, a.peer_id.encode(), number, data)
        elsewhere = number + signer.seal(REQUEST, mesh_name, b"another peer", number, data)
        as_answer = number + signer.seal(ANSWER, mesh_name, a.peer_id.encode(), number, data)
        tries: list[dict[str, Any]] = [
            {"payload": data},
            {"payload": data, "attachment": elsewhere},
            {"payload": data, "attachment": as_answer},
            {"payload": data + b"!", "attachment": good},
            {"payload": bytes(5_000_000), "attachment": good},
            {"payload": data, "attachment": good},
            {"payload": data, "attachment": good},
        ]
        for one in tries:
            await asyncio.to_thread(lambda one=one: list(session.get(key, timeout=0.3, **one)))  # type: ignore[misc]
        await a.counts("dropped_copy")
        counts = a.transport.counters()
        assert asked == [b"good"]
        assert counts["dropped_signature"] == 3
        assert counts["dropped_malformed"] == 1
    finally:
        session.close()  # type: ignore[no-untyped-call]
        await a.stop()


async def test_an_answer_by_another_than_was_asked_is_not_taken(tmp_path: Path) -> None:
    a, b = await zenoh_node(tmp_path, "a").start(), await zenoh_node(tmp_path, "b").start()
    session = _outsider(a.transport.addresses[0].split("/")[4])
    try:
        await b.transport.dial(a.transport.addresses[0])
        await a.meets(b)
        signer, mesh_name = Signer(load_identity(tmp_path / "liar.key")), str(tmp_path).encode()
        lied = asyncio.Event()
        loop = asyncio.get_running_loop()

        def lie(query: zenoh.Query) -> None:
            assert query.attachment is not None
            answer = write_answer(Status.ANSWERED, b"a lie")
            seal = signer.seal(ANSWER, mesh_name, a.peer_id.encode(), query.attachment.to_bytes()[:16], answer)
            query.reply(query.key_expr, answer, attachment=seal)
            query.drop()  # type: ignore[no-untyped-call]
            loop.call_soon_threadsafe(lied.set)

        queryable = session.declare_queryable(KeySpace(str(tmp_path)).of_requests(b.peer_id), lie)

        async def truth(_: str, __: bytes) -> bytes:
            await lied.wait()
            return b"the truth"

        b.transport.serve(KIND, truth)
        answers: list[bytes] = []
        async with asyncio.timeout(15):
            while not answers:
                # Nothing tells when the liar's declaration has come, and none is answered before it lied.
                with contextlib.suppress(RequestFailed):
                    answers.append(await a.transport.request(b.peer_id, KIND, b"", 1.0))
        assert answers == [b"the truth"]
        assert queryable is not None
    finally:
        session.close()  # type: ignore[no-untyped-call]
        await asyncio.gather(a.stop(), b.stop())


def _outsider(port: str) -> zenoh.Session:
    config = zenoh.Config()
    entries = {
        "mode": "peer",
        "listen/endpoints": [],
        "connect/endpoints": [f"tcp/127.0.0.1:{port}"],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }
    for name, value in entries.items():
        config.insert_json5(name, json.dumps(value))
    return zenoh.open(config)

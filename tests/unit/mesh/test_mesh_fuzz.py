"""Everything that reads bytes from a peer, fed with bytes that no peer of ours would send, for a bounded time.

``BZZZ_FUZZ_EXAMPLES`` makes it longer; ``make soak`` does. A reader may refuse, in the one way that it is said to;
it may not raise anything else, hang, or keep more than its bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from tests.support.mesh_engine import TOPIC, Nodes, connect, held, inside, signed

from bzzz.core.message import (
    Announced,
    Availability,
    Capability,
    Discussion,
    Hint,
    Message,
    TaskAnnouncement,
    TaskClaim,
    TaskComplete,
    TaskProgress,
)
from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId, TaskType
from bzzz.errors import PeerError
from bzzz.mesh.address import parse_address, parse_wanted
from bzzz.mesh.address_gossip import AddressBook
from bzzz.mesh.discovery import read_announcement
from bzzz.mesh.frame import FrameReader
from bzzz.mesh.libp2p_muxer import CONNECTION_BUFFER_BYTES_MAX, LiveYamux
from bzzz.mesh.libp2p_session import BulkSession
from bzzz.mesh.mesh_secret import read_line
from bzzz.mesh.settings import MeshSettings
from bzzz.wire import Envelope, decode, encode

EXAMPLES = int(os.environ.get("BZZZ_FUZZ_EXAMPLES", "200"))
PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

TASK = TaskId("acme/widgets", 7)
HINT = Hint(3, RecordState.HELD, PEER, 1, 0)
MESSAGES: list[Message] = [
    Availability("walnut", 1, 1, 2, {TASK: 3}, last_activity_s=1_700_000_000.0),
    Capability("walnut", 1, ("code-generation",), ("m",), "python", "0.1.0"),
    TaskAnnouncement((Announced(Task(TASK, "Count", TaskType.GENERAL, 5, ("bug",), ("count",)), True, HINT),)),
    TaskClaim(TASK, HINT, "walnut"),
    TaskProgress(TASK, 3, "agent", "reading"),
    TaskComplete(TASK, HINT, "walnut", "branch", "http://x/1", "done"),
    Discussion("task_help_request", {"question": "why?"}, 1),
]
GOOD = [encode(message, Envelope(PEER, 1_700_000_000.0, 1, 1)) for message in MESSAGES]


def test_what_is_changed_below_is_good_to_begin_with() -> None:
    assert [decode(payload, PEER)[1] for payload in GOOD] == MESSAGES


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["1e999", "2**64", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+23:59", "\ud800", "a#b#7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def changed(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """One of the good texts with a few bytes removed, repeated, flipped or put in."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 30)))
        data[start:end] = draw(st.sampled_from([b"", bytes(data[start:end]) * 2]) | st.binary(max_size=12))
    return bytes(data)


@st.composite
def misfilled(draw: st.DrawFn) -> bytes:
    """One of the good messages with a value somewhere in it in the place of another."""
    value = json.loads(draw(st.sampled_from(GOOD)))
    at = value
    for _ in range(draw(st.integers(0, 4))):
        keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw(anything)
        break
    return json.dumps(value).encode()


@bounded
@given(st.binary(max_size=300) | changed(GOOD) | misfilled())
def test_the_decoder_of_messages_gives_a_message_or_refuses(payload: bytes) -> None:
    with contextlib.suppress(PeerError):
        envelope, message = decode(payload, PEER)
        assert envelope.peer == PEER
        assert isinstance(message, tuple(map(type, MESSAGES)))


@pytest.mark.parametrize("depth", [10, 1_000, 100_000])
def test_deep_messages_are_refused(depth: int) -> None:
    for opening in (b"[", b'{"data":', b'{"data":{"tasks":['):
        with pytest.raises(PeerError):
            decode(opening * depth, PEER)


class Pieces:
    """A stream that gives what it has in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    async def read(self, n: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@bounded
@given(st.lists(st.binary(max_size=64), max_size=8))
def test_the_splitter_of_frames_ends_whatever_comes(pieces: list[bytes]) -> None:
    async def read() -> list[bytes]:
        reader = FrameReader(Pieces(list(pieces)), 40)
        frames = []
        with contextlib.suppress(EOFError, PeerError):
            while True:
                frames.append(await reader.next())
        return frames

    frames = asyncio.run(read())
    assert sum(map(len, frames)) <= sum(map(len, pieces))
    assert all(len(frame) <= 40 for frame in frames)


@bounded
@given(st.binary(max_size=200) | changed([b'{"addresses":["/ip4/192.0.2.7/tcp/4001","/ip6/2001:db8::7/tcp/1"]}']))
def test_told_addresses_are_few_and_of_whoever_told_them(payload: bytes) -> None:
    with contextlib.suppress(PeerError):
        found = AddressBook([parse_address("/ip4/192.0.2.2/tcp/1")]).read(payload, PEER, 0.0)
        assert len(found) <= 8
        assert all(address.peer == PEER and address.is_ip and not address.is_loopback for address in found)


ANNOUNCED = b"dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/" + PEER.encode()


@bounded
@given(st.binary(max_size=400) | changed([bytes((len(ANNOUNCED),)) + ANNOUNCED]))
def test_announcements_are_few_addresses_or_none(data: bytes) -> None:
    found = read_announcement(data, "bzzz")
    assert len(found) <= 8
    assert len({address.peer for address in found}) <= 1


@bounded
@given(
    st.text(max_size=80) | st.from_regex(r"/(ip4|ip6|dns|dnsaddr)/[0-9a-f.:%]{0,20}(/tcp/[0-9-]{0,6})?(/p2p/\w*)?")
)
def test_an_address_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_wanted(str(parse_wanted(text))) == parse_wanted(text)


@bounded
@given(
    st.text(max_size=200) | st.from_regex(r"bzzz-mesh:1:[a-z]{1,9}:[A-Za-z0-9_-]{43}:[0-9a-f]{8}(@[/a-z0-9,]*)?")
)
def test_an_invitation_that_nobody_made_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="invitation"):
        read_line(line)


# --- the muxer ----------------------------------------------------------------------------------------------


class Connection:
    """A secured connection of which only the other side's bytes are known."""

    is_initiator = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.written = 0

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        start = self.at
        self.at += min(n, len(self.data) - start)
        return self.data[start : self.at]

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += len(data)

    async def close(self) -> None:
        self.data = b""

    async def pace(self, reads: int) -> None:
        """As fast as it comes."""

    def encrypt(self, data: bytes) -> bytes:
        return data

    decrypt = encrypt

    def get_remote_address(self) -> None:
        return None


frames = st.tuples(
    st.integers(0, 5),
    st.integers(0, 31),
    st.integers(0, 9),
    st.sampled_from([0, 1, 5, 20, 3_000, 2**20, 2**31, 2**32 - 1]),
    st.sampled_from([0, 1, 5, 20, 3_000]),
)


def written(frame: tuple[int, int, int, int, int]) -> bytes:
    """A frame's header, and a body that may be longer or shorter than it says."""
    *header, body = frame
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, *header) + bytes(body)


def sealed(data: bytes, size: int = 2**16 - 1) -> bytes:
    """As an encrypted connection sends it, but for the encryption."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)


def session_over(conn: Any, early: bytes = b"") -> Any:
    """What the library makes of a connection, with what came together with the handshake."""
    conn.stream = conn
    written = SimpleNamespace(read_writer=SimpleNamespace(read_write_closer=conn), noise_state=conn)
    return SimpleNamespace(conn=written, close=conn.close, _drain=lambda _: early)


@bounded
@given(st.binary(max_size=500), st.integers(1, 60), st.lists(st.integers(1, 70), min_size=1), st.binary(max_size=9))
def test_a_session_gives_what_was_sent_however_it_comes(
    data: bytes, size: int, steps: list[int], early: bytes
) -> None:
    class Dripping(Connection):
        async def read(self, n: int) -> bytes:
            return await super().read(next(pieces))

    pieces = itertools.cycle(steps)

    async def run() -> None:
        session, got = BulkSession(session_over(Dripping(sealed(data, size)), early)), b""
        with contextlib.suppress(ConnectionClosedError):
            while True:
                got += await session.read(next(pieces))
        assert got == early + data

    trio.run(run)


@bounded
@given(st.lists(frames, max_size=25), st.binary(max_size=300))
def test_the_muxer_ends_and_keeps_no_more_than_its_bound_whatever_comes(
    told: list[tuple[int, int, int, int, int]], tail: bytes
) -> None:
    data = b"".join(map(written, told)) + tail

    async def run() -> None:
        conn = Connection(sealed(data))
        muxed = LiveYamux(
            BulkSession(session_over(conn)),
            ID.from_base58(PEER),
            is_initiator=False,
            settings=MeshSettings(Path("none")),
            misbehaved=lambda *_: None,
        )

        async def take() -> None:
            with contextlib.suppress(Exception):
                while True:
                    await muxed.accept_stream()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            with trio.fail_after(60):
                await muxed.handle_incoming()
            assert muxed.buffered_bytes <= CONNECTION_BUFFER_BYTES_MAX
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


# --- a running node -----------------------------------------------------------------------------------------


def _rpcs() -> list[bytes]:
    message = signed(None, 1, b"payload")
    control = rpc_pb2.ControlMessage()
    control.ihave.add(topicID=TOPIC, messageIDs=[b"id" * 20])
    control.iwant.add(messageIDs=[b"id" * 20])
    control.graft.add(topicID=TOPIC)
    control.prune.add(topicID=TOPIC, backoff=3)
    subscription = rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)
    return [
        rpc_pb2.RPC(publish=[message]).SerializeToString(),
        rpc_pb2.RPC(control=control).SerializeToString(),
        rpc_pb2.RPC(subscriptions=[subscription], publish=[message], control=control).SerializeToString(),
    ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Callable[[list[bytes]], None], Nodes, Any]]:
    """A node in a thread, a way to feed it with frames of a peer, the node's own peers, and its event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def start() -> Nodes:
        made = Nodes(tmp_path_factory.mktemp("fuzz"))
        await connect(await made.node("a"), await made.node("b"))
        return made

    made = wait(start())

    def feed(data: list[bytes]) -> None:
        async def take(engine: Any) -> None:
            pubsub, stranger = engine._pubsub, ID.from_base58(PEER)
            for frame in data:
                # As the reader of a stream does, which may not end for what one frame holds.
                with contextlib.suppress(Exception):
                    await pubsub._take(frame, stranger)
            pubsub._handle_dead_peer(stranger)

        wait(inside(made.started[0], take))

    yield feed, made, wait
    for node in made.started:
        wait(node.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@bounded
@given(st.lists(st.binary(max_size=200) | changed(_rpcs()), max_size=4))
def test_a_node_lives_on_whatever_frames_it_is_sent(running: Any, data: list[bytes]) -> None:
    feed, made, _ = running
    feed(data)
    assert "engine_deaths" not in made.started[0].transport.counters()


def test_a_node_fed_so_has_kept_nothing_and_is_heard(running: Any) -> None:
    feed, made, wait = running
    a, b = made.started
    feed(_rpcs())
    before = held(a)
    for number in range(20):
        feed([signed(None, number, b"x").SerializeToString(), *_rpcs()[1:]])
    seen = {name: size for name, size in held(a).items() if size > before[name] + 25}
    assert seen == {}

    async def talk() -> None:
        await a.transport.publish(TOPIC, b"alive")
        await b.hears(TOPIC, b"alive")

    wait(talk())

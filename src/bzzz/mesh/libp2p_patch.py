"""Everything that is changed in libp2p 0.8.1, with the reason beside each change, and nothing else.

Numbers are those of the table of measured defects in docs/mesh.md; each has a test that fails without its
remedy. Where the library lets a class be replaced, it is derived from; where it looks a name up in its own
module, the name is set there, once, by ``apply_patches``, which refuses any other version of the library.
"""

from __future__ import annotations

import logging
import os
import struct
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.network.swarm import Swarm
from libp2p.peer.envelope import consume_envelope
from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.tcp import tcp
from libp2p.transport.upgrader import TransportUpgrader

from bzzz.errors import TransportError

LIBP2P_VERSION = "0.8.1"
SUBSCRIPTIONS_PER_PEER_MAX = 1000
_READ_BYTES = 65_536
_SEQUENCE_BYTES = 8
_VARINT_BYTES_MAX = 10
_STALL_S = 1.0

_log = logging.getLogger("bzzz.mesh")


def apply_patches() -> None:
    """Set the names that the library looks up in its own modules; a second call does nothing.

    Raises:
        TransportError: another version of libp2p is installed than the one these changes were made for.
    """
    found = version("libp2p")
    if found != LIBP2P_VERSION:
        raise TransportError(
            f"libp2p {found} is installed, but the mesh is made for {LIBP2P_VERSION}; install from the lock file"
        )
    # 14: the signed record of one's own addresses is rebuilt and compared for every message sent.
    gossipsub.env_to_send_in_RPC = pubsub.env_to_send_in_RPC = _record_to_send
    # Two nodes could listen on one port, each getting some of the connections: it asks for SO_REUSEPORT
    # to punch holes into NATs, which is not done here. A taken port must be an error.
    tcp._set_reuse_flags = _reuse_address_alone
    # 8: the far end of an IPv6 connection was unknown, as its socket address has four parts.
    TrioTCPStream.get_remote_address = _remote_address
    # It logs through the root logger, and that installs a handler for the whole program.
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")
    # Every refused dial is an error to it, and is printed where nobody asked to see its log.
    logging.getLogger("libp2p").addHandler(logging.NullHandler())


_record_to_send_as_made = pubsub.env_to_send_in_RPC


def _record_to_send(host: Any) -> tuple[bytes, bool]:
    cached = getattr(host, "mesh_record", None)
    return (cached, False) if cached is not None else _record_to_send_as_made(host)


def _reuse_address_alone(sock: Any) -> None:
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)


def _remote_address(stream: Any) -> tuple[str, int] | None:
    try:
        host, port = stream.stream.socket.getpeername()[:2]
    except OSError:
        return None
    return str(host).partition("%")[0], int(port)


class GuardedManager(TrioManager):  # type: ignore[misc]
    """Runs one of the library's services.

    3, 4: any exception in any task of a service, such as one peer's malformed message, ends the service and
    with it the node. Here it ends the task and is counted; a service's own main loops still end it, for
    without them it would only look alive.
    """

    def __init__(self, service: Any, counts: Counter[str]) -> None:
        super().__init__(service)
        self._counts = counts

    def run_task(
        self, async_fn: Any, *args: Any, daemon: bool = False, name: str | None = None, _internal: bool = False
    ) -> None:
        """As the library's, with the exceptions of passing tasks caught."""
        run = async_fn if daemon or _internal else guarded(async_fn, self._counts, "dropped_task_error")
        super().run_task(run, *args, daemon=daemon, name=name or str(async_fn), _internal=_internal)


def guarded(
    function: Callable[..., Awaitable[Any]], counts: Counter[str], reason: str
) -> Callable[..., Awaitable[None]]:
    """``function`` with its exceptions counted under ``reason`` and ended there."""

    async def run(*args: Any) -> None:
        try:
            await function(*args)
        except Exception as error:
            counts[reason] += 1
            _log.debug("%s: %r", reason, error)

    return run


class IdleConnector(AutoConnector):  # type: ignore[misc]
    """10: the library's own dialling uses its own memory of failures and makes duplicates; ours does it all."""

    async def run_background_task(self, nursery: Any) -> None:
        """Nothing."""

    async def maybe_connect(self) -> None:
        """Nothing."""


class MeshSwarm(Swarm):  # type: ignore[misc]
    """The library's connections, with what comes in counted and its slots given back."""

    def __init__(self, *args: Any, counts: Counter[str], **options: Any) -> None:
        self._counts = counts
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        super().__init__(*args, **options)
        self.auto_connector = IdleConnector(self)

    def close_sockets(self) -> None:
        """Close what is still open after the trio program has ended.

        Where that was cancelled or died, the library leaves its sockets open: peers would wait for an answer
        to their next ping, and the port would stay taken.
        """
        listening = [listener.socket for group in self.listeners.values() for listener in group.listeners]
        for sock in [*listening, *(stream.stream.socket for stream in self._streams)]:
            # The sockets' own close needs the trio program that is no more.
            if (descriptor := sock.detach()) >= 0:
                os.close(descriptor)

    async def upgrade_outbound_raw_conn(self, raw_conn: Any, peer_id: Any, pre_scope: Any = None) -> Any:
        """Make a dialled connection a peer's."""
        self._streams.add(raw_conn.stream)
        return await super().upgrade_outbound_raw_conn(raw_conn, peer_id, pre_scope)

    async def _do_handle_inbound_connection(self, read_write_closer: Any, maddr: Any, _failure_event: Any) -> None:
        # The library keeps an inbound connection's slot until the node ends, so that after some hundred
        # connections nobody can connect any more. Here the slot lives as long as the connection.
        self._streams.add(read_write_closer)
        stream = _Heard(read_write_closer)
        try:
            muxed = await self.upgrade_inbound_raw_conn(RawConnection(stream, False), maddr)
        except Exception as error:
            # Who connects and says nothing only looked whether we are there, as our own probes do.
            self._counts["dropped_handshake" if stream.has_heard else "probed"] += 1
            _log.debug("an incoming connection did not become a peer: %r", error)
            await stream.close()
            return
        await muxed.event_closed.wait()


class _Heard:
    """A byte stream that remembers whether anything came."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.has_heard = False

    async def read(self, n: int | None = None) -> bytes:
        data: bytes = await self._stream.read(n)
        self.has_heard = self.has_heard or bool(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveYamux(Yamux):  # type: ignore[misc]
    """12: a connection that notices silence: a dead host was not noticed in 75 seconds."""

    def __init__(self, *args: Any, ping_interval_s: float, ping_timeout_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._heard_at = trio.current_time()
        self.is_silent = False

    async def _read_data_body(self, length: int) -> bytes:
        body: bytes = await super()._read_data_body(length)
        self._heard_at = trio.current_time()
        return body

    async def _measure_rtt_loop(self) -> None:
        while not self.event_shutting_down.is_set():
            await trio.sleep(self._ping_interval_s)
            asked_at = trio.current_time()
            with trio.move_on_after(self._ping_timeout_s) as waiting:
                try:
                    await self._ping()
                except Exception:
                    # The connection broke while writing; its reader finds the same.
                    return
            if (
                not waiting.cancelled_caught
                or self._heard_at >= asked_at
                or trio.current_time() - asked_at > self._ping_timeout_s + _STALL_S
            ):
                # It speaks, though slowly; or this process itself stood still and could not hear.
                continue
            self.is_silent = True
            # The reader then finds the connection closed and ends it the usual way, with all its notices.
            await self.secured_conn.close()

    async def _ping(self) -> None:
        self._ping_id += 1
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        header = (0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id & 0xFFFFFFFF)
        await self._write_frame(struct.pack(yamux.YAMUX_HEADER_FORMAT, *header))
        await self._ping_event.wait()


class MeshUpgrader(TransportUpgrader):  # type: ignore[misc]
    """Makes a ``LiveYamux`` of each secured connection; the library has its own class wired in."""

    def __init__(self, *args: Any, ping_interval_s: float, ping_timeout_s: float) -> None:
        super().__init__(*args)
        self._liveness = {"ping_interval_s": ping_interval_s, "ping_timeout_s": ping_timeout_s}

    async def upgrade_connection(self, conn: Any, peer_id: Any) -> Any:
        """Agree on Yamux over a secured connection."""
        plain = await super().upgrade_connection(conn, peer_id)
        if not isinstance(plain, Yamux):
            raise MuxerUpgradeFailure(f"the muxer is {type(plain).__name__}, not Yamux")
        return LiveYamux(conn, peer_id, is_initiator=conn.is_initiator, **self._liveness)


class MeshGossipSub(GossipSub):  # type: ignore[misc]
    """The library's router, counting what it drops."""

    def __init__(self, *args: Any, counts: Counter[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._counts = counts

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        """Send or forward a message."""
        await super().publish(msg_forwarder, pubsub_msg)
        # Kept for the adaptive mode, which is off (6), and trimmed by it alone: it would grow for ever.
        self.recent_message_deliveries.clear()

    def _handle_dropped_rpc(self, peer_id: Any, rpc: Any, reason: str) -> None:
        self._counts["dropped_outbound"] += 1
        super()._handle_dropped_rpc(peer_id, rpc, reason)


class _WideQueues(dict[Any, Any]):
    """5: outbound queues hold 32 messages, and overflow in silence."""

    def __init__(self, messages_max: int) -> None:
        super().__init__()
        self._messages_max = messages_max

    def __setitem__(self, peer_id: Any, queue: Any) -> None:
        queue._queue.max_size = self._messages_max
        super().__setitem__(peer_id, queue)


class MeshPubsub(Pubsub):  # type: ignore[misc]
    """The library's publish and subscribe, with every message checked, counted and handed straight on.

    Args:
        host, router: the library's.
        counts: where drops are counted.
        deliver: called with topic, author and payload of each good message of another peer.
        learn: called with a peer and the addresses its signed record tells.
        payload_bytes_max: larger messages are dropped and not forwarded.
        outbound_queue_messages_max: waiting for one peer.
    """

    def __init__(
        self,
        host: Any,
        router: Any,
        *,
        counts: Counter[str],
        deliver: Callable[[str, str, bytes], None],
        learn: Callable[[Any, list[str]], None],
        payload_bytes_max: int,
        outbound_queue_messages_max: int,
    ) -> None:
        super().__init__(host, router, strict_signing=True, max_subscriptions_per_peer=SUBSCRIPTIONS_PER_PEER_MAX)
        self._counts = counts
        self._deliver = deliver
        self._learn = learn
        self._payload_bytes_max = payload_bytes_max
        self._records: dict[Any, bytes] = {}
        self.peer_queues = _WideQueues(outbound_queue_messages_max)
        # 2: it counts from the second of the clock; whoever restarts with the same key repeats numbers that
        # its peers have seen, and is ignored.
        self.counter = time.time_ns()

    async def continuously_read_stream(self, stream: Any) -> None:
        """Take what a peer sends, until its stream ends.

        3: malformed bytes raised through the service and ended the node. 14: it read byte by byte.
        """
        peer_id = stream.muxed_conn.peer_id
        frames = FrameReader(stream, self.max_inbound_rpc_size)
        take = guarded(self._take, self._counts, "dropped_malformed")
        try:
            while True:
                await take(await frames.next(), peer_id)
        except MessageTooLarge:
            self._counts["dropped_oversized"] += 1
            await stream.reset()
        except ParseError:
            self._counts["dropped_malformed"] += 1
            await stream.reset()
        except (StreamError, IOException, RawConnError) as error:
            _log.debug("the stream of %s ended: %r", peer_id, error)

    async def _take(self, frame: bytes, peer_id: Any) -> None:
        rpc = rpc_pb2.RPC()
        try:
            rpc.ParseFromString(frame)
        except DecodeError:
            self._counts["dropped_malformed"] += 1
            return
        if rpc.HasField("senderRecord"):
            self._take_record(rpc.senderRecord, peer_id)
            # The router would check it again, and drop the rest if it does not like it.
            rpc.ClearField("senderRecord")
        for message in rpc.publish:
            # Here and now, not in a task for each: so a flood fills the sender's window and not our memory.
            await self.push_msg(peer_id, message)
            await trio.lowlevel.checkpoint()
        if len(rpc.subscriptions) > SUBSCRIPTIONS_PER_PEER_MAX:
            self._counts["dropped_subscriptions"] += 1
        else:
            for change in rpc.subscriptions:
                self.handle_subscription(peer_id, change)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc, peer_id)

    def _take_record(self, record: bytes, peer_id: Any) -> None:
        """7: a record older than one known dropped all that came with it, SUBSCRIBE included.

        14: the same record comes with every message, and was verified each time.
        """
        if self._records.get(peer_id) == record:
            return
        try:
            _, told = consume_envelope(record, "libp2p-peer-record")
        except Exception:
            self._counts["dropped_record"] += 1
            return
        if told.peer_id != peer_id:
            self._counts["dropped_record"] += 1
            return
        self._records[peer_id] = record
        self._learn(peer_id, [str(address) for address in told.addrs])

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Publish an own message, or take a peer's: check, count, deliver, forward."""
        if msg_forwarder != self.my_id:
            refusal = self._refusal(msg)
            if refusal is not None:
                self._counts[refusal] += 1
                return
        self._mark_msg_seen(msg)
        if msg_forwarder != self.my_id:
            # 5: the library puts it into a queue of 32, and what does not fit is lost in silence.
            self._deliver(msg.topicIDs[0], str(pubsub.ID(msg.from_id)), msg.data)
        await self.router.publish(msg_forwarder, msg)

    def _refusal(self, msg: Any) -> str | None:
        if len(msg.data) > self._payload_bytes_max:
            return "dropped_oversized"
        if len(msg.topicIDs) != 1 or len(msg.seqno) != _SEQUENCE_BYTES or not msg.from_id:
            return "dropped_malformed"
        if not self._is_subscribed_to_msg(msg):
            return "dropped_topic"
        if self._is_msg_seen(msg):
            return "duplicates"
        if msg.from_id == self.my_id.to_bytes():
            return "dropped_own"
        if not msg.signature:
            return "dropped_unsigned"
        try:
            return None if signature_validator(msg) else "dropped_signature"
        except Exception:
            # A key that is no key raised through the service and ended the node (3).
            return "dropped_signature"

    async def _handle_new_peer(self, peer_id: Any) -> None:
        await super()._handle_new_peer(peer_id)
        for topic in [topic for topic, peers in self.peer_topics.items() if peer_id in peers]:
            await self.router.on_peer_subscribed(peer_id, topic)

    def _handle_dead_peer(self, peer_id: Any) -> None:
        # 11: when one of two connections is pruned, the library forgets what the peer subscribed to, though
        # the other goes on; the peer does not say it again, and never gets another message.
        kept = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if not self._peer_is_connected(peer_id):
            self._records.pop(peer_id, None)
            return
        for topic in kept:
            self.peer_topics.setdefault(topic, set()).add(peer_id)
        self._peer_subscription_count[peer_id] = len(kept)

    def mend(self, peer_id: Any) -> None:
        """Open the stream to a connected peer again, if there is none or it went with another connection.

        The library loses it for good by one failed negotiation; and where a restarted peer is back before its
        old connection is seen to end, it goes on with the old stream, and tells the peer no subscription.
        """
        stream = self.peers.get(peer_id)
        if stream is None:
            self._schedule_peer_stream_retry(peer_id)
        elif stream.muxed_conn.is_closed:
            self._handle_dead_peer(peer_id)


class FrameReader:
    """Splits a stream into its length-prefixed frames, reading in bulk.

    Args:
        stream: has ``async read(n) -> bytes``.
        bytes_max: a longer frame is refused before it is read.
    """

    def __init__(self, stream: Any, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next frame.

        Raises:
            MessageTooLarge: its prefix tells more than ``bytes_max``.
            ParseError: its prefix is no varint.
            StreamEOF: the stream ended.
        """
        while (frame := self._split()) is None:
            chunk = await self._stream.read(_READ_BYTES)
            if not chunk:
                raise StreamEOF
            self._buffer += chunk
        return frame

    def _split(self) -> bytes | None:
        length = 0
        for at, byte in enumerate(self._buffer[:_VARINT_BYTES_MAX]):
            length |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                break
        else:
            if len(self._buffer) >= _VARINT_BYTES_MAX:
                raise ParseError("a length prefix does not end")
            return None
        if length > self._bytes_max:
            raise MessageTooLarge(f"a frame of {length} bytes is above {self._bytes_max}")
        start, end = at + 1, at + 1 + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return frame

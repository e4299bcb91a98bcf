"""Publish and subscribe of the library, derived: every message is checked, counted and handed straight on.

What is refused here is not forwarded either. Bounds: the size of a frame and of a payload, how much a peer sends
and an author writes, the subscriptions of a peer, and what waits to be sent to it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.envelope import consume_envelope
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.exceptions import MuxedStreamError

from bzzz.errors import PeerError
from bzzz.mesh.admission import SEAL_BYTES, Gate, Sealer
from bzzz.mesh.conduct import Conduct
from bzzz.mesh.frame import FrameReader
from bzzz.mesh.libp2p_author import AUTHOR_BYTES_MAX, author_name, is_signed, signed_part
from bzzz.mesh.libp2p_router import BoundedQueue, entries_in, frame_of
from bzzz.mesh.libp2p_service import guarded
from bzzz.mesh.seen import SeenMessages

SUBSCRIPTIONS_PER_PEER_MAX = 256
TOPIC_CHARS_MAX = 256
_ENTRY_COST = 0.1
_BROKEN_STREAM_WEIGHT = 10.0
# Yamux gives up after 5 seconds without a window.
_STALLED_S = 4.5
_STALL_WEIGHT = 20.0
# About what fits into one frame of the encryption.
_WRITE_BYTES = 32 * 1024
# What an honest node never sends, for it checks before it forwards.
_OFFENCES = frozenset(
    f"dropped_{reason}"
    for reason in (
        "flood",
        "malformed",
        "oversized",
        "record",
        "seal",
        "signature",
        "stalled",
        "subscriptions",
        "unsigned",
    )
)
_SEQUENCE_BYTES = 8
_log = logging.getLogger("bzzz.mesh")


class _Queues(dict[Any, Any]):
    """Gives each queue of the library's bounds that are ours."""

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        super().__init__()
        self._messages_max = messages_max
        self._bytes_max = bytes_max

    def __setitem__(self, peer_id: Any, queue: Any) -> None:
        queue._queue = BoundedQueue(self._messages_max, self._bytes_max)
        if (replaced := self.get(peer_id)) is not None:
            # Two connections may each have their stream opened. Who sends over the first one waits on its queue for
            # good, and keeps that stream, its connection and all that belongs to it.
            replaced.close()
        super().__setitem__(peer_id, queue)


class MeshPubsub(Pubsub):  # type: ignore[misc]
    """The library's publish and subscribe, with every message checked, counted and handed straight on.

    Args:
        host, router: the library's.
        counts: where drops are counted.
        deliver: called with topic, author and payload of each good message of another peer.
        learn: called with a peer and the addresses its signed record tells.
        gate: whose messages are not taken.
        sealer: seals messages and opens them, where the mesh has a secret.
        conduct: how much a peer may send.
        misbehaved: called with a peer that sent what no honest one sends, what that was, and how much of it.
        payload_bytes_max: larger messages are dropped and not forwarded.
        outbound_queue_messages_max: waiting for one peer.
        outbound_queue_bytes_max: the same in bytes.
    """

    def __init__(
        self,
        host: Any,
        router: Any,
        *,
        counts: Counter[str],
        deliver: Callable[[str, str, bytes], None],
        learn: Callable[[Any, list[str]], None],
        gate: Gate,
        sealer: Sealer | None,
        conduct: Conduct,
        misbehaved: Callable[[str, str, float], None],
        payload_bytes_max: int,
        outbound_queue_messages_max: int,
        outbound_queue_bytes_max: int,
    ) -> None:
        super().__init__(host, router, strict_signing=True, max_subscriptions_per_peer=SUBSCRIPTIONS_PER_PEER_MAX)
        self._counts = counts
        self._deliver = deliver
        self._learn = learn
        self._conduct = conduct
        self._misbehaved = misbehaved
        self._gate = gate
        self._sealer = sealer
        self._data_bytes_max = payload_bytes_max + (0 if sealer is None else SEAL_BYTES)
        self._own_key = host.get_public_key().serialize()
        self._records: dict[Any, bytes] = {}
        self._opening: Counter[Any] = Counter()
        self.peer_queues = _Queues(outbound_queue_messages_max, outbound_queue_bytes_max)
        library_cache: Any = self.__dict__["seen_messages"]
        library_cache.stop()
        self.seen_messages = SeenMessages()
        # 2: it counts from the second of the clock; whoever restarts with the same key repeats numbers that
        # its peers have seen, and is ignored.
        self.counter = time.time_ns()

    async def continuously_read_stream(self, stream: Any) -> None:
        """Take what a peer sends, until its stream ends.

        3: malformed bytes raised through the service and ended the node. 14: it read byte by byte.
        """
        peer_id = stream.muxed_conn.peer_id
        # The muxer's own stream: the library's around it takes a lock for each read and write.
        frames = FrameReader(stream.muxed_stream, self.max_inbound_rpc_size)
        take = guarded(self._take, self._counts, "dropped_malformed")
        try:
            # What a peer sent before it is put out is not read to the end.
            while not stream.muxed_conn.end:
                await take(await frames.next(), peer_id)
        except PeerError as error:
            self._drop(f"dropped_{error.reason}", peer_id, _BROKEN_STREAM_WEIGHT)
            await stream.reset()
        except (EOFError, StreamError, MuxedStreamError, IOException, RawConnError) as error:
            _log.debug("the stream of %s ended: %r", peer_id, error)
            # The library leaves this side open, and the stream is kept as long as the connection.
            with suppress(Exception):
                await stream.close()

    def _drop(self, reason: str, peer_id: Any, weight: float = 1.0) -> None:
        self._counts[reason] += 1
        if reason in _OFFENCES:
            self._misbehaved(str(peer_id), reason.removeprefix("dropped_"), weight)

    async def _take(self, frame: bytes, peer_id: Any) -> None:
        rpc = rpc_pb2.RPC()
        try:
            rpc.ParseFromString(frame)
        except DecodeError:
            self._drop("dropped_malformed", peer_id)
            return
        entries = len(rpc.subscriptions) + (entries_in(rpc.control) if rpc.HasField("control") else 0)
        cost = len(rpc.publish) + entries * _ENTRY_COST
        if not self._conduct.may_send(str(peer_id), cost, len(frame), trio.current_time()):
            self._counts["dropped_flood"] += len(rpc.publish)
            self._counts["dropped_flood_frames"] += 1
            self._misbehaved(str(peer_id), "flood", 1.0)
            return
        if rpc.HasField("senderRecord"):
            self._take_record(rpc.senderRecord, peer_id)
            # The router would check it again, and drop the rest if it does not like it.
            rpc.ClearField("senderRecord")
        for message in rpc.publish:
            if self._gate.refusal(str(peer_id), trio.current_time()) is not None:
                return
            # Here and now, not in a task for each: so a flood fills the sender's window and not our memory.
            self.take(peer_id, message)
            await trio.lowlevel.checkpoint()
        for change in rpc.subscriptions:
            if len(change.topicid) > TOPIC_CHARS_MAX or not self._has_room(peer_id, change):
                self._drop("dropped_subscriptions", peer_id)
            else:
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
            self._drop("dropped_record", peer_id)
            return
        if told.peer_id != peer_id:
            self._drop("dropped_record", peer_id)
            return
        self._records[peer_id] = record
        self._learn(peer_id, [str(address) for address in told.addrs])

    async def publish(self, topic_id: Any, data: bytes) -> None:
        """Seal, sign and send."""
        self.say(topic_id, data)

    def say(self, topic_id: str, data: bytes) -> None:
        """Seal and sign, and have it sent soon."""
        author, number = self.my_id.to_bytes(), self._next_seqno()
        sealed = data if self._sealer is None else self._sealer.seal(author, number, topic_id, data)
        message = rpc_pb2.Message(data=sealed, topicIDs=[topic_id], from_id=author, seqno=number)
        message.signature = self.sign_key.sign(signed_part(message))
        message.key = self._own_key
        self.take(self.my_id, message)

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """As ``take``; for the library."""
        self.take(msg_forwarder, msg)

    def take(self, msg_forwarder: Any, msg: Any) -> None:
        """Publish an own message, or take a peer's: check, count, deliver, forward."""
        if msg_forwarder != self.my_id:
            refusal = self._refusal(msg_forwarder, msg)
            if refusal is not None:
                self._drop(refusal, msg_forwarder)
                if refusal == "duplicates":
                    self.router.duplicate(msg_forwarder, msg.from_id, self.get_message_id(msg))
                return
        self._mark_msg_seen(msg)
        if msg_forwarder != self.my_id:
            # 5: the library puts it into a queue of 32, and what does not fit is lost in silence.
            payload = msg.data if self._sealer is None else msg.data[SEAL_BYTES:]
            self._deliver(msg.topicIDs[0], author_name(msg.from_id), payload)
        self.router.forward(msg_forwarder, msg)

    async def handle_sending_messages(self, peer_id: Any, stream: Any, queue: Any) -> None:
        """Send what waits for a peer, as much of it at once as there is, until its queue or its stream ends.

        Nothing is left of the stream then: a connection has room for so many only.
        """
        end = stream.reset
        try:
            while (frame := await queue.pop()) is not None:
                frames, size_bytes = [frame], len(frame)
                while size_bytes < _WRITE_BYTES and (frame := queue._queue.pop()) is not None:
                    frames.append(frame)
                    size_bytes += len(frame)
                if not await self._write(stream, b"".join(frames)):
                    return
            end = stream.close
        except Exception as error:
            _log.debug("sending to %s ended: %r", peer_id, error)
            self._handle_dead_peer(peer_id)
        finally:
            with suppress(Exception):
                await end()

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        """Write to a peer's stream, ahead of what waits for it; whether that was done."""
        return await self._write(stream, frame_of(rpc_msg))

    async def _write(self, stream: Any, frames: bytes) -> bool:
        """Write to a peer's stream; whether that was done.

        The library waits some seconds for a peer that reads nothing, then opens another stream to it, for ever.
        """
        began = trio.current_time()
        try:
            await stream.muxed_stream.write(frames)
        except MuxedStreamError:
            self._handle_dead_peer(stream.muxed_conn.peer_id)
        else:
            return True
        if not stream.muxed_conn.is_closed and trio.current_time() - began >= _STALLED_S:
            self._drop("dropped_stalled", stream.muxed_conn.peer_id, _STALL_WEIGHT)
        return False

    def _has_room(self, peer_id: Any, change: Any) -> bool:
        known = self.peer_topics.get(change.topicid, ())
        count: int = self._peer_subscription_count.get(peer_id, 0)
        return not change.subscribe or peer_id in known or count < self.max_subscriptions_per_peer

    def _refusal(self, forwarder: Any, msg: Any) -> str | None:
        if len(msg.data) > self._data_bytes_max:
            return "dropped_oversized"
        if len(msg.topicIDs) != 1 or len(msg.seqno) != _SEQUENCE_BYTES:
            return "dropped_malformed"
        if not 0 < len(msg.from_id) <= AUTHOR_BYTES_MAX:
            return "dropped_malformed"
        if not self._is_subscribed_to_msg(msg):
            return "dropped_topic"
        if self._is_msg_seen(msg):
            return "duplicates"
        if msg.from_id == self.my_id.to_bytes():
            return "dropped_own"
        author = author_name(msg.from_id)
        if self._gate.author_refusal(author) is not None:
            return "dropped_author"
        if not msg.signature:
            return "dropped_unsigned"
        if self._sealer and self._sealer.open(msg.from_id, msg.seqno, msg.topicIDs[0], msg.data) is None:
            return "dropped_seal"
        is_neighbour = msg.from_id == forwarder.to_bytes()
        # Nobody else can have put the neighbour's name on what it sends; so that needs no signature to be counted.
        if is_neighbour and not self._conduct.may_write(author, trio.current_time()):
            return "dropped_flood"
        try:
            if not is_signed(msg):
                return "dropped_signature"
        except Exception:
            # A key that is no key raised through the service and ended the node (3).
            return "dropped_signature"
        if not is_neighbour and not self._conduct.may_write(author, trio.current_time()):
            return "dropped_flood_forwarded"
        return None

    async def _handle_new_peer(self, peer_id: Any) -> None:
        self._opening[peer_id] += 1
        try:
            await super()._handle_new_peer(peer_id)
        finally:
            self._opening[peer_id] -= 1
            self._opening += Counter()  # leaves out who is at nought
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
            # One that is being opened would be opened twice: the library looks only before it opens one.
            if peer_id not in self._opening:
                self._schedule_peer_stream_retry(peer_id)
        elif stream.muxed_conn.is_closed:
            self._handle_dead_peer(peer_id)

    def forget_gone(self, is_connected: Callable[[str], bool]) -> None:
        """Forget the peers that have no connection: what came late of one that left is kept by the library."""
        for peer_id in {*self.peers, *self._records, *self._peer_subscription_count}:
            if not is_connected(str(peer_id)) and not self._peer_is_connected(peer_id):
                self._handle_dead_peer(peer_id)

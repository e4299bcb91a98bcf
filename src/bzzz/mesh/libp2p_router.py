"""The library's gossipsub router, derived: what peers ask of it is bounded, and each gets a message once.

Gossipsub's control messages name topics and messages, freely and in any number. Here those about topics that this
node did not join are left out, ids are counted, nobody is dialled because a peer said so, and nothing is kept
beyond what is needed. Own messages go to everybody who joined their topic, and are written out once for all of
them. Those of others are forwarded as ``lazy_push`` says: in whole, or by their ids, which gossipsub calls IHAVE.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import trio
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import PriorityQueue
from libp2p.pubsub.utils import safe_bytes_from_hex
from libp2p.utils.varint import encode_varint_prefixed

from bzzz.mesh.lazy_push import LazyPush, Missing

CONTROL_IDS_MAX = 5_000
REPLY_BYTES_MAX = 4 * 1024 * 1024
FLOOD_PEERS_MAX = 64
"""Own messages go to so many peers at once; where more joined a topic, to those in its mesh."""
_TICK_S = 0.05


class BoundedQueue(PriorityQueue):  # type: ignore[misc]
    """What waits to be sent to one peer. 5: the library's holds 32 messages, of any size, and overflows in silence.

    It holds frames as they go out. A message that goes to many peers is written out once, and given as its frame.

    Args:
        messages_max: what comes beyond is refused, and then counted by the router.
        bytes_max: the same of their bytes.
    """

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        super().__init__(messages_max)
        self._bytes_max = bytes_max
        self.size_bytes = 0

    def push(self, rpc: Any, priority: bool = False) -> bool:
        """Add one, if there is room."""
        frame = rpc if isinstance(rpc, bytes) else frame_of(rpc)
        if self.size_bytes and self.size_bytes + len(frame) > self._bytes_max:
            return False
        if not super().push(frame, priority):
            return False
        self.size_bytes += len(frame)
        return True

    def pop(self) -> bytes | None:
        """The next one, or ``None``."""
        frame: bytes | None = super().pop()
        if frame is not None:
            self.size_bytes -= len(frame)
        return frame


def frame_of(rpc: Any) -> bytes:
    """What is sent for one of the library's messages: its length, and then itself."""
    frame: bytes = encode_varint_prefixed(rpc.SerializeToString())
    return frame


class MeshGossipSub(GossipSub):  # type: ignore[misc]
    """The library's router, counting what it drops."""

    def __init__(self, *args: Any, counts: Counter[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._counts = counts
        self._lazy = LazyPush(random.random)
        self._missing = Missing()
        self._has_work = trio.Event()

    async def run(self) -> None:
        """Run until the service is ended."""
        self.manager.run_daemon_task(self._tell_and_ask)
        await super().run()

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        """As ``forward``; for the library."""
        self.forward(msg_forwarder, pubsub_msg)

    def forward(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        """Send an own message, or forward a peer's, soon.

        The library weighs each peer by scores, which are off here; keeps messages for peers that have not told what
        they listen to, who get what is recent as soon as they do; and writes each message out for each peer.
        """
        pubsub, topic, author = self.pubsub, pubsub_msg.topicIDs[0], pubsub_msg.from_id
        self.mcache.put(pubsub_msg)
        key = pubsub.get_message_id(pubsub_msg)
        self._missing.came(key)
        now_s, frame = trio.current_time(), b""
        is_own = msg_forwarder == pubsub.my_id
        for peer_id in self._receivers(topic, is_own=is_own):
            if peer_id == msg_forwarder or peer_id.to_bytes() == author:
                continue
            if (
                not is_own
                and self._lazy.is_lazy(peer_id, author, now_s)
                and self._lazy.owe(peer_id, topic, key, now_s)
            ):
                self._has_work.set()
                continue
            frame = frame or frame_of(rpc_pb2.RPC(publish=[pubsub_msg]))
            self._send_frame(peer_id, frame, pubsub_msg)

    def _receivers(self, topic: str, *, is_own: bool) -> Iterable[Any]:
        joined = self.pubsub.peer_topics.get(topic, ())
        if is_own and len(joined) <= FLOOD_PEERS_MAX:
            return tuple(joined)
        if topic in self.mesh:
            return tuple(self.mesh[topic])
        # An own message, on a topic that many joined and this node did not.
        chosen: Iterable[Any] = self._get_peers_to_send([topic], self.pubsub.my_id, self.pubsub.my_id)
        return chosen

    def _send_frame(self, peer_id: Any, frame: bytes, message: Any) -> None:
        queue = self.pubsub.peer_queues.get(peer_id)
        if queue is None:
            return
        if peer_id in self._pending_control:
            # What could not be sent before goes with it.
            self.send_rpc(peer_id, rpc_pb2.RPC(publish=[message]))
        elif not queue.push(frame):
            self._handle_dropped_rpc(peer_id, rpc_pb2.RPC(publish=[message]), "queue_full")

    def duplicate(self, peer_id: Any, author: bytes, key: bytes) -> None:
        """A peer brought a message that was here already."""
        self._missing.duplicate(key)
        if author != self.pubsub.my_id.to_bytes():
            self._lazy.duplicate(peer_id, author, trio.current_time())

    async def _tell_and_ask(self) -> None:
        while True:
            if not self._lazy.is_owing and not self._missing:
                self._has_work = trio.Event()
                await self._has_work.wait()
            await trio.sleep(_TICK_S)
            now_s = trio.current_time()
            for peer_id, topics in self._lazy.due(now_s).items():
                self._counts["ids_told"] += sum(map(len, topics.values()))
                control = rpc_pb2.ControlMessage()
                for topic, keys in topics.items():
                    control.ihave.add(topicID=topic, messageIDs=keys)
                # Behind what waits for that peer, and not before it as other control: it may be among it.
                self.send_rpc(peer_id, rpc_pb2.RPC(control=control))
            for peer_id, keys in self._missing.due(now_s).items():
                self._counts["messages_asked_for"] += len(keys)
                await self.emit_iwant(keys, peer_id)
            self._counts["lazy_overflow"] = self._lazy.overflowed + self._missing.overflowed

    async def emit_control_message(self, control_msg: Any, to_peer: Any) -> None:
        """Send a control message; without the record of this node, which each peer was told first of all."""
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def remove_peer(self, peer_id: Any) -> None:
        """Forget a peer that left."""
        super().remove_peer(peer_id)
        self._lazy.forget(peer_id, peer_id.to_bytes())

    async def handle_rpc(self, rpc: Any, sender_peer_id: Any) -> None:
        """Take what a peer wants of the router: so much of it as means anything here."""
        asked, known = rpc.control, self.pubsub.topic_ids
        control = rpc_pb2.ControlMessage()
        control.ihave.extend(one for one in asked.ihave if one.topicID in known)
        control.iwant.extend(asked.iwant)
        control.graft.extend(one for one in asked.graft if one.topicID in known)
        for one in asked.prune:
            if one.topicID in known:
                # Without the peers that it names: dialling is not done because a peer says so.
                control.prune.add(topicID=one.topicID, backoff=min(one.backoff, 3600))
        left_out = entries_in(asked) - entries_in(control)
        if left_out:
            self._counts["dropped_control"] += left_out
        await super().handle_rpc(rpc_pb2.RPC(control=control), sender_peer_id)

    async def handle_ihave(self, ihave_msg: Any, sender_peer_id: Any) -> None:
        """Have what is not here asked for soon, of one peer at a time; the library asks everybody at once."""
        if not self._check_ihave_rate_limit(sender_peer_id, ihave_msg.topicID):
            self._counts["dropped_ihave"] += 1
            return
        decoded = map(safe_bytes_from_hex, ihave_msg.messageIDs[:CONTROL_IDS_MAX])
        keys = [key for key in decoded if key is not None]
        self._lazy.told(sender_peer_id, keys)
        unseen = [key for key in keys if not self.pubsub.seen_messages.has(key)]
        if unseen:
            self._missing.heard(sender_peer_id, unseen, trio.current_time())
            self._has_work.set()

    async def handle_iwant(self, iwant_msg: Any, sender_peer_id: Any) -> None:
        """Answer with the messages asked for, each once, as many as fit.

        The library would copy the same message as often as its id is written down.
        """
        wanted = rpc_pb2.ControlIWant()
        size_bytes = 0
        for key in dict.fromkeys(map(safe_bytes_from_hex, iwant_msg.messageIDs[:CONTROL_IDS_MAX])):
            message = None if key is None else self.mcache.get(key)
            if message is not None and size_bytes + message.ByteSize() <= REPLY_BYTES_MAX:
                size_bytes += message.ByteSize()
                wanted.messageIDs.append(key)
                self._lazy.wanted(sender_peer_id, message.from_id)
        await super().handle_iwant(wanted, sender_peer_id)

    def forget_gone(self, is_connected: Callable[[str], bool]) -> None:
        """Forget the peers that have no connection.

        What a peer sent just before it left is taken in after its end was told: the library then keeps it in the
        topic's mesh for good, where it takes the place of one that is there, and in its scores.
        """
        known = {
            *itertools.chain.from_iterable(self.mesh.values()),
            *itertools.chain.from_iterable(self.fanout.values()),
            *self.peer_protocol,
            *self.scorer.time_in_mesh,
            *self.scorer.behavior_penalty,
        }
        for peer_id in known:
            if not is_connected(str(peer_id)):
                self._counts["forgotten"] += 1
                self.remove_peer(peer_id)

    async def _do_px(self, px_peers: Any) -> None:
        """Nothing: see ``handle_rpc``."""

    def _check_equivocation(self, msg: Any) -> bool:  # noqa: ARG002
        """Nothing: it keeps hundreds of whole messages, and which were seen is known already."""
        return True

    def _periodic_security_cleanup(self) -> None:
        super()._periodic_security_cleanup()
        now = time.time()
        for topic, peers in list(self.back_off.items()):
            # The library never forgets a peer here that did not come back.
            self.back_off[topic] = {peer: until for peer, until in peers.items() if until > now}
            if not self.back_off[topic]:
                del self.back_off[topic]

    def _notify_mesh_peer_added(self, peer_id: Any, topic: str) -> None:
        """Tell a peer that came (back) into a topic's mesh what was sent lately.

        The library tells those alone that are not in the mesh; what was published while a peer was out, and
        before the next heartbeat, is lost to it for good.
        """
        super()._notify_mesh_peer_added(peer_id, topic)
        recent = self.mcache.window(topic)
        if recent and self.manager.is_running:
            self.manager.run_task(self.emit_ihave, topic, list(recent), peer_id)

    def _handle_dropped_rpc(self, peer_id: Any, rpc: Any, reason: str) -> None:
        self._counts["dropped_outbound"] += 1
        super()._handle_dropped_rpc(peer_id, rpc, reason)


def entries_in(control: Any) -> int:
    """How much a control message asks for: entries, and ids in them."""
    lists = (control.ihave, control.iwant, control.idontwant)
    ids = sum(len(one.messageIDs) for entries in lists for one in entries)
    return ids + sum(map(len, (*lists, control.graft, control.prune)))

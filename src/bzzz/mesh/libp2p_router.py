"""The library's gossipsub router, derived: what peers ask of it is bounded before it gets there.

Gossipsub's control messages name topics and messages, freely and in any number. Here those about topics that this
node did not join are left out, ids are counted, nobody is dialled because a peer said so, and nothing is kept
beyond what is needed.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import PriorityQueue
from libp2p.pubsub.utils import safe_bytes_from_hex

CONTROL_IDS_MAX = 5_000
REPLY_BYTES_MAX = 4 * 1024 * 1024


class BoundedQueue(PriorityQueue):  # type: ignore[misc]
    """What waits to be sent to one peer. 5: the library's holds 32 messages, of any size, and overflows in silence.

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
        size_bytes = rpc.ByteSize()
        if self.size_bytes and self.size_bytes + size_bytes > self._bytes_max:
            return False
        if not super().push(rpc, priority):
            return False
        self.size_bytes += size_bytes
        return True

    def pop(self) -> Any:
        """The next one, or ``None``."""
        rpc = super().pop()
        if rpc is not None:
            self.size_bytes -= rpc.ByteSize()
        return rpc


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
        # What waits for a peer to say who it is: it may be about to, so this goes when its time is over.
        for peer_id in list(self._pending_messages):
            if not is_connected(str(peer_id)):
                self._prune_pending_messages(peer_id)

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

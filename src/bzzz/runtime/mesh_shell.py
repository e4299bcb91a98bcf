"""Between the core and the transport: messages in and out, checked and counted, and probes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from bzzz.core.effect import JoinTopic, LeaveTopic, ProbePeer, Publish
from bzzz.core.event import Event, Heard, PeerDown, PeerUp, Probed, ProbeEnded
from bzzz.core.inbox import Inbox
from bzzz.core.message import TaskAnnouncement
from bzzz.core.profile import Profile
from bzzz.errors import PayloadTooLarge, PeerError, TransportError
from bzzz.ports import Clock, PeerConnected, PeerDisconnected, Received, Transport
from bzzz.runtime.event_log import EventLog
from bzzz.wire import Envelope, decode, encode

OUTGOING_MAX = 4_096
PROBE_TIMEOUT_S = 2.0
PROBE_ADDRESSES_MAX = 16


class MeshShell:
    """Speaks for the core on the mesh. Topics and messages go out in the order in which they were wanted."""

    def __init__(
        self,
        transport: Transport,
        profile: Profile,
        *,
        clock: Clock,
        events: EventLog,
        feed: Callable[[Event], None],
    ) -> None:
        self._transport = transport
        self._profile = profile
        self._clock = clock
        self._events = events
        self._feed = feed
        self._outgoing: asyncio.Queue[Publish | JoinTopic | LeaveTopic] = asyncio.Queue(OUTGOING_MAX)
        self._sequence = 0
        self.inbox = Inbox()
        self.counters: Counter[str] = Counter()

    def send(self, effect: Publish | JoinTopic | LeaveTopic) -> None:
        """Queue it; what overflows is counted."""
        try:
            self._outgoing.put_nowait(effect)
        except asyncio.QueueFull:
            self.counters["dropped_outgoing"] += 1

    async def run_outgoing(self) -> None:
        """Send until cancelled."""
        while True:
            effect = await self._outgoing.get()
            try:
                await self._send(effect)
            except PayloadTooLarge as error:
                self.counters["dropped_too_large"] += 1
                self._events.tell("mesh_refused", level="error", text=str(error))
            except TransportError as error:
                # The engine is being restarted; state is announced again, so nothing is queued up here.
                self.counters["dropped_engine_down"] += 1
                self._events.tell("mesh_down", level="warning", text=str(error))
            except Exception as error:  # one message that cannot be sent must not silence all others
                self.counters["broken_outgoing"] += 1
                self._events.tell("broken", level="error", text=f"mesh out: {type(error).__name__}: {error}")
            finally:
                self._outgoing.task_done()

    async def drain(self) -> None:
        """Wait until all that was queued has been sent."""
        await self._outgoing.join()

    async def _send(self, effect: Publish | JoinTopic | LeaveTopic) -> None:
        if isinstance(effect, JoinTopic):
            await self._transport.join(effect.topic)
        elif isinstance(effect, LeaveTopic):
            await self._transport.leave(effect.topic)
        else:
            await self._publish(effect)

    async def _publish(self, effect: Publish) -> None:
        self._sequence += 1
        envelope = Envelope(self._profile.peer, self._clock.wall_s(), self._profile.incarnation, self._sequence)
        try:
            payload = encode(effect.message, envelope)
        except PayloadTooLarge:
            message = effect.message
            if not isinstance(message, TaskAnnouncement) or len(message.tasks) < 2:
                raise
            half = len(message.tasks) // 2
            for part in (message.tasks[:half], message.tasks[half:]):
                await self._publish(replace(effect, message=TaskAnnouncement(part)))
            return
        await self._transport.publish(effect.topic, payload)
        self.counters["published"] += 1

    async def run_incoming(self) -> None:
        """Receive until cancelled, or until the transport is stopped."""
        while True:
            event = await self._transport.receive()
            if isinstance(event, Received):
                self._received(event)
            elif isinstance(event, PeerConnected):
                self._events.tell("peer_connected", peer=event.peer, addresses=list(event.addresses))
                self._feed(PeerUp(event.peer, event.addresses))
            elif isinstance(event, PeerDisconnected):
                self._events.tell("peer_disconnected", peer=event.peer, text=event.reason)
                self._feed(PeerDown(event.peer))
            else:
                self._events.tell("mesh_restarted", level="error", text=event.reason)

    def _received(self, event: Received) -> None:
        now_ms, wall_s = self._clock.now_ms(), self._clock.wall_s()
        if not self.inbox.counts(event.peer, now_ms):
            if self.inbox.dropped["flood"] == 1:
                self._say_dropped(event.peer, "flood: more messages than one peer may send; the rest is dropped")
            return
        try:
            envelope, message = decode(event.payload, event.peer)
        except PeerError as error:
            self.counters[f"dropped_{error.reason}"] += 1
            if self.counters[f"dropped_{error.reason}"] == 1:
                self._say_dropped(event.peer, str(error))
            return
        refused = self.inbox.admits(
            event.peer,
            incarnation=envelope.incarnation,
            sequence=envelope.sequence,
            sent_wall_s=envelope.wall_s,
            wall_s=wall_s,
            now_ms=now_ms,
        )
        if not refused:
            self.counters["received"] += 1
            self._feed(Heard(event.peer, message))
        elif refused in ("stale", "future") and self.inbox.dropped[refused] == 1:
            apart_s = abs(wall_s - envelope.wall_s)
            self._say_dropped(event.peer, f"{refused}: its clock and this one are {apart_s:.0f} s apart; set them")

    def _say_dropped(self, peer: str, text: str) -> None:
        # The first of a kind is said; the counters tell the rest.
        self._events.tell("message_dropped", level="warning", peer=peer, text=text)

    async def probe(self, effect: ProbePeer) -> ProbeEnded:
        """Check a peer's host: one answer is enough; all addresses must refuse, or be another peer's, to count."""
        chosen = effect.addresses[:PROBE_ADDRESSES_MAX]
        found = await asyncio.gather(*(self._probe(address) for address in chosen))
        if len(chosen) < len(effect.addresses):
            found.append(Probed.SILENT)
        if Probed.ANSWERED in found:
            return ProbeEnded(effect.peer, Probed.ANSWERED)
        if found and all(one in (Probed.REFUSED, Probed.OTHER) for one in found):
            return ProbeEnded(effect.peer, Probed.OTHER if Probed.OTHER in found else Probed.REFUSED)
        return ProbeEnded(effect.peer, Probed.SILENT)

    async def _probe(self, address: str) -> Probed:
        try:
            return await self._transport.probe(address, PROBE_TIMEOUT_S)
        except TransportError:
            # An address that a peer told and that is none: it is no evidence of anything.
            self.counters["probes_impossible"] += 1
            return Probed.SILENT

"""Between the core and the transport: messages in and out, checked and counted, and probes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from bzzz.core.effect import JoinTopic, LeaveTopic, ProbePeer, Publish
from bzzz.core.event import Event, Heard, PeerDown, PeerUp, Probed, ProbeEnded
from bzzz.core.inbox import Inbox
from bzzz.core.profile import Profile
from bzzz.errors import PayloadTooLarge, PeerError, TransportError
from bzzz.ports import Clock, PeerConnected, PeerDisconnected, Received, Transport
from bzzz.runtime.event_log import EventLog
from bzzz.wire import Envelope, decode, encode

OUTGOING_MAX = 4_096
PROBE_TIMEOUT_S = 2.0


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
        self._joined: dict[str, None] = {}
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
            finally:
                self._outgoing.task_done()

    async def drain(self) -> None:
        """Wait until all that was queued has been sent."""
        await self._outgoing.join()

    async def _send(self, effect: Publish | JoinTopic | LeaveTopic) -> None:
        if isinstance(effect, JoinTopic):
            self._joined[effect.topic] = None
            await self._transport.join(effect.topic)
        elif isinstance(effect, LeaveTopic):
            self._joined.pop(effect.topic, None)
            await self._transport.leave(effect.topic)
        else:
            self._sequence += 1
            envelope = Envelope(self._profile.peer, self._clock.wall_s(), self._profile.incarnation, self._sequence)
            await self._transport.publish(effect.topic, encode(effect.message, envelope))
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
        try:
            envelope, message = decode(event.payload, event.peer)
        except PeerError as error:
            self.counters[f"dropped_{error.reason}"] += 1
            if self.counters[f"dropped_{error.reason}"] == 1:
                self._events.tell("message_dropped", level="warning", peer=event.peer, text=str(error))
            return
        admitted = self.inbox.admits(
            event.peer,
            incarnation=envelope.incarnation,
            sequence=envelope.sequence,
            sent_wall_s=envelope.wall_s,
            wall_s=self._clock.wall_s(),
            now_ms=self._clock.now_ms(),
        )
        if admitted:
            self.counters["received"] += 1
            self._feed(Heard(event.peer, message))

    async def probe(self, effect: ProbePeer) -> ProbeEnded:
        """Check a peer's host: one answer is enough, and all addresses must refuse to count as refused."""
        found = await asyncio.gather(
            *(self._transport.probe(address, PROBE_TIMEOUT_S) for address in effect.addresses)
        )
        if Probed.ANSWERED in found:
            return ProbeEnded(effect.peer, Probed.ANSWERED)
        if found and all(one is Probed.REFUSED for one in found):
            return ProbeEnded(effect.peer, Probed.REFUSED)
        return ProbeEnded(effect.peer, Probed.SILENT)

"""A mesh inside one process: transports that share a ``MemoryNetwork``, for tests and simulations.

It keeps the port's promises and nothing more: authorship, own messages do not come back, connection events.
Delivery is immediate and in order; faults are the simulator's business, not this module's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from bzzz.errors import RequestFailed, TransportError
from bzzz.mesh.address import Address, parse_address
from bzzz.mesh.front import MeshFront, read_address
from bzzz.mesh.identity import Identity
from bzzz.mesh.inbox import Inbox
from bzzz.mesh.request import BOUNDS, RequestBounds
from bzzz.mesh.settings import PAYLOAD_BYTES_MAX
from bzzz.ports import PeerConnected, PeerDisconnected, Probe, Received, TransportEvent

_FIRST_PORT = 40_000
_IP = "127.0.0.1"


class MemoryNetwork:
    """What the transports of one test share. With ``discovery`` all that are started connect to each other."""

    def __init__(self, *, discovery: bool = False) -> None:
        self.discovery = discovery
        self._nodes: dict[str, MemoryTransport] = {}
        self._ports: dict[str, int] = {}
        self._links: set[frozenset[str]] = set()

    def attach(self, node: MemoryTransport) -> Address:
        """Bring a transport up; a peer id keeps its port over restarts."""
        if node.peer_id in self._nodes:
            raise TransportError(f"{node.peer_id} is on this network already")
        port = self._ports.setdefault(node.peer_id, _FIRST_PORT + len(self._ports))
        self._nodes[node.peer_id] = node
        return Address("ip4", _IP, port, node.peer_id)

    def meet(self, node: MemoryTransport) -> None:
        """Connect a new transport to those it wants, those that want it, and all where there is discovery."""
        for other in list(self._nodes.values()):
            if other is not node and (
                self.discovery or other.peer_id in node.wanted or node.peer_id in other.wanted
            ):
                self._link(node, other)

    def detach(self, node: MemoryTransport) -> None:
        """Take a transport away and tell those it was connected to."""
        if self._nodes.get(node.peer_id) is not node:
            return
        for other in self.neighbours(node.peer_id):
            self._links.discard(frozenset({node.peer_id, other.peer_id}))
            other.notice(PeerDisconnected(node.peer_id, "connection closed"))
        del self._nodes[node.peer_id]

    def neighbours(self, peer: str) -> list[MemoryTransport]:
        """The transports that ``peer`` has a connection to."""
        return [
            other for name, other in self._nodes.items() if name != peer and frozenset({name, peer}) in self._links
        ]

    def reachable(self, peer: str) -> list[MemoryTransport]:
        """The transports that a message of ``peer`` gets to, forwarded where need be."""
        seen, todo = {peer}, [peer]
        while todo:
            fresh = [node.peer_id for node in self.neighbours(todo.pop()) if node.peer_id not in seen]
            seen.update(fresh)
            todo.extend(fresh)
        return [node for name, node in self._nodes.items() if name in seen and name != peer]

    def listening(self, port: int) -> str | None:
        """The peer id of the started transport that has this port."""
        return next((name for name in self._nodes if self._ports[name] == port), None)

    def _link(self, one: MemoryTransport, other: MemoryTransport) -> None:
        link = frozenset({one.peer_id, other.peer_id})
        if link in self._links:
            return
        self._links.add(link)
        one.notice(PeerConnected(other.peer_id, other.addresses))
        other.notice(PeerConnected(one.peer_id, one.addresses))


class MemoryTransport(MeshFront):
    """One node's transport on a ``MemoryNetwork``."""

    def __init__(
        self,
        network: MemoryNetwork,
        identity: Identity,
        *,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        receive_queue_messages_max: int = 4096,
        requests: RequestBounds = BOUNDS,
    ) -> None:
        super().__init__(requests, payload_bytes_max)
        self._network = network
        self._identity = identity
        self._receive_queue_messages_max = receive_queue_messages_max
        self._topics: set[str] = set()
        self._address: Address | None = None
        self._answering: set[asyncio.Task[bytes]] = set()
        self.wanted: set[str] = set()

    @property
    def peer_id(self) -> str:
        """This node's identity."""
        return self._identity.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """One invented address; empty before ``start``."""
        return () if self._address is None else (str(self._address),)

    async def start(self) -> None:
        """Join the network.

        Raises:
            TransportError: it was started before, or its peer id is there already.
        """
        self._begin(Inbox(self._receive_queue_messages_max))
        try:
            self._address = self._network.attach(self)
        except TransportError:
            await self.stop()
            raise
        self._network.meet(self)

    async def stop(self) -> None:
        """Leave the network; a second call does nothing."""
        self._stopped = True
        for answering in self._answering:
            answering.cancel()
        self._network.detach(self)
        if self._inbox is not None:
            self._inbox.close()

    async def join(self, topic: str) -> None:
        """Receive what is published on ``topic``."""
        self._topics.add(topic)

    async def leave(self, topic: str) -> None:
        """Stop receiving ``topic``."""
        self._topics.discard(topic)

    async def _send(self, topic: str, payload: bytes) -> bool:
        for node in self._network.reachable(self.peer_id):
            if node.has_joined(topic):
                node.notice(Received(topic, self.peer_id, bytes(payload)))
        return True

    async def _ask(self, peer: str, data: bytes, timeout_s: float) -> bytes:  # noqa: ARG002 - the desk keeps time
        for node in self._network.neighbours(self.peer_id):
            if node.peer_id == peer:
                return await node.asked(self.peer_id, data)
        raise RequestFailed("unconnected", peer, "there is no connection to it")

    def _engine_counters(self) -> Mapping[str, int]:
        return {}

    async def asked(self, peer: str, data: bytes) -> bytes:
        """The answer to a neighbour's request; its work goes on when the neighbour waits no longer."""
        refusal = self._desk.admit(peer)
        if refusal is not None:
            return refusal
        answering = asyncio.create_task(self._desk.answer(peer, data))
        self._answering.add(answering)
        answering.add_done_callback(lambda _: self._desk.leave(peer))
        answering.add_done_callback(self._answering.discard)
        try:
            return await asyncio.shield(answering)
        except asyncio.CancelledError:
            if not answering.cancelled():
                raise
            raise RequestFailed("cut", self.peer_id, "it was stopped") from None

    async def dial(self, address: str) -> None:
        """Keep a connection to this peer, now or when it starts.

        Raises:
            TransportError: not a multiaddress, or one without a peer id.
        """
        wanted = read_address(partial(parse_address, needs_peer=True), address, "dial")
        self.wanted.add(str(wanted.peer))
        if self._inbox is not None and not self._stopped:
            self._network.meet(self)

    async def probe(self, address: str, timeout_s: float) -> Probe:  # noqa: ARG002 - answers at once
        """``REFUSED`` where no transport is started; else ``OTHER`` if it is not the one that the address names.

        Raises:
            TransportError: not a multiaddress.
        """
        wanted = read_address(parse_address, address, "probe")
        found = self._network.listening(wanted.port)
        if found is None:
            return Probe.REFUSED
        return Probe.ANSWERED if wanted.peer in (None, found) else Probe.OTHER

    def peers(self) -> Mapping[str, tuple[str, ...]]:
        """Connected peers and their addresses."""
        return {node.peer_id: node.addresses for node in self._network.neighbours(self.peer_id)}

    def has_joined(self, topic: str) -> bool:
        """Whether ``topic`` is received here."""
        return topic in self._topics

    def notice(self, event: TransportEvent) -> None:
        """What the network tells this node."""
        if self._inbox is not None:
            self._inbox.put(event)

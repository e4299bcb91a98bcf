"""The trio side of the mesh: one libp2p host, its services in the right order, and what is known of peers.

One ``Engine`` is one life of the trio program; after a death another is made with the same listening
addresses, topics and wanted peers. It tells what happens through one thread-safe function, and is asked
through coroutines that run in its thread. Order at the start (4 in the table of defects): the services of
pubsub first, then listening, then dialling; a stream that came before its service ran would end the node.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import trio
from libp2p.abc import INotifee
from libp2p.network.connection.swarm_connection import Direction
from libp2p.peer.peerstore import create_signed_peer_record
from multiaddr import Multiaddr

from bzzz.errors import RequestFailed, TransportError
from bzzz.mesh.address import Address, expand_wildcard, parse_address, useful_addresses
from bzzz.mesh.address_gossip import ADDRESS_TOPIC
from bzzz.mesh.identity import Identity
from bzzz.mesh.interface import read_own_ips
from bzzz.mesh.libp2p_dialler import Dialler
from bzzz.mesh.libp2p_gossip import AddressGossip
from bzzz.mesh.libp2p_host import build_host
from bzzz.mesh.libp2p_request import REQUEST_PROTOCOL, Answer, RequestStreams
from bzzz.mesh.libp2p_service import GuardedManager
from bzzz.mesh.mesh_secret import MeshSecret
from bzzz.mesh.request_desk import RequestDesk
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import PeerConnected, PeerDisconnected, Probe, Received, TransportEvent

HOUSEKEEPING_S = 1.0
INTRODUCTION_S = 1.0
_log = logging.getLogger("bzzz.mesh")


class Engine:
    """One life of a libp2p host.

    Args:
        settings: of this node's mesh.
        identity: who this node is.
        listen: where to listen; concrete, or as the settings have it.
        emit: takes every event; called in this thread.
        counts: of this node, over all lives; written in this thread alone.
        secret: of the mesh, where it has one.
        desk: admits requests.
        answer: gives the answer to a request of a peer; awaited in this thread.
    """

    def __init__(
        self,
        settings: MeshSettings,
        identity: Identity,
        listen: Iterable[str],
        emit: Callable[[TransportEvent], None],
        counts: Counter[str],
        *,
        secret: MeshSecret | None = None,
        desk: RequestDesk,
        answer: Answer,
    ) -> None:
        self._settings = settings
        self._listen = [parse_address(text) for text in listen]
        self._emit = emit
        self._counts = counts
        self._own_ips = read_own_ips()
        self._links: dict[str, list[Any]] = {}
        self._introduced: dict[str, tuple[str, ...]] = {}
        self._remote_ips: dict[str, str] = {}
        self._told: dict[str, list[str]] = {}
        self.addresses: tuple[str, ...] = ()
        parts = build_host(
            settings,
            identity,
            secret,
            counts,
            deliver=self._deliver,
            learn=self._learn,
            misbehaved=self._misbehaved,
        )
        self._id, self._swarm, self._host = parts.id, parts.swarm, parts.host
        self._pubsub, self._router = parts.pubsub, parts.router
        self._gate, self._admission, self._conduct = parts.gate, parts.admission, parts.conduct
        self._swarm.register_notifee(_Links(self))
        self._requests = RequestStreams(self._host, desk, answer, self._misbehaved)
        self._host.set_stream_handler(REQUEST_PROTOCOL, self._requests.take)
        self._gossip: AddressGossip | None = None
        self._dialler = Dialler(
            str(self._id),
            self._dial,
            self.is_connected,
            timeout_s=settings.dial_timeout_s,
            discovered_max=settings.discovered_peers_max,
            counts=counts,
        )

    def _deliver(self, topic: str, author: str, payload: bytes) -> None:
        if topic != ADDRESS_TOPIC:
            self._emit(Received(topic, author, payload))
        elif self._gossip is not None:
            self._gossip.heard(author, payload)

    async def run(self, ready: Callable[[], None]) -> None:
        """Run until cancelled; ``ready`` is called when it listens.

        Raises:
            TransportError: an address cannot be listened on.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for service in (self._swarm, self._pubsub, self._router):
                    manager = GuardedManager(service, self._counts)
                    nursery.start_soon(manager.run)
                    await manager.wait_started()
                await self._pubsub.wait_until_ready()
                await self._start_listening()
                if self._settings.gossip_addresses:
                    await self._start_gossip()
                nursery.start_soon(self._dialler.run)
                nursery.start_soon(self._keep_house)
                await trio.lowlevel.checkpoint()
                ready()
                await trio.sleep_forever()
        finally:
            self._pubsub.seen_messages.stop()

    # --- asked from outside, in this thread ----------------------------------------------------------------

    async def join(self, topic: str) -> None:
        """Subscribe."""
        await self._pubsub.subscribe(topic)

    async def leave(self, topic: str) -> None:
        """Unsubscribe."""
        await self._pubsub.unsubscribe(topic)

    def publish(self, topic: str, payload: bytes) -> None:
        """Sign, and have it sent soon."""
        self._pubsub.say(topic, payload)

    async def request(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        """Ask a peer, and give the answer's bytes.

        Raises:
            RequestFailed: there is none.
        """
        if not self.is_connected(peer):
            raise RequestFailed("unconnected", peer, "there is no connection to it")
        return await self._requests.ask(peer, data, timeout_s)

    async def want(self, addresses: tuple[Address, ...], lasting: bool) -> None:
        """Keep a connection to the peer these addresses name."""
        self._dialler.want(addresses, lasting=lasting)

    def want_discovered(self, addresses: tuple[Address, ...]) -> None:
        """As ``want``, for a peer that announced itself."""
        self._dialler.want(addresses, lasting=False)

    def want_seeds(self, source: str, addresses: tuple[Address, ...]) -> None:
        """Keep a connection to whoever is at each address, in place of those that ``source`` named before."""
        self._dialler.want_seeds(source, addresses)

    async def probe(self, address: Address, timeout_s: float) -> Probe:
        """Check who answers at an IP address that names a peer."""
        return await self._swarm.probe(address, timeout_s)

    def revoke(self, peers: frozenset[str]) -> None:
        """Keep these peers out from now on, and no others; end the connections there are to them."""
        self._gate.revoked = peers
        for peer in peers & self._links.keys():
            self._expel(peer, "revoked")

    def is_connected(self, peer: str) -> bool:
        """Whether a connection to ``peer`` is up."""
        return peer in self._links

    def peers(self) -> dict[str, tuple[str, ...]]:
        """Connected peers and what is known of where they listen. A copy; safe from any thread."""
        return dict(self._introduced)

    async def farewell(self) -> None:
        """Close all connections orderly, before the end; so that peers notice at once."""
        async with trio.open_nursery() as nursery:
            for links in list(self._links.values()):
                for link in list(links):
                    nursery.start_soon(link.close)

    def abandon(self) -> None:
        """Close every socket that is left; called when the trio program has ended, in any thread."""
        self._swarm.close_sockets()

    # --- listening -----------------------------------------------------------------------------------------

    async def _start_listening(self) -> None:
        for wanted in self._listen:
            port = wanted.port
            failures = []
            concrete = expand_wildcard(wanted, self._own_ips)
            for address in concrete:
                bound = await self._listen_on(Address(address.kind, address.host, port))
                if bound is None:
                    failures.append(str(address))
                else:
                    port = bound
            if len(failures) == len(concrete):
                raise TransportError(
                    f"cannot listen on {wanted}: the port is taken, or the address is not this host's; "
                    "choose another address or port"
                )
            for failure in failures:
                _log.warning("not listening on %s", failure)
        listening = {str(parse_address(str(address))) for address in self._host.get_transport_addrs()}
        self.addresses = tuple(f"{address}/p2p/{self._id}" for address in sorted(listening))
        envelope = create_signed_peer_record(self._id, self._host.get_addrs(), self._host.get_private_key())
        self._swarm.peerstore.set_local_record(envelope)
        self._host.mesh_record = envelope.marshal_envelope()

    async def _start_gossip(self) -> None:
        self._gossip = AddressGossip(
            [parse_address(text) for text in self.addresses],
            self._pubsub.publish,
            self.want_discovered,
            interval_s=self._settings.gossip_interval_s,
            counts=self._counts,
        )
        await self._pubsub.subscribe(ADDRESS_TOPIC)
        self._nursery.start_soon(self._gossip.run)

    async def _listen_on(self, address: Address) -> int | None:
        before = set(map(str, self._host.get_transport_addrs()))
        if not await self._swarm.listen(Multiaddr(str(address))):
            return None
        fresh = set(map(str, self._host.get_transport_addrs())) - before
        return parse_address(fresh.pop()).port if fresh else None

    # --- connections ---------------------------------------------------------------------------------------

    async def _dial(self, address: Address) -> str:
        if address.peer is not None and self.is_connected(address.peer):
            return address.peer
        if address.peer is not None:
            self._admission.check(address.peer)
        return await self._swarm.connect(address, self._needs_no_link)

    def _needs_no_link(self, peer: str) -> bool:
        return peer == str(self._id) or self.is_connected(peer)

    def linked(self, link: Any) -> None:
        """A connection came up."""
        peer_id = link.muxed_conn.peer_id
        peer = str(peer_id)
        links = self._links.setdefault(peer, [])
        links.append(link)
        # Now, for of a connection that is closed it is not known any more; and of two, one soon is.
        if (remote := link.muxed_conn.get_remote_address()) is not None:
            self._remote_ips[peer] = remote[0]
        if len(links) == 1:
            self._nursery.start_soon(self._introduce_late, peer, link)
        else:
            self._nursery.start_soon(self._prune, peer)
        self._dialler.nudge(peer)

    def unlinked(self, link: Any) -> None:
        """A connection is gone."""
        peer = str(link.muxed_conn.peer_id)
        links = self._links.get(peer, [])
        if link not in links:
            return
        links.remove(link)
        if links:
            self._pubsub.mend(link.muxed_conn.peer_id)
            return
        del self._links[peer]
        self._told.pop(peer, None)
        self._remote_ips.pop(peer, None)
        self._swarm.forget(link.muxed_conn.peer_id)
        if self._introduced.pop(peer, None) is not None:
            self._emit(PeerDisconnected(peer, link.muxed_conn.end or "connection closed"))
        self._dialler.nudge(peer)

    def _misbehaved(self, peer: str, what: str, weight: float) -> None:
        """A peer sent what no honest one sends; when that is too much, it is put out for a while."""
        now_s = trio.current_time()
        self._counts["offences"] += 1
        if peer in self._links and not self._is_ending(peer) and self._conduct.offends(peer, weight, now_s):
            for_s = self._gate.ban(peer, now_s)
            _log.warning("peer %s is disconnected for %g s for what it sends (%s)", peer, for_s, what)
            self._expel(peer, f"it sent what it must not ({what})")

    def _is_ending(self, peer: str) -> bool:
        return all(link.muxed_conn.end for link in self._links[peer])

    def _expel(self, peer: str, why: str) -> None:
        """End all connections to a peer."""
        self._counts["expelled"] += 1
        for link in list(self._links.get(peer, [])):
            link.muxed_conn.end = why
            self._nursery.start_soon(link.close)

    def _learn(self, peer_id: Any, told: list[str]) -> None:
        peer = str(peer_id)
        if peer in self._links:
            self._told[peer] = told
            self._introduce(peer)

    async def _introduce_late(self, peer: str, link: Any) -> None:
        # A peer's signed record, with its addresses, comes a moment after the connection, or never.
        with trio.move_on_after(INTRODUCTION_S):
            await link.event_closed.wait()
        if peer in self._links and peer not in self._introduced:
            stored = [str(address) for address in self._stored(link.muxed_conn.peer_id)]
            self._told[peer] = stored or self._dialled(peer)
            self._introduce(peer)

    def _dialled(self, peer: str) -> list[str]:
        """Where connections were made to a peer: it listens there, whether it says so or not."""
        remotes = [
            link.muxed_conn.get_remote_address()
            for link in self._links[peer]
            if link.direction is Direction.OUTBOUND
        ]
        return [
            str(Address("ip6" if ":" in remote[0] else "ip4", remote[0], remote[1])) for remote in remotes if remote
        ]

    def _introduce(self, peer: str) -> None:
        before = self._introduced.get(peer)
        useful = useful_addresses(self._told[peer], peer, self._remote_ips.get(peer), self._own_ips)
        self._introduced[peer] = useful
        if before is None or (useful and not before):
            # Again where its addresses come later: without any, nobody could look whether its host is there.
            self._emit(PeerConnected(peer, useful))
        if before is None and self._gossip is not None:
            self._gossip.peer_came()

    def _stored(self, peer_id: Any) -> list[Any]:
        try:
            return list(self._swarm.peerstore.addrs(peer_id))
        except Exception:
            return []

    async def _prune(self, peer: str) -> None:
        """11: two peers that dial each other at once get two connections; the smaller id ends all but one."""
        if str(self._id) > peer:
            return
        links = [link for link in self._links.get(peer, []) if not link.is_closed]
        own = [link for link in links if link.direction is Direction.OUTBOUND] or links
        for link in [link for link in links if link is not own[-1]]:
            self._counts["pruned"] += 1
            await link.close()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            for peer, links in list(self._links.items()):
                for link in [link for link in links if link.is_closed]:
                    # Its end was told, or is being told; if that was cut short, it is told here.
                    if getattr(link, "mesh_was_closed", False):
                        self.unlinked(link)
                    link.mesh_was_closed = True
                if peer in self._links:
                    self._pubsub.mend(links[0].muxed_conn.peer_id)
            self._pubsub.forget_gone(self.is_connected)
            self._router.forget_gone(self.is_connected)


class _Links(INotifee):  # type: ignore[misc]
    """Tells the engine of connections."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def connected(self, network: Any, conn: Any) -> None:  # noqa: ARG002
        self._engine.linked(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:  # noqa: ARG002
        self._engine.unlinked(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        pass

    async def closed_stream(self, network: Any, stream: Any) -> None:
        pass

    async def listen(self, network: Any, multiaddr: Any) -> None:
        pass

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        pass

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
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore, create_signed_peer_record
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from bzzz.errors import TransportError
from bzzz.mesh.address import Address, expand_wildcard, parse_address, useful_addresses
from bzzz.mesh.identity import Identity
from bzzz.mesh.interface import read_own_ips
from bzzz.mesh.libp2p_connection import MeshSwarm, MeshUpgrader
from bzzz.mesh.libp2p_dialler import Dialler
from bzzz.mesh.libp2p_patch import apply_patches
from bzzz.mesh.libp2p_pubsub import MeshGossipSub, MeshPubsub
from bzzz.mesh.libp2p_service import GuardedManager, guarded
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import PeerConnected, PeerDisconnected, Received, TransportEvent

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
    """

    def __init__(
        self,
        settings: MeshSettings,
        identity: Identity,
        listen: Iterable[str],
        emit: Callable[[TransportEvent], None],
        counts: Counter[str],
    ) -> None:
        apply_patches()
        self._settings = settings
        self._listen = [parse_address(text) for text in listen]
        self._emit = emit
        self._counts = counts
        self._own_ips = read_own_ips()
        self._links: dict[str, list[Any]] = {}
        self._introduced: dict[str, tuple[str, ...]] = {}
        self._told: dict[str, list[str]] = {}
        self.addresses: tuple[str, ...] = ()
        self._build(identity)

    def _build(self, identity: Identity) -> None:
        settings, counts = self._settings, self._counts
        secret = Ed25519PrivateKey.from_bytes(identity.secret)
        pair = KeyPair(secret, secret.get_public_key())
        self._id = ID.from_pubkey(pair.public_key)
        peers = PeerStore()
        peers.add_key_pair(self._id, pair)
        # The library also offers TLS, secio and plain text; one way, the strict one, is enough.
        upgrader = MeshUpgrader(
            {NOISE_ID: Noise(pair, noise_privkey=create_noise_key_pair().private_key)},
            {YAMUX_ID: Yamux},
            ping_interval_s=settings.ping_interval_s,
            ping_timeout_s=settings.ping_timeout_s,
        )
        limit = settings.connections_max
        config = ConnectionConfig(
            max_connections=limit,
            high_watermark=limit,
            low_watermark=0,
            min_connections=0,
            inbound_upgrade_timeout=settings.handshake_timeout_s,
            outbound_upgrade_timeout=settings.dial_timeout_s,
        )
        self._swarm = MeshSwarm(
            self._id, peers, upgrader, [TCP()], RetryConfig(max_retries=0), config, counts=counts
        )
        self._host = BasicHost(self._swarm, disable_identify_address_discovery=True)
        # 3: an exception in a stream handler ends the node.
        handle = guarded(self._host._swarm_stream_handler, counts, "dropped_stream_error")
        self._swarm.set_stream_handler(handle)
        # 6: a heartbeat of two minutes, and modes that change the mesh by guessed scores; 1: the spam limiter.
        self._router = MeshGossipSub(
            [PROTOCOL_ID_V11, PROTOCOL_ID],
            6,
            4,
            12,
            counts=counts,
            heartbeat_interval=1,
            prune_back_off=2,
            unsubscribe_back_off=1,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._pubsub = MeshPubsub(
            self._host,
            self._router,
            counts=counts,
            deliver=lambda topic, author, payload: self._emit(Received(topic, author, payload)),
            learn=self._learn,
            payload_bytes_max=settings.payload_bytes_max,
            outbound_queue_messages_max=settings.outbound_queue_messages_max,
        )
        self._swarm.register_notifee(_Links(self))
        self._dialler = Dialler(
            str(self._id),
            self._dial,
            self.is_connected,
            timeout_s=settings.dial_timeout_s,
            discovered_max=settings.discovered_peers_max,
            counts=counts,
        )

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

    async def publish(self, topic: str, payload: bytes) -> None:
        """Sign and send."""
        await self._pubsub.publish(topic, payload)

    async def want(self, addresses: tuple[Address, ...], lasting: bool) -> None:
        """Keep a connection to the peer these addresses name."""
        self._dialler.want(addresses, lasting=lasting)

    def want_discovered(self, addresses: tuple[Address, ...]) -> None:
        """As ``want``, for a peer that announced itself."""
        self._dialler.want(addresses, lasting=False)

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

    async def _listen_on(self, address: Address) -> int | None:
        before = set(map(str, self._host.get_transport_addrs()))
        if not await self._swarm.listen(Multiaddr(str(address))):
            return None
        fresh = set(map(str, self._host.get_transport_addrs())) - before
        return parse_address(fresh.pop()).port if fresh else None

    # --- connections ---------------------------------------------------------------------------------------

    async def _dial(self, address: Address) -> None:
        if not self.is_connected(str(address.peer)):
            await self._swarm.dial_addr(Multiaddr(str(address)), ID.from_base58(str(address.peer)))

    def linked(self, link: Any) -> None:
        """A connection came up."""
        peer_id = link.muxed_conn.peer_id
        peer = str(peer_id)
        links = self._links.setdefault(peer, [])
        links.append(link)
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
        if self._introduced.pop(peer, None) is not None:
            silent = getattr(link.muxed_conn, "is_silent", False)
            self._emit(PeerDisconnected(peer, "no answer to pings" if silent else "connection closed"))
        self._dialler.nudge(peer)

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
            self._told[peer] = [str(address) for address in self._stored(link.muxed_conn.peer_id)]
            self._introduce(peer)

    def _introduce(self, peer: str) -> None:
        known = peer in self._introduced
        remote = self._links[peer][0].muxed_conn.get_remote_address()
        useful = useful_addresses(self._told[peer], peer, remote[0] if remote else None, self._own_ips)
        self._introduced[peer] = useful
        if not known:
            self._emit(PeerConnected(peer, useful))

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
        own = [link for link in links if link.direction.value == "outbound"] or links
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

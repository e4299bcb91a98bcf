"""Connections of the library, derived.

What comes in is counted and bounded, altogether and from each address; ended connections give back what they
held, and nothing is dialled behind one's back.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from bzzz.errors import PeerError
from bzzz.mesh.address import Address
from bzzz.mesh.libp2p_admission import Admission
from bzzz.mesh.libp2p_muxer import LiveYamux
from bzzz.mesh.libp2p_probe import Prober
from bzzz.mesh.libp2p_session import BulkSession
from bzzz.mesh.libp2p_stream import MeteredStream
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import Probe

OWN_SHARE = 4
_CLOSE_S_MAX = 1.0
_log = logging.getLogger("bzzz.mesh")


class IdleConnector(AutoConnector):  # type: ignore[misc]
    """10: the library's own dialling uses its own memory of failures and makes duplicates; ours does it all."""

    async def run_background_task(self, nursery: Any) -> None:
        """Nothing."""

    async def maybe_connect(self) -> None:
        """Nothing."""

    def record_disconnect(self, peer_id: Any) -> None:
        """Nothing: it would remember each peer that ever left until that one is back, and nobody asks for it."""


class MeshSwarm(Swarm):  # type: ignore[misc]
    """The library's connections, with what comes in counted and its slots given back."""

    def __init__(self, *args: Any, counts: Counter[str], settings: MeshSettings, **options: Any) -> None:
        self._counts = counts
        self._settings = settings
        # Incoming connections by address: all, and those that have not proved yet who they are.
        self.guests: Counter[str] = Counter()
        self.handshakes: Counter[str] = Counter()
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        self._prober: Prober | None = None
        super().__init__(*args, **options)
        self.auto_connector = IdleConnector(self)

    def close_sockets(self) -> None:
        """Close what is still open after the trio program has ended.

        Where that was cancelled or died, the library leaves its sockets open: peers would wait for an answer
        to their next ping, and the port would stay taken.
        """
        if self._prober is not None:
            self._prober.close()
        listening = [listener.socket for group in self.listeners.values() for listener in group.listeners]
        for sock in [*listening, *(stream.stream.socket for stream in self._streams)]:
            # The sockets' own close needs the trio program that is no more.
            if (descriptor := sock.detach()) >= 0:
                os.close(descriptor)

    async def connect(self, address: Address, is_known: Callable[[str], bool]) -> str:
        """One try at one IP address, at which the peer that the address names must answer, or anybody.

        Args:
            address: where to.
            is_known: whether there is no need for a connection to a peer, told once its id is proved.

        Returns:
            the id of the peer that answered.

        Raises:
            Exception: any of the library's, where there is no connection, or to somebody else.
        """
        if len(self.get_connections()) >= self.connection_config.max_connections:
            raise SwarmException("there are as many connections as allowed")
        expected = ID.from_base58(address.peer) if address.peer else None
        transport = self.transport_manager.get_transports()[0]
        raw = await transport.dial(Multiaddr(str(address.bare())))
        self._streams.add(raw.stream)
        try:
            secured = await self.upgrader.upgrade_security(raw, True, expected)
            peer_id = secured.get_remote_peer()
            if is_known(str(peer_id)):
                await raw.close()
                return str(peer_id)
            muxed = await self.upgrader.upgrade_connection(secured, peer_id)
            await self.add_conn(muxed, direction="outbound")
        except BaseException:
            with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_S_MAX):
                await raw.close()
            raise
        return str(peer_id)

    async def probe(self, address: Address, timeout_s: float) -> Probe:
        """Check who answers at an IP address that names a peer."""
        if self._prober is None:
            secure = partial(self.upgrader.upgrade_security, is_initiator=True)
            self._prober = Prober(secure, self._settings.peer_reads_per_s_max)
        return await self._prober.probe(address, timeout_s)

    async def _do_handle_inbound_connection(self, read_write_closer: Any, maddr: Any, _failure_event: Any) -> None:
        # The library keeps an inbound connection's slot until the node ends, so that after some hundred
        # connections nobody can connect any more. Here the slot lives as long as the connection.
        remote = read_write_closer.get_remote_address()
        place = remote[0] if remote else ""
        if not self._has_room(place):
            self._counts["dropped_connections"] += 1
            await read_write_closer.close()
            return
        self._streams.add(read_write_closer)
        self.guests[place] += 1
        try:
            muxed = await self._shake_hands(place, read_write_closer, maddr)
            if muxed is not None:
                await muxed.event_closed.wait()
        finally:
            self.guests[place] -= 1
            self.guests += Counter()  # leaves out who is at nought

    def _has_room(self, place: str) -> bool:
        settings = self._settings
        # A part is kept for connections that this node makes itself.
        guests_max = settings.connections_max - settings.connections_max // OWN_SHARE
        return (
            self.guests.total() < guests_max
            and self.guests[place] < settings.connections_per_ip_max
            and self.handshakes.total() < settings.handshakes_max
            and self.handshakes[place] < settings.handshakes_per_ip_max
        )

    async def _shake_hands(self, place: str, read_write_closer: Any, maddr: Any) -> Any:
        stream = MeteredStream(read_write_closer, self._settings.peer_reads_per_s_max)
        self.handshakes[place] += 1
        try:
            muxed = await self.upgrade_inbound_raw_conn(RawConnection(stream, False), maddr)
        except Exception as error:
            # Who is not admitted was counted and told by who refused it. Who connects and says nothing only
            # looked whether we are there, as our own probes do.
            if not isinstance(error, PeerError):
                self._counts["dropped_handshake" if stream.has_heard else "probed"] += 1
                _log.debug("an incoming connection did not become a peer: %r", error)
            await stream.close()
            return None
        finally:
            self.handshakes[place] -= 1
            self.handshakes += Counter()
        return muxed

    def forget(self, peer_id: Any) -> None:
        """Nothing is left of a peer that has no connection: the library keeps what it told for ever."""
        if peer_id != self.self_id and self.peerstore.has_peer(peer_id):
            self.peerstore.clear_peerdata(peer_id)
        self.peerstore.peer_record_map.pop(peer_id, None)
        self._round_robin_index.pop(peer_id, None)
        # The library leaves what has lapsed in there until there are ten thousand.
        self._negative_peer_cache._evict_expired()


class MeshUpgrader(TransportUpgrader):  # type: ignore[misc]
    """Lets peers in, and makes a ``LiveYamux`` of each connection; the library has its own class wired in."""

    def __init__(
        self,
        *args: Any,
        admission: Admission,
        settings: MeshSettings,
        misbehaved: Callable[[str, str, float], None],
    ) -> None:
        super().__init__(*args)
        self._admission = admission
        self._settings = settings
        self._misbehaved = misbehaved

    async def upgrade_security(self, raw_conn: Any, is_initiator: bool, peer_id: Any = None) -> Any:
        """Encrypt, and learn who is there; where ``peer_id`` is given it must be that one."""
        # The library also dials by itself, to open a stream to a peer that has just gone.
        if not isinstance(raw_conn.stream, MeteredStream):
            raw_conn.stream = MeteredStream(raw_conn.stream, self._settings.peer_reads_per_s_max)
        if peer_id is None and is_initiator:
            # The library's own way insists on knowing beforehand whom it meets.
            return await self.security_multistream.secure_outbound(raw_conn, None)
        return await super().upgrade_security(raw_conn, is_initiator, peer_id)

    async def upgrade_connection(self, conn: Any, peer_id: Any) -> Any:
        """Admit the peer, and agree on Yamux over a secured connection.

        Raises:
            PeerError: it is not admitted, or does not admit this node.
        """
        agreed = partial(super().upgrade_connection, conn, peer_id)
        plain = await self._admission.agree(conn, peer_id, agreed)
        if not isinstance(plain, Yamux):
            raise MuxerUpgradeFailure(f"the muxer is {type(plain).__name__}, not Yamux")
        session = BulkSession(conn)
        session.stream.is_admitted = True
        return LiveYamux(
            session,
            peer_id,
            is_initiator=conn.is_initiator,
            settings=self._settings,
            misbehaved=partial(self._misbehaved, str(peer_id)),
        )

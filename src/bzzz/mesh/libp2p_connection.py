"""Connections of the library, derived.

What comes in is counted, ended connections give back what they held, silence is noticed, and nothing is
dialled behind one's back.
"""

from __future__ import annotations

import logging
import os
import struct
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
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from bzzz.errors import PeerError
from bzzz.mesh.address import Address
from bzzz.mesh.libp2p_admission import Admission

_STALL_S = 1.0
_CLOSE_S_MAX = 1.0
_log = logging.getLogger("bzzz.mesh")


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
            await self.add_conn(await self.upgrader.upgrade_connection(secured, peer_id), direction="outbound")
        except BaseException:
            with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_S_MAX):
                await raw.close()
            raise
        return str(peer_id)

    async def _do_handle_inbound_connection(self, read_write_closer: Any, maddr: Any, _failure_event: Any) -> None:
        # The library keeps an inbound connection's slot until the node ends, so that after some hundred
        # connections nobody can connect any more. Here the slot lives as long as the connection.
        self._streams.add(read_write_closer)
        stream = _Heard(read_write_closer)
        try:
            muxed = await self.upgrade_inbound_raw_conn(RawConnection(stream, False), maddr)
        except PeerError:
            # Counted and told by who refused it.
            await stream.close()
            return
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
        # Why it ended, where that was decided here.
        self.end = ""

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
            self.end = "no answer to pings"
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
    """Lets peers in, and makes a ``LiveYamux`` of each connection; the library has its own class wired in."""

    def __init__(self, *args: Any, admission: Admission, ping_interval_s: float, ping_timeout_s: float) -> None:
        super().__init__(*args)
        self._admission = admission
        self._liveness = {"ping_interval_s": ping_interval_s, "ping_timeout_s": ping_timeout_s}

    async def upgrade_security(self, raw_conn: Any, is_initiator: bool, peer_id: Any = None) -> Any:
        """Encrypt, and learn who is there; where ``peer_id`` is given it must be that one."""
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
        return LiveYamux(conn, peer_id, is_initiator=conn.is_initiator, **self._liveness)

"""Check peers by what answers at their addresses: nobody, the host, or somebody who proves to be another peer.

The kernel accepts for a process that is stopped, and nothing more comes then. That counts as an answer, as any
end of the handshake does but one: whoever proves a peer id that is not the wanted one listens in its place.

A connection that nobody accepts takes one of the few places (128) that the kernel keeps for such, for as long as
the process is stopped, even after it was closed here. Once they are full, the host answers no more. So a connection
that was made and heard nothing is kept, and asked for again: the kernels at both ends see whether it still stands.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection

from bzzz.mesh.address import Address
from bzzz.mesh.libp2p_stream import MeteredStream
from bzzz.ports import Probe

KEPT_MAX = 256
KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
"""The kernel asks the other one after 4 s without a byte, and gives up 6 s later. Where these cannot be set nothing
is kept: an end that is noticed late would be taken for an answer."""
_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_log = logging.getLogger("bzzz.mesh")


class Prober:
    """Probes, and keeps the connections that nobody accepts.

    Args:
        secure: encrypts a raw connection as who dials, whoever is there; gives one that knows the proved peer id.
        reads_per_s_max: of one connection.
    """

    def __init__(self, secure: Callable[[Any], Awaitable[Any]], reads_per_s_max: float) -> None:
        self._secure = secure
        self._reads_per_s_max = reads_per_s_max
        self._kept: dict[Address, socket.socket] = {}

    async def probe(self, address: Address, timeout_s: float) -> Probe:
        """Check an IP address that names a peer.

        Returns:
            ``OTHER`` if another peer proved its id; ``ANSWERED`` if there is a connection, and no more is known;
            ``REFUSED`` if the host says that nobody listens; ``SILENT`` if there was no answer or no way.
        """
        self._let_go_of_ended()
        if address in self._kept:
            return Probe.ANSWERED
        sock = socket.socket(_FAMILIES[address.kind], socket.SOCK_STREAM)
        keeps = False
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            lasts = all(hasattr(socket, name) for name in KEEPALIVE)
            for name, value in KEEPALIVE.items() if lasts else ():
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            found, unheard = await self._ask(address, sock, timeout_s)
            keeps = unheard and lasts and len(self._kept) < KEPT_MAX
            if keeps:
                self._kept[address] = sock
        finally:
            if not keeps:
                sock.close()
        return found

    def close(self) -> None:
        """Close what is kept; in any thread, once the trio program has ended."""
        for sock in self._kept.values():
            sock.close()
        self._kept.clear()

    async def _ask(self, address: Address, sock: socket.socket, timeout_s: float) -> tuple[Probe, bool]:
        """What is found, and whether it is a connection on which nothing was heard."""
        wrapped = trio.socket.from_stdlib_socket(sock)
        stream: MeteredStream | None = None
        try:
            with trio.fail_after(timeout_s):
                await wrapped.connect((address.host, address.port))
                stream = MeteredStream(TrioTCPStream(trio.SocketStream(wrapped)), self._reads_per_s_max)
                secured = await self._secure(RawConnection(stream, True))
        except trio.TooSlowError:
            return (Probe.SILENT, False) if stream is None else (Probe.ANSWERED, not stream.has_heard)
        except Exception as error:
            if stream is None:
                return (Probe.REFUSED if isinstance(error, ConnectionRefusedError) else Probe.SILENT), False
            # Whatever speaks there, it is not shown to be another peer.
            _log.debug("what answers at %s does not say who it is: %r", address, error)
            return Probe.ANSWERED, False
        return (Probe.ANSWERED if str(secured.get_remote_peer()) == address.peer else Probe.OTHER), False

    def _let_go_of_ended(self) -> None:
        for address, sock in list(self._kept.items()):
            if not _stands(sock):
                del self._kept[address]
                sock.close()


def _stands(sock: socket.socket) -> bool:
    """Whether a connection is up, and still nothing came on it."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

"""Check a peer by what answers at its address: nobody, the host, or somebody who proves to be another peer.

The kernel accepts for a process that is stopped, and nothing more comes then. That counts as an answer, as any
end of the handshake does but one: whoever proves a peer id that is not the wanted one listens in its place.
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

_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_log = logging.getLogger("bzzz.mesh")


async def probe_peer(
    address: Address, secure: Callable[[Any], Awaitable[Any]], timeout_s: float, reads_per_s_max: float
) -> Probe:
    """One connection to an IP address that names a peer, closed once it is known who is there.

    Args:
        address: of the peer.
        secure: encrypts a raw connection as who dials, whoever is there; gives one that knows the proved peer id.
        timeout_s: for all of it.
        reads_per_s_max: of the connection.

    Returns:
        ``OTHER`` if another peer proved its id; ``ANSWERED`` if the connection was made, and no more is known;
        ``REFUSED`` if the host says that nobody listens; ``SILENT`` if there was no answer or no way.
    """
    answered = False
    with trio.move_on_after(timeout_s), trio.socket.socket(_FAMILIES[address.kind], socket.SOCK_STREAM) as sock:
        try:
            await sock.connect((address.host, address.port))
        except ConnectionRefusedError:
            return Probe.REFUSED
        except OSError:
            return Probe.SILENT
        answered = True
        stream = MeteredStream(TrioTCPStream(trio.SocketStream(sock)), reads_per_s_max)
        try:
            found = str((await secure(RawConnection(stream, True))).get_remote_peer())
        except Exception as error:  # whatever speaks there, it is not shown to be another peer
            _log.debug("what answers at %s does not say who it is: %r", address, error)
        else:
            return Probe.ANSWERED if found == address.peer else Probe.OTHER
    return Probe.ANSWERED if answered else Probe.SILENT

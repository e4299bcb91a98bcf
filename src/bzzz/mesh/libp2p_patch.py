"""The names that are set inside libp2p 0.8.1, with the reason beside each; nothing else reaches into it so.

Where the library lets a class be replaced, it is derived from instead: see ``libp2p_service``,
``libp2p_connection`` and ``libp2p_pubsub``. Numbers in all of them are those of the table of measured
defects in docs/mesh.md; each has a test that fails without its remedy.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection import swarm_connection
from libp2p.pubsub import gossipsub, pubsub
from libp2p.transport.tcp import tcp

from bzzz.mesh.libp2p_version import require_libp2p


def apply_patches() -> None:
    """Set the names that the library looks up in its own modules; a second call does nothing.

    Raises:
        TransportError: another version of libp2p is installed than the one these changes were made for.
    """
    require_libp2p()
    # 14: the signed record of one's own addresses is rebuilt and compared for every message sent.
    gossipsub.env_to_send_in_RPC = pubsub.env_to_send_in_RPC = _record_to_send
    # Two nodes could listen on one port, each getting some of the connections: it asks for SO_REUSEPORT
    # to punch holes into NATs, which is not done here. A taken port must be an error.
    tcp._set_reuse_flags = _reuse_address_alone
    # 8: the far end of an IPv6 connection was unknown, as its socket address has four parts.
    TrioTCPStream.get_remote_address = _remote_address
    # It logs through the root logger, and that installs a handler for the whole program.
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")
    # Every refused dial is an error to it, and is printed where nobody asked to see its log.
    logging.getLogger("libp2p").addHandler(logging.NullHandler())


_record_to_send_as_made = pubsub.env_to_send_in_RPC


def _record_to_send(host: Any) -> tuple[bytes, bool]:
    cached = getattr(host, "mesh_record", None)
    return (cached, False) if cached is not None else _record_to_send_as_made(host)


def _reuse_address_alone(sock: Any) -> None:
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)


def _remote_address(stream: Any) -> tuple[str, int] | None:
    try:
        host, port = stream.stream.socket.getpeername()[:2]
    except OSError:
        return None
    return str(host).partition("%")[0], int(port)

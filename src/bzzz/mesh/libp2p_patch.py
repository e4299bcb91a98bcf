"""The names that are set inside libp2p 0.8.1, with the reason beside each; nothing else reaches into it so.

Where the library lets a class be replaced, it is derived from instead: see ``libp2p_service``,
``libp2p_connection`` and ``libp2p_pubsub``. Numbers in all of them are those of the table of measured
defects in docs/mesh.md; each has a test that fails without its remedy.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection import swarm_connection
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import gossipsub, pubsub
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.tcp import tcp
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from bzzz.mesh.libp2p_muxer import WINDOW_BYTES_MAX, MeshStream
from bzzz.mesh.libp2p_version import require_libp2p

NEGOTIATION_BYTES_MAX = 16 * 1024
_SILENT = logging.NullHandler()


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
    # 14: each takes a lock, which is another step of the scheduler. The muxer has one lock for all that it writes,
    # and one task that reads.
    TrioTCPStream.read = _read
    TrioTCPStream.write = _write
    # A peer that negotiates a protocol may name any length for what it says, and all of it is waited for and kept.
    multiselect_communicator.read_delim = _read_delim
    # A window grows to 16 MiB a stream, and what was granted may be sent at once.
    yamux.MAX_WINDOW_SIZE = WINDOW_BYTES_MAX
    # 14: every read is answered by a frame that grants a window, and every write takes three locks. The library
    # makes its own streams in the middle of its loop.
    yamux.YamuxStream = MeshStream
    # It logs through the root logger, and that installs a handler for the whole program.
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")
    # Every refused dial is an error to it, and is printed where nobody asked to see its log.
    # What hostile peers do is a warning to it, each time; here it is counted.
    logger = logging.getLogger("libp2p")
    logger.addHandler(_SILENT)
    logger.propagate = False


_record_to_send_as_made = pubsub.env_to_send_in_RPC


def _record_to_send(host: Any) -> tuple[bytes, bool]:
    cached = getattr(host, "mesh_record", None)
    return (cached, False) if cached is not None else _record_to_send_as_made(host)


async def _read_delim(reader: Any) -> bytes:
    text: bytes = await read_varint_prefixed_bytes_limited(reader, NEGOTIATION_BYTES_MAX)
    if not text.endswith(b"\n"):
        raise ParseError("a line of the negotiation does not end")
    return text[:-1]


def _reuse_address_alone(sock: Any) -> None:
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)


async def _read(stream: Any, n: int | None = None) -> bytes:
    if n == 0:
        return b""
    try:
        data: bytes = await stream.stream.receive_some(n)
    except trio.BrokenResourceError as error:
        raise ConnectionClosedError(f"the other side broke the connection: {error}", transport="tcp") from error
    except trio.ClosedResourceError:
        # By this side: to whoever reads on, an end like any other.
        return b""
    return data


async def _write(stream: Any, data: bytes) -> None:
    try:
        await stream.stream.send_all(data)
    except trio.BrokenResourceError as error:
        raise ConnectionClosedError(f"the other side broke the connection: {error}", transport="tcp") from error
    except trio.ClosedResourceError:
        # By this side, whose reader finds the same and ends it.
        return


def _remote_address(stream: Any) -> tuple[str, int] | None:
    try:
        host, port = stream.stream.socket.getpeername()[:2]
    except OSError:
        return None
    return str(host).partition("%")[0], int(port)

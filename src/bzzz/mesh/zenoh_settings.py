"""What can be set about the mesh where its engine is Zenoh, with every bound it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bzzz.mesh.request import BOUNDS, RequestBounds
from bzzz.mesh.settings import DEFAULT_MESH_NAME, PAYLOAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for mutual TLS: whoever has a certificate of the authority is admitted, nobody else.

    Args:
        certificate: this node's certificate, with what stands between it and the authority.
        key: the certificate's private key.
        authority: the certificate of the authority that every node's certificate comes from.
    """

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class ZenohSettings:
    """Settings of one node's mesh engine.

    Args:
        identity_file: the node's private key; made on first use, mode 0600; the same as libp2p's.
        listen: multiaddresses to listen on; ``0.0.0.0`` and ``::`` stand for all interface addresses, port 0
            for a free port.
        static_peers: multiaddresses of peers to keep connections to.
        routers: multiaddresses of Zenoh routers (``zenohd``) through which nodes hear each other that have no way
            to each other; one that answers is used. A peer that is heard through it counts as connected.
        mesh_name: nodes of other meshes on the same network are not heard.
        mdns: whether to find peers on the local network by Zenoh's own multicast scouting.
        gossip: whether to connect to peers that peers tell of, so that a star becomes a mesh.
        tls: files for mutual TLS; ``None`` is plain TCP, where whoever reaches the port can join.
        payload_bytes_max: publishing more is refused, receiving more is counted and dropped.
        receive_queue_messages_max: received messages waiting to be read; what comes beyond is counted and dropped.
        outbound_queue_messages_max: messages waiting to be sent; what comes beyond is counted and dropped.
        connections_max: all peers together, those still shaking hands included.
        presences_max: nodes whose presence is remembered; more are counted and left.
        seen_messages_max: messages remembered, so that a copy that comes another way is not a second message.
        dialled_max: addresses dialled after the start, each of which costs a session of its own.
        silence_s_max: silence after which a connection counts as dead; keepalives are sent four times as often.
        slow_peer_s_max: how long one peer that does not read may hold up the others before it is cut off.
        handshake_timeout_s: for a connection to prove who it is.
        redial_base_s: the first pause before an address is tried again; it doubles.
        redial_max_s: the longest such pause.
        requests: what requests may cost.
        start_timeout_s: for the engine to come up.
        stop_timeout_s: for connections to be closed orderly.
    """

    identity_file: Path
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    static_peers: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    mesh_name: str = DEFAULT_MESH_NAME
    mdns: bool = True
    gossip: bool = True
    tls: TlsFiles | None = None
    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    receive_queue_messages_max: int = 4096
    outbound_queue_messages_max: int = 4096
    connections_max: int = 300
    presences_max: int = 2048
    seen_messages_max: int = 16_384
    dialled_max: int = 32
    silence_s_max: float = 6.0
    slow_peer_s_max: float = 3.0
    handshake_timeout_s: float = 5.0
    redial_base_s: float = 0.25
    redial_max_s: float = 15.0
    requests: RequestBounds = BOUNDS
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 5.0

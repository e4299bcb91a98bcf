"""What can be set about the mesh, with every bound it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bzzz.mesh.request import BOUNDS, RequestBounds

PAYLOAD_BYTES_MAX = 900_000
SERVICE_TAG = "_p2p._udp.local."
PREDECESSOR_SERVICE_TAG = "bzzz-peer-discovery.local."


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Settings of one node's mesh engine.

    Args:
        identity_file: the node's private key; made on first use, mode 0600.
        listen: multiaddresses to listen on; ``0.0.0.0`` and ``::`` stand for all interface addresses, port 0
            for a free port.
        static_peers: multiaddresses to keep connections to: of an IP or a DNS name, with a peer id or without (it
            is then learnt from who answers), or ``/dnsaddr/NAME``.
        mesh_name: nodes of other meshes on the same network are not joined. Peers of other libp2p programs
            tell no name; they are taken to be of ``DEFAULT_MESH_NAME``.
        secret_file: holds the mesh's name and secret; whoever cannot prove to know it is not let in.
        allowed_peers: the only peer ids that are let in; all if empty. Goes together with a secret.
        revoked_file: peer ids that are kept out, read again whenever it changes.
        revoked_interval_s: how often it is looked at.
        mdns: whether to announce and discover on the local network.
        mdns_service_tags: the DNS-SD service types to announce and browse.
        dns: whether names in ``static_peers`` are looked up, again and again.
        dns_interval_s: between two look-ups of a name.
        dns_timeout_s: for one look-up.
        gossip_addresses: whether nodes tell each other over the mesh where they listen, and dial who they hear of.
        gossip_interval_s: how often a node tells its addresses when nothing changes.
        payload_bytes_max: publishing more is refused: libp2p loses messages above 1 MiB without an error.
        receive_queue_messages_max: received messages waiting to be read; what comes beyond is counted and dropped.
        outbound_queue_messages_max: messages waiting for one slow peer; what comes beyond is counted and dropped.
        receive_queue_bytes_max: the same in bytes.
        outbound_queue_bytes_max: the same in bytes.
        peer_messages_per_s_max: of one author over a long time, four times as many at once; a neighbour may forward
            four times as many. What comes beyond is counted and dropped, and who goes on so is disconnected.
        peer_bytes_per_s_max: from one neighbour over a long time, four times as many at once.
        peer_reads_per_s_max: from one connection; what comes faster is read later.
        ping_interval_s: how often each connection is pinged.
        ping_timeout_s: silence after a ping that ends the connection.
        write_timeout_s: a connection that takes nothing for so long is ended.
        dial_timeout_s: for one try at one address.
        handshake_timeout_s: for an incoming connection to prove who it is.
        connections_max: all peers together, those still shaking hands included.
        connections_per_ip_max: of those, from one address.
        handshakes_max: incoming connections that have not proved yet who they are.
        handshakes_per_ip_max: of those, from one address.
        streams_per_connection_max: opened by the other side; more are refused.
        discovered_peers_max: peers remembered from discovery; more are counted and left.
        requests: what requests may cost.
        start_timeout_s: for the engine to come up.
        stop_timeout_s: for connections to be closed orderly.
    """

    identity_file: Path
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    static_peers: tuple[str, ...] = ()
    mesh_name: str = "bzzz"
    secret_file: Path | None = None
    allowed_peers: tuple[str, ...] = ()
    revoked_file: Path | None = None
    revoked_interval_s: float = 1.0
    mdns: bool = True
    mdns_service_tags: tuple[str, ...] = (SERVICE_TAG, PREDECESSOR_SERVICE_TAG)
    dns: bool = True
    dns_interval_s: float = 30.0
    dns_timeout_s: float = 5.0
    gossip_addresses: bool = True
    gossip_interval_s: float = 60.0
    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    receive_queue_messages_max: int = 4096
    outbound_queue_messages_max: int = 4096
    receive_queue_bytes_max: int = 64 * 1024 * 1024
    outbound_queue_bytes_max: int = 8 * 1024 * 1024
    peer_messages_per_s_max: float = 500.0
    peer_bytes_per_s_max: float = 8 * 1024 * 1024
    peer_reads_per_s_max: float = 10_000.0
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 3.0
    write_timeout_s: float = 5.0
    dial_timeout_s: float = 5.0
    handshake_timeout_s: float = 5.0
    connections_max: int = 300
    connections_per_ip_max: int = 64
    handshakes_max: int = 64
    handshakes_per_ip_max: int = 32
    streams_per_connection_max: int = 64
    discovered_peers_max: int = 256
    requests: RequestBounds = BOUNDS
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 5.0


DEFAULT_MESH_NAME = "bzzz"

"""The library's parts of one host, put together with the mesh's own in place of those that were measured to fail.

Only put together: nothing runs yet, nothing listens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP

from bzzz.mesh.admission import Gate, Prover, Sealer
from bzzz.mesh.conduct import Conduct
from bzzz.mesh.identity import Identity
from bzzz.mesh.libp2p_admission import Admission
from bzzz.mesh.libp2p_connection import MeshSwarm, MeshUpgrader
from bzzz.mesh.libp2p_patch import apply_patches
from bzzz.mesh.libp2p_pubsub import MeshPubsub
from bzzz.mesh.libp2p_router import MeshGossipSub
from bzzz.mesh.libp2p_service import guarded
from bzzz.mesh.mesh_secret import MeshSecret
from bzzz.mesh.settings import MeshSettings


@dataclass(frozen=True)
class Host:
    """The parts that the engine runs and asks."""

    id: Any
    swarm: MeshSwarm
    host: Any
    pubsub: MeshPubsub
    router: MeshGossipSub
    gate: Gate
    admission: Admission
    conduct: Conduct


def build_host(
    settings: MeshSettings,
    identity: Identity,
    secret: MeshSecret | None,
    counts: Counter[str],
    *,
    deliver: Callable[[str, str, bytes], None],
    learn: Callable[[Any, list[str]], None],
    misbehaved: Callable[[str, str, float], None],
) -> Host:
    """Put a host together.

    Args:
        settings: of this node's mesh.
        identity: who this node is.
        secret: of the mesh, where it has one.
        counts: where everything is counted.
        deliver: takes topic, author and payload of each good message.
        learn: takes a connected peer's id and the addresses that it told of itself.
        misbehaved: takes a peer that sent what no honest one sends, what that was, and how much of it.
    """
    apply_patches()
    key = Ed25519PrivateKey.from_bytes(identity.secret)
    pair = KeyPair(key, key.get_public_key())
    own_id = ID.from_pubkey(pair.public_key)
    gate = Gate(settings.allowed_peers)
    conduct = Conduct(
        messages_per_s_max=settings.peer_messages_per_s_max, bytes_per_s_max=settings.peer_bytes_per_s_max
    )
    prover = None if secret is None else Prover(secret)
    admission = Admission(own_id, gate, prover, timeout_s=settings.handshake_timeout_s, counts=counts)
    upgrader = MeshUpgrader(
        # The library also offers TLS, secio and plain text; one way, the strict one, is enough.
        {NOISE_ID: Noise(pair, noise_privkey=create_noise_key_pair().private_key)},
        {YAMUX_ID: Yamux},
        admission=admission,
        settings=settings,
        misbehaved=misbehaved,
    )
    swarm = _build_swarm(settings, own_id, pair, upgrader, counts)
    host = BasicHost(swarm, disable_identify_address_discovery=True)
    # 3: an exception in a stream handler ends the node.
    swarm.set_stream_handler(guarded(host._swarm_stream_handler, counts, "dropped_stream_error"))
    # 6: a heartbeat of two minutes, and modes that change the mesh by guessed scores; 1: the spam limiter.
    router = MeshGossipSub(
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
    pubsub = MeshPubsub(
        host,
        router,
        counts=counts,
        deliver=deliver,
        learn=learn,
        gate=gate,
        sealer=None if secret is None else Sealer(secret),
        conduct=conduct,
        misbehaved=misbehaved,
        payload_bytes_max=settings.payload_bytes_max,
        outbound_queue_messages_max=settings.outbound_queue_messages_max,
        outbound_queue_bytes_max=settings.outbound_queue_bytes_max,
    )
    return Host(own_id, swarm, host, pubsub, router, gate, admission, conduct)


def _build_swarm(
    settings: MeshSettings, own_id: Any, pair: KeyPair, upgrader: MeshUpgrader, counts: Counter[str]
) -> MeshSwarm:
    peers = PeerStore()
    peers.add_key_pair(own_id, pair)
    limit = settings.connections_max
    config = ConnectionConfig(
        max_connections=limit,
        high_watermark=limit,
        low_watermark=0,
        min_connections=0,
        inbound_upgrade_timeout=settings.handshake_timeout_s,
        outbound_upgrade_timeout=settings.dial_timeout_s,
        inbound_stream_protocol_negotiation_timeout=settings.handshake_timeout_s,
    )
    return MeshSwarm(
        own_id, peers, upgrader, [TCP()], RetryConfig(max_retries=0), config, counts=counts, settings=settings
    )

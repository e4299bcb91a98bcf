"""Zenoh's own configuration, made from a node's settings; pure.

Every node runs as a Zenoh peer: connected to each other one, with nothing passed on. That is simple and fast, and
it is what scouting and gossip make; where nodes have no way to each other, routers stand between them. Running each
node as a router was tried with 1.10.2 and left: a router that goes away can bring down its neighbours' routing
tables, and whenever one comes or goes some messages of others are lost or doubled. Everything that is not used
here is off: shared memory, timestamps, the administration space, other link protocols.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from bzzz.mesh.address import Address
from bzzz.mesh.settings import DEFAULT_MESH_NAME
from bzzz.mesh.zenoh_endpoint import endpoint_of
from bzzz.mesh.zenoh_settings import TlsFiles, ZenohSettings

SCOUTING_IP = "224.0.0.224"
SCOUTING_PORT = 7446
"""Zenoh's own group, used by the mesh of the default name; other meshes have a port each, below."""
_MESH_PORT_FIRST, _MESH_PORTS = 20_000, 10_000  # below the ports that systems give out by themselves
_LOOPBACK = "127.0.0.1"
_TRANSMIT_BATCHES = 16
_ENVELOPE_BYTES_MAX = 64 * 1024
KEEPALIVES_A_LEASE = 4


def scouting_address(mesh_name: str) -> str:
    """The multicast group and port where the nodes of a mesh look for each other.

    Zenoh's scouting knows no mesh names. Where two names share a port by chance, their nodes connect without
    hearing each other, for their keys differ.
    """
    if mesh_name == DEFAULT_MESH_NAME:
        return f"{SCOUTING_IP}:{SCOUTING_PORT}"
    digest = int.from_bytes(hashlib.sha256(mesh_name.encode()).digest()[:8], "big")
    return f"{SCOUTING_IP}:{_MESH_PORT_FIRST + digest % _MESH_PORTS}"


def scouting_interfaces(listen: Iterable[Address]) -> str:
    """The interfaces to scout on, by their IPs: those listened on, and loopback, where nodes of one host meet."""
    return ",".join([_LOOPBACK, *sorted({a.host for a in listen if a.kind == "ip4"} - {_LOOPBACK})])


def main_config(
    settings: ZenohSettings, listen: Sequence[Address], connect: Sequence[Address], *, scouting: bool
) -> dict[str, Any]:
    """For the session that listens, finds peers and carries all messages."""
    return {
        **_common(settings, connect),
        "listen/endpoints": [endpoint_of(address, tls=settings.tls is not None) for address in listen],
        "scouting/multicast/enabled": scouting,
        "scouting/multicast/address": scouting_address(settings.mesh_name),
        "scouting/multicast/interface": scouting_interfaces(listen),
        "scouting/multicast/autoconnect": _anyone(settings.mdns),
        "scouting/gossip/autoconnect": _anyone(settings.gossip),
    }


def dialling_config(settings: ZenohSettings, target: Address) -> dict[str, Any]:
    """For a session to one address that was not known when the main one was opened."""
    return {
        **_common(settings, (target,)),
        "listen/endpoints": [],
        "scouting/multicast/enabled": False,
        "scouting/gossip/autoconnect": _anyone(False),
    }


def routed_config(settings: ZenohSettings, routers: Sequence[Address]) -> dict[str, Any]:
    """For a session to whichever router answers first.

    It is a client's, since routers pass on what clients send, and take it that peers hear each other by themselves.
    Opening it fails where no router answers; once open, Zenoh reconnects it, to another one if need be.
    """
    return {
        **_common(settings, routers),
        "mode": "client",
        "connect/timeout_ms": 0,
        "listen/endpoints": [],
        "scouting/multicast/enabled": False,
    }


def _common(settings: ZenohSettings, connect: Sequence[Address]) -> dict[str, Any]:
    lease_ms = round(settings.silence_s_max * 1000)
    handshake_ms = round(settings.handshake_timeout_s * 1000)
    return {
        "mode": "peer",
        "connect/endpoints": [endpoint_of(address, tls=settings.tls is not None) for address in connect],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {
            "period_init_ms": round(settings.redial_base_s * 1000),
            "period_max_ms": round(settings.redial_max_s * 1000),
            "period_increase_factor": 2,
        },
        "listen/exit_on_failure": True,
        "listen/timeout_ms": 0,
        "scouting/delay": 0,
        "scouting/gossip/enabled": True,
        "timestamping/enabled": False,
        "adminspace/enabled": False,
        "plugins_loading/enabled": False,
        "transport/shared_memory/enabled": False,
        "transport/unicast/max_sessions": settings.connections_max,
        "transport/unicast/accept_pending": settings.connections_max,
        "transport/unicast/accept_timeout": handshake_ms,
        "transport/unicast/open_timeout": handshake_ms,
        "transport/link/protocols": ["tls" if settings.tls else "tcp"],
        "transport/link/rx/max_message_size": _ENVELOPE_BYTES_MAX
        + max(settings.payload_bytes_max, settings.requests.bytes_max),
        "transport/link/tx/lease": lease_ms,
        "transport/link/tx/keep_alive": KEEPALIVES_A_LEASE,
        "transport/link/tx/queue/size/data": _TRANSMIT_BATCHES,
        "transport/link/tx/queue/congestion_control/block/wait_before_close": round(
            settings.slow_peer_s_max * 1_000_000
        ),
        **(_tls(settings.tls) if settings.tls else {}),
    }


def _tls(files: TlsFiles) -> dict[str, Any]:
    # Names are not compared: nodes are known by their peer ids, and come and go at any address.
    section = {
        "root_ca_certificate": str(files.authority),
        "listen_certificate": str(files.certificate),
        "listen_private_key": str(files.key),
        "connect_certificate": str(files.certificate),
        "connect_private_key": str(files.key),
        "enable_mtls": True,
        "verify_name_on_connect": False,
        "close_link_on_expiration": True,
    }
    return {f"transport/link/tls/{name}": value for name, value in section.items()}


def _anyone(wanted: bool) -> dict[str, list[str]]:
    return {"router": [], "peer": ["router", "peer"] if wanted else [], "client": []}

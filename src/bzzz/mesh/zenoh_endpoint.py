"""Multiaddresses and Zenoh's endpoints, each from the other; pure.

A setting or a probe says ``/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo...`` whatever the engine; Zenoh says
``tcp/192.0.2.1:4001``, or ``tls/...`` where the mesh has certificates (https://zenoh.io/docs/manual/configuration).
The peer id has no place in an endpoint: who answers there is shown by the peer's signed presence.
"""

from __future__ import annotations

import ipaddress
import re

from bzzz.mesh.address import Address, address_of_ip

_ENDPOINT = re.compile(r"(?:tcp|tls)/(?:\[([0-9A-Fa-f:.]+)(?:%\w+)?\]|([0-9.]+)):(\d{1,5})(?:[?#].*)?\Z")


def endpoint_of(address: Address, *, tls: bool) -> str:
    """Where Zenoh listens or connects for this address."""
    host = f"[{address.host}]" if address.kind == "ip6" else address.host.rstrip(".")
    return f"{'tls' if tls else 'tcp'}/{host}:{address.port}"


def address_of_endpoint(endpoint: str) -> Address | None:
    """The address that an endpoint with an IP stands for, without a peer id; ``None`` for all else."""
    found = _ENDPOINT.match(endpoint)
    if found is None:
        return None
    try:
        return address_of_ip(str(ipaddress.ip_address(found[1] or found[2])), int(found[3]))
    except ValueError:
        return None

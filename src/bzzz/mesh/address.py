"""Multiaddresses of peers, as far as this mesh uses them: an IP or DNS name, a TCP port, a peer id.

Pure and strict, because most of these texts come from the network: what is not exactly of the form
``/ip4/192.0.2.1/tcp/3333/p2p/12D3Koo...`` is refused. Also decides which of a peer's addresses are worth
anything on this machine: a peer on another host tells its loopback and bridge addresses too, and probing
those here would reach this host instead and give false evidence about the peer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

ADDRESS_CHARS_MAX = 400
PEER_ADDRESSES_MAX = 8

_PEER_ID = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}\Z")
_DNS_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z"
)
_DNS_KINDS = frozenset({"dns", "dns4", "dns6"})
DNSADDR = "dnsaddr"


@dataclass(frozen=True, slots=True)
class Address:
    """One multiaddress taken apart; ``peer`` is ``None`` where there is no ``/p2p/`` part.

    One of the kind ``dnsaddr`` names records that hold whole addresses; its own port is 0.
    """

    kind: str
    host: str
    port: int
    peer: str | None = None

    def __str__(self) -> str:
        base = f"/{self.kind}/{self.host}"
        base = base if self.kind == DNSADDR else f"{base}/tcp/{self.port}"
        return f"{base}/p2p/{self.peer}" if self.peer else base

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address and not a name."""
        return self.kind in {"ip4", "ip6"}

    @property
    def is_loopback(self) -> bool:
        """Whether this address only means something on the host that uses it."""
        return self.is_ip and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether this is ``0.0.0.0`` or ``::``, which one may listen on but never advertise."""
        return self.is_ip and ipaddress.ip_address(self.host).is_unspecified

    def bare(self) -> Address:
        """The same without its peer id."""
        return replace(self, peer=None)

    def with_peer(self, peer: str) -> Address:
        """The same, naming ``peer``."""
        return replace(self, peer=peer)


def parse_address(text: str, *, needs_peer: bool = False) -> Address:
    """Read one multiaddress.

    Raises:
        ValueError: it is not of the form this mesh uses; the message says so.
    """
    parts = text.split("/") if len(text) <= ADDRESS_CHARS_MAX else []
    if len(parts) not in {5, 7} or parts[0] or parts[3] != "tcp" or (len(parts) == 7 and parts[5] != "p2p"):
        raise ValueError(f"{text[:80]!r} is not of the form /ip4/192.0.2.1/tcp/3333/p2p/<peer id>")
    kind, host, port = parts[1], parts[2], parts[4]
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{text[:80]!r}: {port[:20]!r} is not a TCP port")
    peer = _peer(text, parts[6] if len(parts) == 7 else None, needs_peer=needs_peer)
    return Address(kind, _host(text, kind, host), int(port), peer)


def parse_wanted(text: str, *, needs_peer: bool = False) -> Address:
    """Read one multiaddress as an operator may write it: also ``/dnsaddr/mesh.example``, with or without a peer id.

    Raises:
        ValueError: as for ``parse_address``.
    """
    parts = text.split("/") if len(text) <= ADDRESS_CHARS_MAX else []
    if len(parts) < 3 or parts[0] or parts[1] != DNSADDR:
        return parse_address(text, needs_peer=needs_peer)
    if len(parts) not in {3, 5} or (len(parts) == 5 and parts[3] != "p2p"):
        raise ValueError(f"{text[:80]!r} is not of the form /dnsaddr/mesh.example/p2p/<peer id>")
    peer = _peer(text, parts[4] if len(parts) == 5 else None, needs_peer=needs_peer)
    return Address(DNSADDR, _name(text, parts[2]), 0, peer)


def _peer(text: str, peer: str | None, *, needs_peer: bool) -> str | None:
    if peer is not None and not is_peer_id(peer):
        raise ValueError(f"{text[:80]!r} does not end in a peer id")
    if needs_peer and peer is None:
        raise ValueError(f"{text[:80]!r} lacks its /p2p/<peer id>")
    return peer


def is_peer_id(text: str) -> bool:
    """Whether ``text`` has the form of a peer id."""
    return _PEER_ID.match(text) is not None


def _name(text: str, host: str) -> str:
    if not _DNS_NAME.match(host):
        raise ValueError(f"{text[:80]!r}: {host[:40]!r} is not a host name")
    return host


def _host(text: str, kind: str, host: str) -> str:
    if kind in _DNS_KINDS:
        return _name(text, host)
    if kind not in {"ip4", "ip6"}:
        raise ValueError(f"{text[:80]!r} is neither an IP nor a DNS address")
    try:
        return str(ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{text[:80]!r}: {host[:40]!r} is not an {kind} address") from None


def address_of_ip(ip: str, port: int, peer: str | None = None) -> Address:
    """The multiaddress of an IP and port."""
    parsed = ipaddress.ip_address(ip)
    return Address(f"ip{parsed.version}", str(parsed), port, peer)


def expand_wildcard(listen: Address, own_ips: Collection[str]) -> tuple[Address, ...]:
    """The concrete addresses that ``0.0.0.0`` or ``::`` stands for on this host.

    Loopback is among them only where there is nothing else, and link-local IPv6 never is (it needs a zone
    that no other host can know). An address that is no wildcard stands for itself.
    """
    if not listen.is_wildcard:
        return (listen,)
    version = 4 if listen.kind == "ip4" else 6
    ips = [ip for text in sorted(own_ips) if (ip := ipaddress.ip_address(text)).version == version]
    ips = [ip for ip in ips if not ip.is_link_local]
    chosen = [ip for ip in ips if not ip.is_loopback] or ips
    return tuple(replace(listen, host=str(ip)) for ip in chosen)


def useful_addresses(
    told: Iterable[str], peer: str, remote_ip: str | None, own_ips: Collection[str]
) -> tuple[str, ...]:
    """Those of a peer's own words about its addresses that lead to it from here.

    Args:
        told: multiaddresses the peer told of itself, of any form and number.
        peer: its proved peer id; an address that names another is left out.
        remote_ip: where its connection comes from, if known.
        own_ips: this host's IP addresses.

    Returns:
        at most ``PEER_ADDRESSES_MAX``, that of ``remote_ip`` first. If the peer is on another host, none
        that is loopback or one of this host's own; wildcards and names, which could stand for either, never.
    """
    same_host = remote_ip is not None and (remote_ip in own_ips or ipaddress.ip_address(remote_ip).is_loopback)
    found: list[Address] = []
    for text in told:
        try:
            address = parse_address(text)
        except ValueError:
            continue
        if address.peer not in {None, peer} or not address.is_ip or address.is_wildcard or address.port == 0:
            continue
        if not same_host and (address.is_loopback or address.host in own_ips):
            continue
        if (named := address.with_peer(peer)) not in found:
            found.append(named)
    found.sort(key=lambda address: (address.host != remote_ip, address.is_loopback))
    return tuple(str(address) for address in found[:PEER_ADDRESSES_MAX])


def dialable_addresses(
    told: Iterable[str], peer: str, own: Collection[Address], *, addresses_max: int = PEER_ADDRESSES_MAX
) -> tuple[Address, ...]:
    """Those of a peer's own words about its addresses that are worth a try, with nothing known of where it is.

    For dialling alone, where the handshake proves who answers, and never for probes. So an address of this very
    host is kept (two nodes of one host may have met at a third), but not one that this node itself listens on.
    Loopback is kept only where this node listens nowhere else; names are not: whoever tells one could make all
    nodes ask for it.

    Args:
        told: multiaddresses of any form and number.
        peer: who told them, proved; an address that names another is left out.
        own: where this node listens.
        addresses_max: more are left.
    """
    only_loopback = all(address.is_loopback for address in own)
    mine = {address.bare() for address in own}
    found: list[Address] = []
    for text in told:
        try:
            address = parse_address(text)
        except ValueError:
            continue
        if address.peer not in {None, peer} or not address.is_ip or address.is_wildcard or address.port == 0:
            continue
        if address.bare() in mine or (address.is_loopback and not only_loopback):
            continue
        if (named := address.with_peer(peer)) not in found:
            found.append(named)
    return tuple(found[:addresses_max])

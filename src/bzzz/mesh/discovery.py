"""Find peers on the local network by multicast DNS, as libp2p does it, in asyncio.

Announces this node's multiaddresses in TXT records (https://github.com/libp2p/specs/blob/master/discovery/mdns.md)
under one or several service tags and reports what other nodes announce. Only TXT records are read, as they
arrive: some programs answer without SRV records, and waiting for those takes long. Names of peers prove
nothing; who answers at an address is proved by the handshake. Dialling is left to others.

Which interfaces: loopback always, so that nodes of one host meet even where there is no other network or it
does not loop multicast back; beyond it those that the node listens on. A node that listens on loopback alone
is announced there alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from zeroconf import IPVersion, RecordUpdate, RecordUpdateListener, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf._dns import DNSQuestion, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf
from zeroconf.const import _CLASS_IN, _FLAGS_QR_QUERY, _TYPE_TXT

from bzzz.mesh.address import PEER_ADDRESSES_MAX, Address, parse_address
from bzzz.mesh.settings import DEFAULT_MESH_NAME

MDNS_RETRY_S = 30.0
_TXT_STRING_BYTES_MAX = 255
_MESH_KEY = "bzzz-mesh"
_LOOPBACK = "127.0.0.1"
_log = logging.getLogger("bzzz.mesh")

OnFound = Callable[[tuple[Address, ...]], None]


def write_announcement(addresses: Iterable[Address], mesh_name: str) -> bytes:
    """The TXT record's data: one ``dnsaddr=`` string an address, then the mesh's name.

    Loopback addresses are told only where there are no others: from elsewhere they lead astray.
    """
    known = list(addresses)
    told = [address for address in known if not address.is_loopback] or known
    texts = [f"dnsaddr={address}" for address in told[:PEER_ADDRESSES_MAX]]
    strings = [text.encode() for text in [*texts, f"{_MESH_KEY}={mesh_name}"]]
    return b"".join(bytes((len(s),)) + s for s in strings if len(s) <= _TXT_STRING_BYTES_MAX)


def read_announcement(data: bytes, mesh_name: str) -> tuple[Address, ...]:
    """The addresses in a TXT record's data, all of one peer; none if it is of another mesh.

    A record without a mesh name comes from another libp2p program and counts as ``DEFAULT_MESH_NAME``.
    """
    found: list[Address] = []
    named = DEFAULT_MESH_NAME
    at = 0
    while at < len(data):
        text = data[at + 1 : at + 1 + data[at]].decode("ascii", "replace")
        at += 1 + data[at]
        key, _, value = text.partition("=")
        if key == _MESH_KEY:
            named = value
        # py-libp2p numbers the keys from the second on.
        elif key.rstrip("0123456789") == "dnsaddr":
            with contextlib.suppress(ValueError):
                found.append(parse_address(value, needs_peer=True))
    if named != mesh_name:
        return ()
    return tuple(a for a in found if a.peer == found[0].peer and a.port and not a.is_wildcard)[:PEER_ADDRESSES_MAX]


class MdnsDiscovery:
    """Announces and browses until stopped. Where multicast is impossible, says so and tries again.

    Args:
        addresses: this node's own, with its peer id.
        mesh_name: only nodes of the same mesh are reported.
        service_tags: such as ``_p2p._udp.local.``.
        on_found: called in the event loop with a peer's addresses, again whenever they are announced.
        counts: where what was found and failed is counted.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        mesh_name: str,
        service_tags: Sequence[str],
        on_found: OnFound,
        counts: Counter[str],
    ) -> None:
        self._addresses = tuple(addresses)
        self._mesh_name = mesh_name
        self._tags = tuple(tag if tag.endswith(".local.") else f"{tag}.local." for tag in service_tags)
        self._on_found = on_found
        self._counts = counts
        # As the protocol wants it: random, so that two nodes never fight for a name.
        self._label = secrets.token_hex(16)
        self._zeroconf: AsyncZeroconf | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._keep_running(), name="mdns")

    async def stop(self) -> None:
        """Say goodbye and close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
            self._zeroconf = None

    async def _keep_running(self) -> None:
        while True:
            try:
                await self._open()
            except Exception as error:
                self._counts["mdns_failures"] += 1
                if self._counts["mdns_failures"] == 1:
                    _log.warning("no discovery by mDNS (%s); trying again every %g s", error, MDNS_RETRY_S)
                if self._zeroconf is not None:
                    await self._zeroconf.async_close()
                    self._zeroconf = None
            else:
                return
            await asyncio.sleep(MDNS_RETRY_S)

    async def _open(self) -> None:
        self._zeroconf = AsyncZeroconf(interfaces=self._interfaces(), ip_version=IPVersion.V4Only)
        core = self._zeroconf.zeroconf
        core.async_add_listener(_TxtListener(self._heard), None)
        for tag in self._tags:
            AsyncServiceBrowser(core, tag, handlers=[self._browsed])
        for tag in self._tags:
            # Announcing takes seconds, and goes on by itself; the name cannot be taken, so nobody is asked.
            await self._zeroconf.async_register_service(
                self._service(tag), cooperating_responders=True, strict=False
            )

    def _interfaces(self) -> list[str]:
        ips = {a.host for a in self._addresses if a.kind == "ip4" and not a.is_loopback}
        return [_LOOPBACK, *sorted(ips)]

    def _service(self, tag: str) -> ServiceInfo:
        ips = [ipaddress.ip_address(a.host).packed for a in self._addresses if a.is_ip]
        return ServiceInfo(
            tag,
            f"{self._label}.{tag}",
            port=self._addresses[0].port,
            properties=write_announcement(self._addresses, self._mesh_name),
            server=f"{self._label}.local.",
            addresses=ips,
        )

    def _is_foreign(self, name: str) -> bool:
        return name.endswith(self._tags) and not name.startswith(self._label)

    def _heard(self, record: DNSText) -> None:
        if not self._is_foreign(record.name):
            return
        addresses = read_announcement(record.text, self._mesh_name)
        if addresses and addresses[0].peer != self._addresses[0].peer:
            self._counts["mdns_heard"] += 1
            self._on_found(addresses)
        elif not addresses:
            self._counts["mdns_ignored"] += 1

    def _browsed(
        self,
        zeroconf: Zeroconf,
        service_type: str,  # noqa: ARG002 - zeroconf passes it by this name
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is ServiceStateChange.Removed or not self._is_foreign(name):
            return
        if zeroconf.cache.get_by_details(name, _TYPE_TXT, _CLASS_IN) is None:
            # Told of without its text: ask for it.
            question = DNSOutgoing(_FLAGS_QR_QUERY)
            question.add_question(DNSQuestion(name, _TYPE_TXT, _CLASS_IN))
            zeroconf.async_send(question)


class _TxtListener(RecordUpdateListener):
    """Hands on every TXT record that is new or repeated, and not a goodbye."""

    def __init__(self, heard: Callable[[DNSText], None]) -> None:
        super().__init__()
        self._heard = heard

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:  # noqa: ARG002
        """Called by zeroconf in the event loop."""
        for update in records:
            if isinstance(update.new, DNSText) and update.new.ttl > 1:
                self._heard(update.new)

    def async_update_records_complete(self) -> None:
        """Called by zeroconf after each packet."""

"""The ``Transport`` port over libp2p: Noise, Yamux and strictly signed gossipsub over TCP.

The engine lives in a trio thread (see ``bridge``). If it dies, it is started again with the same addresses,
topics and wanted peers, after growing pauses, and ``TransportRestarted`` says so. Everything from the
network is checked, counted and bounded there; here is only what the port promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from bzzz.errors import TransportError
from bzzz.mesh.address import Address, is_peer_id, parse_address, parse_wanted
from bzzz.mesh.bridge import TrioThread, describe
from bzzz.mesh.discovery import MdnsDiscovery
from bzzz.mesh.dns_discovery import DnsDiscovery
from bzzz.mesh.front import MeshFront, read_address
from bzzz.mesh.identity import load_identity
from bzzz.mesh.inbox import Inbox
from bzzz.mesh.libp2p_import import leave_out
from bzzz.mesh.mesh_secret import MeshSecret, load_secret
from bzzz.mesh.name_resolver import Resolver, SystemResolver
from bzzz.mesh.probe import probe_address
from bzzz.mesh.redial import redial_delay_s
from bzzz.mesh.revocation import RevokedFile
from bzzz.mesh.settings import MeshSettings
from bzzz.ports import PeerDisconnected, Probe, TransportRestarted

if TYPE_CHECKING:
    from bzzz.mesh.libp2p_engine import Engine

_STATIC = "static"
_DOWN = "the mesh engine is down and being started again; try again soon"
_log = logging.getLogger("bzzz.mesh")


class Libp2pTransport(MeshFront):
    """One node's place on a libp2p mesh; from start to stop in one event loop.

    Args:
        settings: of this node's mesh.
        resolver: asked for names; the machine's own if none is given.

    Raises:
        TransportError: the identity file cannot be read or made, or an address in the settings is wrong.
    """

    def __init__(self, settings: MeshSettings, resolver: Resolver | None = None) -> None:
        super().__init__(settings.requests, settings.payload_bytes_max)
        self._settings = settings
        self._resolver = resolver or SystemResolver()
        self._identity = load_identity(settings.identity_file)
        self._secret = _load_secret(settings)
        for text in settings.listen:
            read_address(parse_address, text, "listen on")
        self._wanted: dict[Address, None] = {}
        for text in settings.static_peers:
            self._wanted[self._wish(text, needs_peer=False)] = None
        self._seeds: dict[str, tuple[Address, ...]] = {}
        self._revoked_file = None if settings.revoked_file is None else RevokedFile(settings.revoked_file)
        self._revoked = frozenset[str]()
        self._watching: asyncio.Task[None] | None = None
        self._topics: set[str] = set()
        # One counter a thread, for adding to a count is not atomic.
        self._engine_counts: Counter[str] = Counter()
        self._thread: TrioThread | None = None
        self._engine: Engine | None = None
        self._mdns: MdnsDiscovery | None = None
        self._dns: DnsDiscovery | None = None
        self._revival: asyncio.Task[None] | None = None
        self._addresses: tuple[str, ...] = ()

    @property
    def peer_id(self) -> str:
        """This node's own identity on the mesh."""
        return self._identity.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node listens, with its peer id; empty before ``start``."""
        return self._addresses

    async def start(self) -> None:
        """Listen, then discover and dial.

        Raises:
            TransportError: it was started before, a port is taken, or libp2p is missing or of another version.
        """
        settings = self._settings
        inbox = self._begin(Inbox(settings.receive_queue_messages_max, settings.receive_queue_bytes_max))
        self._read_revoked()
        try:
            await self._start_engine(settings.listen, inbox)
        except BaseException:
            await self.stop()
            raise
        self._start_discovery()
        if self._revoked_file is not None:
            self._watching = asyncio.create_task(self._watch_revoked(), name="mesh-revoked")

    async def stop(self) -> None:
        """Close connections and end the thread; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        for task in (self._revival, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        ends = []
        if self._mdns is not None:
            ends.append(self._mdns.stop())
        if self._dns is not None:
            ends.append(self._dns.stop())
        if self._thread is not None:
            ends.append(self._end_thread(self._thread))
        await asyncio.gather(*ends)
        if self._inbox is not None:
            self._inbox.close()

    async def join(self, topic: str) -> None:
        """Receive what is published on ``topic``; remembered while the engine is not up."""
        self._topics.add(topic)
        await self._ask_if_up(lambda engine: engine.join, topic)

    async def leave(self, topic: str) -> None:
        """Stop receiving ``topic``."""
        if topic in self._topics:
            self._topics.discard(topic)
            await self._ask_if_up(lambda engine: engine.leave, topic)

    async def dial(self, address: str) -> None:
        """Keep a connection to this peer.

        Raises:
            TransportError: not a multiaddress, or one without a peer id.
        """
        wanted = self._wish(address, needs_peer=True)
        self._wanted[wanted] = None
        if wanted.is_ip:
            await self._ask_if_up(lambda engine: engine.want, (wanted,), True)
        elif self._dns is not None:
            self._dns.watch(wanted)

    async def probe(self, address: str, timeout_s: float) -> Probe:
        """Check a peer by a connection of its own, and by who proves to be there where the address names a peer.

        Raises:
            TransportError: not a multiaddress.
        """
        wanted = read_address(parse_address, address, "probe")
        if wanted.peer is not None and wanted.is_ip and self._thread is not None and self._engine is not None:
            with contextlib.suppress(TransportError):  # the engine died just now: the host alone is asked
                return await self._thread.call(self._engine.probe, wanted, timeout_s)
        return await probe_address(address, timeout_s)

    def peers(self) -> Mapping[str, tuple[str, ...]]:
        """Connected peers and where they are known to listen."""
        return {} if self._engine is None else self._engine.peers()

    # --- for both engines alike ----------------------------------------------------------------------------

    async def _send(self, topic: str, payload: bytes) -> bool:
        if self._thread is None or self._engine is None:
            raise TransportError(_DOWN)
        await self._thread.call_now(self._engine.publish, topic, payload)
        return True

    async def _ask(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        if self._thread is None or self._engine is None:
            raise TransportError(_DOWN)
        return await self._thread.call(self._engine.request, peer, data, timeout_s)

    def _engine_counters(self) -> Mapping[str, int]:
        return dict(self._engine_counts)

    # --- the engine and its lives --------------------------------------------------------------------------

    async def _start_engine(self, listen: tuple[str, ...], inbox: Inbox) -> None:
        box: list[Engine] = []

        async def main(ready: Callable[[], None]) -> None:
            # Here, in the thread, as the import takes long; and after the version's check, as it might fail.
            leave_out()
            from bzzz.mesh.libp2p_engine import Engine  # noqa: PLC0415

            engine = Engine(
                self._settings,
                self._identity,
                listen,
                inbox.put,
                self._engine_counts,
                secret=self._secret,
                desk=self._desk,
                answer=partial(thread.call_home, self._desk.answer),
            )
            engine.revoke(self._revoked)
            box.append(engine)
            await engine.run(ready)

        thread = TrioThread(main, self._died)
        self._thread = thread
        try:
            await thread.start(self._settings.start_timeout_s)
        except TransportError:
            if box:
                box[0].abandon()
            raise
        engine = box[0]
        self._addresses = engine.addresses
        for topic in sorted(self._topics):
            await thread.call(engine.join, topic)
        for wanted in self._wanted:
            if wanted.is_ip and wanted.peer is not None:
                await thread.call(engine.want, (wanted,), True)
        self._engine = engine
        for source, seeds in self._seeds.items():
            thread.post(engine.want_seeds, source, seeds)

    async def _end_thread(self, thread: TrioThread) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            with contextlib.suppress(TimeoutError, TransportError):
                async with asyncio.timeout(self._settings.stop_timeout_s / 2):
                    await thread.call(engine.farewell)
        if not await thread.stop(self._settings.stop_timeout_s):
            _log.warning("the mesh engine did not end within %g s; left behind", self._settings.stop_timeout_s)
        elif engine is not None:
            engine.abandon()

    def _died(self, error: BaseException | None) -> None:
        reason = describe(error)
        _log.error("the mesh engine died (%s); starting it again", reason)
        engine, self._engine = self._engine, None
        self._counts["engine_deaths"] += 1
        inbox = self._inbox
        if inbox is None:
            return
        if engine is not None:
            engine.abandon()
            for peer in engine.peers():
                inbox.put(PeerDisconnected(peer, "the mesh engine here died"))
        if self._revival is None or self._revival.done():
            self._revival = asyncio.create_task(self._revive(reason, inbox), name="mesh-revival")

    async def _revive(self, reason: str, inbox: Inbox) -> None:
        listen = tuple(str(parse_address(text).bare()) for text in self._addresses)
        attempt = 0
        while True:
            await asyncio.sleep(redial_delay_s(attempt, random.random()))  # noqa: S311 - spreads load
            attempt += 1
            try:
                await self._start_engine(listen, inbox)
            except TransportError as error:
                _log.error("the mesh engine does not start: %s", error)
                continue
            break
        inbox.put(TransportRestarted(reason))

    async def _ask_if_up(self, method: Callable[[Engine], Callable[..., object]], *args: object) -> None:
        if self._thread is None or self._engine is None:
            return
        try:
            await self._thread.call(method(self._engine), *args)  # type: ignore[arg-type]
        except TransportError:
            # It died just now; the next life begins with what was asked.
            _log.debug("the mesh engine is down; it will be told when it is up again")

    # --- admission -----------------------------------------------------------------------------------------

    async def _watch_revoked(self) -> None:
        while True:
            await asyncio.sleep(self._settings.revoked_interval_s)
            if self._read_revoked() and self._thread is not None and self._engine is not None:
                self._thread.post(self._engine.revoke, self._revoked)

    def _read_revoked(self) -> bool:
        found = None if self._revoked_file is None else self._revoked_file.changed()
        if found is None or found == self._revoked:
            return False
        self._revoked = found
        _log.warning("%d peers are revoked here", len(found))
        return True

    # --- discovery -----------------------------------------------------------------------------------------

    def _start_discovery(self) -> None:
        settings = self._settings
        self._want_seeds(_STATIC, tuple(a for a in self._wanted if a.is_ip and a.peer is None))
        self._dns = DnsDiscovery(
            self._resolver,
            self._resolved,
            self._counts,
            interval_s=settings.dns_interval_s,
            timeout_s=settings.dns_timeout_s,
        )
        for wanted in self._wanted:
            if not wanted.is_ip:
                self._dns.watch(wanted)
        if settings.mdns:
            own = [parse_address(text) for text in self._addresses]
            self._mdns = MdnsDiscovery(
                own, settings.mesh_name, settings.mdns_service_tags, self._found, self._counts
            )
            self._mdns.start()

    def _found(self, addresses: tuple[Address, ...]) -> None:
        if self._thread is not None and self._engine is not None:
            self._thread.post(self._engine.want_discovered, addresses)

    def _resolved(self, name: Address, addresses: tuple[Address, ...]) -> None:
        named: dict[str, list[Address]] = {}
        for address in addresses:
            if address.peer is not None:
                named.setdefault(address.peer, []).append(address)
        for same in named.values():
            self._found(tuple(same))
        own = {parse_address(text).bare() for text in self._addresses}
        # A name for all tasks of a service stands for this one too.
        self._want_seeds(str(name), tuple(a for a in addresses if a.peer is None and a not in own))

    def _want_seeds(self, source: str, addresses: tuple[Address, ...]) -> None:
        self._seeds[source] = addresses
        if self._thread is not None and self._engine is not None:
            self._thread.post(self._engine.want_seeds, source, addresses)

    def _wish(self, text: str, *, needs_peer: bool) -> Address:
        wanted = read_address(partial(parse_wanted, needs_peer=needs_peer), text, "dial")
        if not wanted.is_ip and not self._settings.dns:
            raise TransportError(f"cannot dial {wanted}: names are not looked up here, as mesh.dns is off")
        return wanted


def _load_secret(settings: MeshSettings) -> MeshSecret | None:
    for peer in settings.allowed_peers:
        if not is_peer_id(peer):
            raise TransportError(f"mesh.allowed_peers: {peer[:80]!r} is no peer id")
    if settings.secret_file is None:
        return None
    secret = load_secret(settings.secret_file)
    if secret.name != settings.mesh_name:
        raise TransportError(
            f"mesh secret {settings.secret_file}: it is of the mesh {secret.name!r}, but mesh.name is "
            f"{settings.mesh_name!r}"
        )
    return secret

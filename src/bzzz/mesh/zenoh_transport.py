"""The ``Transport`` port over Zenoh, for fleets that outgrow libp2p: every payload signed by its author.

Zenoh does the carrying, forwarding, scouting, redialling and TLS; this module keeps its blocking calls off the
event loop and keeps the port's promises. Its sessions live in native threads of this process, which do not die
by themselves, so there is no ``TransportRestarted`` here. A mesh is of one engine: nodes of the other are not
heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bzzz.errors import TransportError
from bzzz.mesh.address import parse_address
from bzzz.mesh.front import MeshFront, read_address
from bzzz.mesh.identity import load_identity
from bzzz.mesh.inbox import Inbox
from bzzz.mesh.probe import probe_address
from bzzz.mesh.redial import redial_delay_s
from bzzz.mesh.zenoh_settings import ZenohSettings
from bzzz.ports import Probe

if TYPE_CHECKING:
    from bzzz.mesh.zenoh_engine import Engine

T = TypeVar("T")
REPLY_THREADS_MAX = 4
_parse_peer = partial(parse_address, needs_peer=True)
_log = logging.getLogger("bzzz.mesh")


def _everyone(_: str) -> bool:
    return True


class ZenohTransport(MeshFront):
    """One node's place on a Zenoh mesh; from start to stop in one event loop.

    Args:
        settings: of the mesh.
        admits: whether a peer may be heard, by its proved id; asked for every message, so that a peer that is
            revoked is silenced at once. Mutual TLS in the settings keeps strangers from connecting at all.

    Raises:
        TransportError: the identity file cannot be read or made, or an address in the settings is wrong.
    """

    def __init__(self, settings: ZenohSettings, admits: Callable[[str], bool] = _everyone) -> None:
        super().__init__(settings.requests, settings.payload_bytes_max)
        self._settings = settings
        self._admits = admits
        self._identity = load_identity(settings.identity_file)
        for text in settings.listen:
            read_address(parse_address, text, "listen on")
        self._wanted = {read_address(_parse_peer, text, "dial").bare() for text in settings.static_peers}
        self._routers = [read_address(parse_address, text, "use the router").bare() for text in settings.routers]
        self._topics: set[str] = set()
        self._engine: Engine | None = None
        self._seeking: asyncio.Task[None] | None = None
        # One thread, so that messages leave in the order in which they were published.
        self._thread = ThreadPoolExecutor(1, "bzzz-mesh")
        # Asking waits for answers, and answering for who is slow to take them.
        self._asking = ThreadPoolExecutor(settings.requests.asked_max, "bzzz-mesh-asking")
        self._replying = ThreadPoolExecutor(REPLY_THREADS_MAX, "bzzz-mesh-replying")
        self._answering: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._relaying = threading.BoundedSemaphore(settings.outbound_queue_messages_max)

    @property
    def peer_id(self) -> str:
        """This node's own identity on the mesh, the same as it is over libp2p."""
        return self._identity.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node listens, with its peer id; empty before ``start``."""
        return () if self._engine is None else self._engine.addresses

    async def start(self) -> None:
        """Listen, then discover and dial.

        Raises:
            TransportError: it was started before, a port is taken, a certificate is wrong, or Zenoh is missing.
        """
        inbox = self._begin(Inbox(self._settings.receive_queue_messages_max))
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                self._engine = await self._call(self._open, inbox)
        except TimeoutError:
            await self.stop()
            text = f"the mesh engine did not start within {self._settings.start_timeout_s:g} s"
            raise TransportError(text) from None
        except BaseException:
            await self.stop()
            raise
        if self._routers:
            self._seeking = asyncio.create_task(self._seek_routers(self._engine), name="mesh-routers")

    async def stop(self) -> None:
        """Say goodbye and close the sessions; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._seeking is not None:
            self._seeking.cancel()
        if self._engine is not None:
            try:
                async with asyncio.timeout(self._settings.stop_timeout_s):
                    await self._call(self._engine.close)
            except TimeoutError:
                _log.warning("the mesh engine did not end within %g s; left behind", self._settings.stop_timeout_s)
        for answering in self._answering:
            answering.cancel()
        for pool in (self._thread, self._asking, self._replying):
            pool.shutdown(wait=False)
        if self._inbox is not None:
            self._inbox.close()

    async def join(self, topic: str) -> None:
        """Receive what is published on ``topic``."""
        self._topics.add(topic)
        self._tell_topics()

    async def leave(self, topic: str) -> None:
        """Stop receiving ``topic``."""
        self._topics.discard(topic)
        self._tell_topics()

    async def dial(self, address: str) -> None:
        """Keep a connection to this address. Who answers there is known by its presence, not by the address.

        Raises:
            TransportError: not a multiaddress, one without a peer id, or more of them than ``dialled_max``.
        """
        wanted = read_address(_parse_peer, address, "dial").bare()
        if wanted in self._wanted:
            return
        self._wanted.add(wanted)
        if self._engine is not None and not self._stopped:
            try:
                await self._call(self._engine.link, wanted)
            except TransportError:
                self._wanted.discard(wanted)
                raise

    async def probe(self, address: str, timeout_s: float) -> Probe:
        """Check a peer by a plain TCP connection of its own.

        Raises:
            TransportError: not a multiaddress.
        """
        return await probe_address(address, timeout_s)

    def peers(self) -> Mapping[str, tuple[str, ...]]:
        """Connected peers and where they are known to listen."""
        return {} if self._engine is None or self._stopped else self._engine.peers()

    async def _send(self, topic: str, payload: bytes) -> bool:
        engine = self._running()
        if self._waiting >= self._settings.outbound_queue_messages_max:
            self._counts["dropped_outbound"] += 1
            return False
        self._waiting += 1
        try:
            await self._call(engine.put, topic, payload)
        finally:
            self._waiting -= 1
        return True

    async def _ask(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        loop, engine = asyncio.get_running_loop(), self._running()
        return await loop.run_in_executor(self._asking, engine.request, peer, data, timeout_s)

    def _engine_counters(self) -> Mapping[str, int]:
        return {} if self._engine is None else self._engine.counts()

    def _running(self) -> Engine:
        if self._engine is None:
            raise TransportError("the mesh is still starting")
        return self._engine

    def _open(self, inbox: Inbox) -> Engine:
        # Imported here, in the thread and when it is needed: a node on the other engine does not load it.
        try:
            from bzzz.mesh.zenoh_engine import Engine  # noqa: PLC0415
        except ImportError as error:
            raise TransportError(
                f'Zenoh cannot be loaded ({error}); install eclipse-zenoh, or set mesh.engine = "libp2p"'
            ) from None
        engine = Engine(
            self._settings,
            self._identity,
            self._admits,
            inbox.put,
            self._relay,
            desk=self._desk,
            on_request=self._asked,
        )
        engine.hear(frozenset(self._topics))
        try:
            engine.open(tuple(self._wanted))
        except BaseException:
            engine.close()
            raise
        if self._stopped:
            # It was waited for no longer.
            engine.close()
        return engine

    async def _seek_routers(self, engine: Engine) -> None:
        attempt = 0
        while not await asyncio.to_thread(engine.join_routers, self._routers):
            if attempt == 0:
                _log.warning("no mesh router answers at %s; trying again", ", ".join(map(str, self._routers)))
            self._counts["router_failures"] += 1
            chance = random.random()  # noqa: S311 - spreads load
            await asyncio.sleep(
                redial_delay_s(attempt, chance, self._settings.redial_base_s, self._settings.redial_max_s)
            )
            attempt += 1

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _relay(self, send: Callable[[], None]) -> bool:
        """Called from the engine's reading threads, which must not wait for a congested way out."""
        if not self._relaying.acquire(blocking=False):
            return False
        with contextlib.suppress(RuntimeError):  # stopped just now
            self._thread.submit(send).add_done_callback(lambda _: self._relaying.release())
        return True

    def _asked(self, peer: str, data: bytes, reply: Callable[[bytes], None]) -> None:
        """Called from the engine's reading threads."""

        def begin() -> None:
            task = asyncio.create_task(self._answer(peer, data, reply), name="mesh-answer")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # over just now
                loop.call_soon_threadsafe(begin)

    async def _answer(self, peer: str, data: bytes, reply: Callable[[bytes], None]) -> None:
        try:
            answer = await self._desk.answer(peer, data)
            await asyncio.get_running_loop().run_in_executor(self._replying, reply, answer)
        except Exception as error:
            # The session broke, or the transport is being stopped.
            self._desk.drop("cut")
            _log.debug("an answer to %s was not sent: %r", peer, error)
        finally:
            self._desk.leave(peer)

    def _tell_topics(self) -> None:
        if self._engine is not None:
            self._engine.hear(frozenset(self._topics))

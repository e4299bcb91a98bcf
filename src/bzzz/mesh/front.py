"""What all transports have alike: one queue of events, requests and their answers, counts."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Callable, Mapping

from bzzz.errors import PayloadTooLarge, TransportError
from bzzz.mesh.address import Address
from bzzz.mesh.inbox import Inbox
from bzzz.mesh.request import Request, RequestBounds
from bzzz.mesh.request_desk import RequestDesk
from bzzz.ports import RequestHandler, TransportEvent

_NOT_RUNNING = "the mesh is not running: start it first, and only once"


class MeshFront(abc.ABC):
    """Keeps those of the port's promises that do not depend on an engine.

    Args:
        requests: how many may be asked and answered.
        payload_bytes_max: a larger payload is refused.
    """

    def __init__(self, requests: RequestBounds, payload_bytes_max: int) -> None:
        self._desk = RequestDesk(requests)
        self._payload_bytes_max = payload_bytes_max
        self._counts: Counter[str] = Counter()
        self._inbox: Inbox | None = None
        self._stopped = False

    @abc.abstractmethod
    async def _send(self, topic: str, payload: bytes) -> bool:
        """Publish; whether it is on its way."""

    @abc.abstractmethod
    async def _ask(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        """Give the bytes of a peer's answer to a request's."""

    @abc.abstractmethod
    def _engine_counters(self) -> Mapping[str, int]:
        """What the engine counted, over all its lives."""

    def _begin(self, inbox: Inbox) -> Inbox:
        """Take the queue that events come through from now on.

        Raises:
            TransportError: there was one before.
        """
        if self._inbox is not None or self._stopped:
            raise TransportError("this transport was started before; make a new one")
        self._inbox = inbox
        return inbox

    def _check_running(self) -> None:
        if self._inbox is None or self._stopped:
            raise TransportError(_NOT_RUNNING)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send to every peer that joined ``topic``; what finds a queue full is counted as dropped.

        Raises:
            PayloadTooLarge: above ``payload_bytes_max``.
            TransportError: not started, stopped, or the engine is down.
        """
        self._check_running()
        if len(payload) > self._payload_bytes_max:
            raise PayloadTooLarge(len(payload), self._payload_bytes_max)
        if await self._send(topic, payload):
            self._counts["published"] += 1

    def serve(self, kind: str, handler: RequestHandler) -> None:
        """Answer requests of ``kind``.

        Raises:
            TransportError: it cannot be a kind.
        """
        self._desk.serve(kind, handler)

    async def request(self, peer: str, kind: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask one connected peer, and give its answer.

        Raises:
            PayloadTooLarge, RequestFailed, TransportError: as the port says.
        """
        self._check_running()

        async def send(data: bytes) -> bytes:
            return await self._ask(peer, data, timeout_s)

        return await self._desk.ask(peer, Request(kind, timeout_s, payload), send)

    async def receive(self) -> TransportEvent:
        """The next event, waiting for it.

        Raises:
            TransportError: not started, or stopped.
        """
        if self._inbox is None:
            raise TransportError(_NOT_RUNNING)
        return await self._inbox.get()

    def counters(self) -> Mapping[str, int]:
        """Counts since start, over all lives of the engine."""
        inbox = self._inbox
        return {
            **self._engine_counters(),
            **self._desk.counts(),
            **self._counts,
            "published": self._counts["published"],
            "received": 0 if inbox is None else inbox.received,
            "dropped_queue": 0 if inbox is None else inbox.dropped_messages,
            "dropped_notices": 0 if inbox is None else inbox.dropped_notices,
        }


def read_address(parse: Callable[[str], Address], text: str, purpose: str) -> Address:
    """An address that a person wrote.

    Raises:
        TransportError: it is none; with ``purpose``, what it was for.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise TransportError(f"cannot {purpose}: {error}") from None

"""Answers the requests of others and bounds them, and one's own; the same for every engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

from bzzz.errors import PayloadTooLarge, PeerError, RequestFailed
from bzzz.mesh.bucket import Bucket
from bzzz.mesh.request import (
    Request,
    RequestBounds,
    Status,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from bzzz.ports import RequestHandler

PEERS_MAX = 1_024
_BURST_S = 4.0
_log = logging.getLogger("bzzz.mesh")


class RequestDesk:
    """Answers the requests of others by the handlers it was given, and bounds both ways.

    ``admit`` and ``leave`` may be called from any thread; the rest belongs to the event loop.

    Args:
        bounds: what requests may cost.
    """

    def __init__(self, bounds: RequestBounds) -> None:
        self.bounds = bounds
        self._handlers: dict[str, RequestHandler] = {}
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        self._rates: OrderedDict[str, Bucket] = OrderedDict()
        self._asked = 0

    def serve(self, kind: str, handler: RequestHandler) -> None:
        """Answer requests of ``kind`` with what ``handler`` gives; the last one given counts.

        Raises:
            TransportError: it cannot be a kind.
        """
        write_request(Request(kind, 1.0, b""))
        self._handlers[kind] = handler

    def counts(self) -> dict[str, int]:
        """What was asked, answered and refused."""
        with self._lock:
            return dict(self._counts)

    # --- answering -----------------------------------------------------------------------------------------

    def admit(self, peer: str) -> bytes | None:
        """Begin one request of ``peer``; the answer to give at once where there is no room for it.

        Asked before the request is read, so that what is refused takes no memory. Who got ``None`` calls ``leave``.
        """
        with self._lock:
            if not self._rate_of(peer).take(1, time.monotonic()):
                self._counts["dropped_request_flood"] += 1
                return write_answer(Status.BUSY, b"too many requests; send fewer")
            full = self._served.total() >= self.bounds.served_max
            if full or self._served[peer] >= self.bounds.served_per_peer_max:
                self._counts["dropped_request_busy"] += 1
                return write_answer(Status.BUSY, b"other requests are being answered; try again")
            self._served[peer] += 1
            return None

    def leave(self, peer: str) -> None:
        """End what ``admit`` began."""
        with self._lock:
            self._served[peer] -= 1
            self._served += Counter()  # leaves out who is at nought

    def drop(self, reason: str) -> None:
        """Count a request that could not be read."""
        self._count(f"dropped_request_{reason}")

    async def answer(self, peer: str, data: bytes) -> bytes:
        """The answer to a request that was admitted; whatever the handler does, there is one in time."""
        try:
            request = read_request(data)
        except PeerError as error:
            self.drop(error.reason)
            return write_answer(Status.FAILED, b"it is no request")
        handler = self._handlers.get(request.kind)
        if handler is None:
            self.drop("unserved")
            return write_answer(Status.UNSERVED, f"nobody here answers {request.kind}".encode())
        try:
            async with asyncio.timeout(min(request.timeout_s, self.bounds.answer_s_max)):
                payload = await handler(peer, request.payload)
        except TimeoutError:
            self.drop("late")
            return write_answer(Status.FAILED, b"it took too long")
        except Exception as error:
            # Its text may hold what only this machine should know.
            _log.warning("a request of %s for %s was not answered: %r", peer, request.kind, error)
            self.drop("failed")
            return write_answer(Status.FAILED, b"it went wrong here")
        if len(payload) > self.bounds.bytes_max:
            _log.warning("an answer to %s of %d bytes is too large", request.kind, len(payload))
            self.drop("answer_oversized")
            return write_answer(Status.FAILED, b"the answer is too large")
        self._count("requests_answered")
        return write_answer(Status.ANSWERED, payload)

    # --- asking --------------------------------------------------------------------------------------------

    async def ask(self, peer: str, request: Request, send: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        """One own request: checked, sent by ``send``, and its answer read.

        Raises:
            PayloadTooLarge: above ``bytes_max``.
            TransportError: the kind or the deadline cannot be one, or the engine is down.
            RequestFailed: there is no good answer.
        """
        data = write_request(request)
        if len(request.payload) > self.bounds.bytes_max:
            raise PayloadTooLarge(len(request.payload), self.bounds.bytes_max)
        self._count("requests_asked")
        try:
            if self._asked >= self.bounds.asked_max:
                raise RequestFailed("crowded", peer, f"{self._asked} requests wait for their answers already")
            self._asked += 1
            try:
                async with asyncio.timeout(request.timeout_s):
                    return read_answer(peer, await send(data))
            except TimeoutError:
                raise RequestFailed("timeout", peer, f"no answer within {request.timeout_s:g} s") from None
            finally:
                self._asked -= 1
        except RequestFailed as error:
            self._count(f"requests_failed_{error.reason}")
            raise

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _rate_of(self, peer: str) -> Bucket:
        bucket = self._rates.pop(peer, None)
        if bucket is None:
            rate = self.bounds.peer_requests_per_s_max
            bucket = Bucket(rate, rate * _BURST_S, time.monotonic())
            if len(self._rates) >= PEERS_MAX:
                self._rates.popitem(last=False)
        self._rates[peer] = bucket
        return bucket

"""Requests over streams of libp2p, one stream for each; in the trio program.

Only admitted peers can open streams, and who asks is the peer that the connection proved. On the stream, either
way, one frame as ``frame`` reads it, whose content is described in ``request``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID
from libp2p.utils import encode_varint_prefixed

from bzzz.errors import PeerError, RequestFailed
from bzzz.mesh.frame import FrameReader
from bzzz.mesh.request import HEADER_BYTES_MAX
from bzzz.mesh.request_desk import RequestDesk

REQUEST_PROTOCOL = "/bzzz/request/1.0.0"
TRANSFER_S_MAX = 30.0
"""For a whole request to come, and for a whole answer to be taken: whoever is slower holds a place for so long."""
LINGER_S_MAX = 2.0
"""For the other side to close a stream when all was said."""
LINGER_BYTES = 65_536
_FLOOD_WEIGHT = 1.0
_BROKEN_WEIGHT = 10.0
_BREAKS = (EOFError, BaseLibp2pError)

Answer = Callable[[str, bytes], Awaitable[bytes]]


class RequestStreams:
    """Asks and answers.

    Args:
        host: of the library.
        desk: admits requests.
        answer: gives the answer to a request of a peer; awaited in the trio program.
        misbehaved: takes a peer that sent what no honest one sends, what that was, and how much of it.
    """

    def __init__(
        self, host: Any, desk: RequestDesk, answer: Answer, misbehaved: Callable[[str, str, float], None]
    ) -> None:
        self._host = host
        self._desk = desk
        self._answer = answer
        self._misbehaved = misbehaved
        self._bytes_max = HEADER_BYTES_MAX + desk.bounds.bytes_max

    async def ask(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        """Send a request to a connected peer and give the answer's bytes.

        Raises:
            RequestFailed: there is none.
        """
        with trio.move_on_after(timeout_s):
            try:
                stream = await self._host.new_stream(ID.from_base58(peer), [REQUEST_PROTOCOL])
            except StreamFailure as error:
                raise RequestFailed("unserved", peer, "it opens no stream for requests") from error
            except _BREAKS as error:
                raise RequestFailed("cut", peer, "its connection broke") from error
            async with _ended(stream):
                try:
                    return await self._exchange(stream, data)
                except PeerError as error:
                    self._misbehaved(peer, error.reason, _BROKEN_WEIGHT)
                    raise RequestFailed(error.reason, peer, error.detail) from None
                except _BREAKS as error:
                    raise RequestFailed("cut", peer, "its connection broke") from error
        raise RequestFailed("timeout", peer, f"no answer within {timeout_s:g} s")

    async def _exchange(self, stream: Any, data: bytes) -> bytes:
        broken: Exception | None = None

        async def write() -> None:
            # Where that breaks, reading does too.
            with suppress(*_BREAKS):
                await stream.write(encode_varint_prefixed(data))

        async with trio.open_nursery() as nursery:
            # At once, for who has no room says so before the request is read.
            nursery.start_soon(write)
            try:
                answer = await FrameReader(stream, self._bytes_max).next()
            except (PeerError, *_BREAKS) as error:
                # Raised below, as a nursery would wrap it.
                broken = error
            nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken
        return answer

    async def take(self, stream: Any) -> None:
        """Answer the one request of a stream that a peer opened."""
        peer = str(stream.muxed_conn.peer_id)
        async with _ended(stream):
            refusal = self._desk.admit(peer)
            if refusal is not None:
                self._misbehaved(peer, "requests", _FLOOD_WEIGHT)
                await self._give(stream, refusal)
                return
            try:
                with trio.move_on_after(TRANSFER_S_MAX) as reading:
                    data = await FrameReader(stream, self._bytes_max).next()
                if reading.cancelled_caught:
                    self._desk.drop("slow")
                    await stream.reset()
                    return
                await self._give(stream, await self._answer(peer, data))
            except PeerError as error:
                self._desk.drop(error.reason)
                self._misbehaved(peer, error.reason, _BROKEN_WEIGHT)
            except _BREAKS:
                self._desk.drop("cut")
            finally:
                self._desk.leave(peer)

    async def _give(self, stream: Any, answer: bytes) -> None:
        with trio.move_on_after(TRANSFER_S_MAX) as giving:
            await stream.write(encode_varint_prefixed(answer))
        if giving.cancelled_caught:
            self._desk.drop("unread")


@asynccontextmanager
async def _ended(stream: Any) -> AsyncIterator[None]:
    """A stream of which nothing is left: closed where all went well, else reset, also where it is cancelled.

    The library forgets a stream when both sides closed it; whoever does not close its own is not waited for long.
    """
    try:
        yield
        await stream.close()
        with trio.move_on_after(LINGER_S_MAX), suppress(*_BREAKS):
            while await stream.read(LINGER_BYTES):
                pass
    finally:
        # Nothing, where both have closed it.
        with trio.CancelScope(shield=True), trio.move_on_after(1.0), suppress(*_BREAKS):
            await stream.reset()

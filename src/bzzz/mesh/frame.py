"""Length-prefixed frames in a stream of bytes, as pubsub sends them: a varint, then that many bytes."""

from __future__ import annotations

from typing import Protocol

from bzzz.errors import PeerError

_READ_BYTES = 65_536
_VARINT_BYTES_MAX = 10


class ByteStream(Protocol):
    """What frames are read from."""

    async def read(self, n: int) -> bytes:
        """Up to ``n`` bytes; none at the end."""
        ...


class FrameReader:
    """Splits a stream into its length-prefixed frames, reading in bulk.

    Args:
        stream: has ``async read(n) -> bytes``.
        bytes_max: a longer frame is refused before it is read.
    """

    def __init__(self, stream: ByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """The next frame.

        Raises:
            PeerError: its prefix tells more than ``bytes_max`` (``oversized``), or is none (``malformed``).
            EOFError: the stream ended.
        """
        while (frame := self._split()) is None:
            chunk = await self._stream.read(_READ_BYTES)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        return frame

    def _split(self) -> bytes | None:
        length = 0
        for at, byte in enumerate(self._buffer[:_VARINT_BYTES_MAX]):
            length |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                break
        else:
            if len(self._buffer) >= _VARINT_BYTES_MAX:
                raise PeerError("malformed", "a length prefix does not end")
            return None
        if length > self._bytes_max:
            raise PeerError("oversized", f"a frame of {length} bytes is above {self._bytes_max}")
        start, end = at + 1, at + 1 + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return frame

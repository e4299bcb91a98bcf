"""An encrypted connection of the library, read and written in bulk.

Noise sends two bytes of length and then as much ciphertext
(https://github.com/libp2p/specs/blob/master/noise/README.md). The library reads each in two calls of the kernel.
Here whatever has come is read at once and opened, and the muxer finds its frames in it.
"""

from __future__ import annotations

from typing import Any

from libp2p.io.exceptions import ConnectionClosedError

_READ_BYTES = 65_536 + 2
_LENGTH_BYTES = 2
# 65,535 with the 16 bytes of the authentication.
_PLAIN_BYTES_MAX = 65_519
# The library reads each frame in two calls; what may be read in a second is measured in such.
_READS_A_FRAME = 2


class BulkSession:
    """The library's session, after the handshake.

    Args:
        session: the library's, over a ``MeteredStream``; nothing else reads or writes it from now on.

    Attributes:
        stream: that one.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._raw = session.conn.read_writer.read_write_closer
        self.stream = self._raw.stream
        self._noise = session.conn.noise_state
        self._sealed = bytearray()
        # What came together with the end of the negotiation.
        self._plain = bytearray(session._drain(None))

    @property
    def plain(self) -> bytearray:
        """What has come and was opened; who takes from it deletes it there."""
        return self._plain

    async def fill(self) -> None:
        """Wait until more has come.

        Raises:
            ConnectionClosedError: nothing more will.
            Exception: of the library's, where the connection broke or what came is not authentic.
        """
        had = len(self._plain)
        while len(self._plain) == had:
            chunk = await self._raw.read(_READ_BYTES)
            if not chunk:
                raise ConnectionClosedError("Connection closed")
            self._sealed += chunk
            frames = self._open()
            # One read was counted for the call.
            await self.stream.pace(max(0, frames * _READS_A_FRAME - 1))

    def _open(self) -> int:
        sealed, at, frames = self._sealed, 0, 0
        while len(sealed) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            end = start + int.from_bytes(sealed[at:start], "big")
            if len(sealed) < end:
                break
            self._plain += self._noise.decrypt(bytes(sealed[start:end]))
            at = end
            frames += 1
        del sealed[:at]
        return frames

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes, at least one."""
        if n == 0:
            return b""
        if not self._plain:
            await self.fill()
        data = bytes(self._plain if n is None else self._plain[:n])
        del self._plain[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        """Encrypt and send all of ``data``, in one call of the kernel."""
        sealed = bytearray()
        for at in range(0, len(data), _PLAIN_BYTES_MAX):
            frame = self._noise.encrypt(data[at : at + _PLAIN_BYTES_MAX])
            sealed += len(frame).to_bytes(_LENGTH_BYTES, "big")
            sealed += frame
        await self._raw.write(sealed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

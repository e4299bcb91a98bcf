"""One TCP connection's bytes on their way to the library: counted, in bounded pieces, and not faster than allowed.

Before a peer is proved to be one, what it may send is bounded; afterwards what comes too fast is read later, so
that a flood of whatever kind fills the sender's window and neither our memory nor all of our time.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.io.exceptions import IOException

from bzzz.mesh.bucket import Bucket

HANDSHAKE_BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 65_536 + 2
READS_BURST_S = 4.0


class MeteredStream:
    """A byte stream of the library with bounds.

    Args:
        stream: the library's.
        reads_per_s_max: over a long time; ``READS_BURST_S`` times as many at once.
    """

    def __init__(self, stream: Any, reads_per_s_max: float) -> None:
        self._stream = stream
        self._heard_bytes = 0
        self._reads = Bucket(reads_per_s_max, reads_per_s_max * READS_BURST_S, trio.current_time())
        self.is_admitted = False

    @property
    def has_heard(self) -> bool:
        """Whether anything came."""
        return self._heard_bytes > 0

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes.

        Raises:
            IOException: too much came from whom has not proved yet to be a peer.
        """
        await self.pace(1)
        # Python allocates all that is asked for before anything has come.
        data: bytes = await self._stream.read(READ_BYTES_MAX if n is None else min(n, READ_BYTES_MAX))
        self._heard_bytes += len(data)
        if not self.is_admitted and self._heard_bytes > HANDSHAKE_BYTES_MAX:
            raise IOException(f"more than {HANDSHAKE_BYTES_MAX} bytes before the handshake was done")
        return data

    async def pace(self, reads: int) -> None:
        """Count reads, and wait until there may be so many; without a pause where there may."""
        if (wait_s := self._reads.owe(reads, trio.current_time())) > 0:
            await trio.sleep(wait_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

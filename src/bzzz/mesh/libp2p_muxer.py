"""The library's Yamux, derived: it notices silence and deafness, and bounds what one connection can hold.

https://github.com/hashicorp/yamux/blob/master/spec.md is the protocol.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import trio
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux

from bzzz.mesh.bucket import Bucket
from bzzz.mesh.settings import MeshSettings

WINDOW_BYTES_MAX = 1024 * 1024
CONNECTION_BUFFER_BYTES_MAX = 4 * 1024 * 1024
PINGS_PER_S_MAX = 10.0
PINGS_BURST = 100.0
NO_ANSWER = "no answer to pings"
DEAF = "takes nothing"
_STALL_S = 1.0
_log = logging.getLogger("bzzz.mesh")


class LiveYamux(Yamux):  # type: ignore[misc]
    """A connection with streams in it.

    12: one that notices silence; a dead host was not noticed in 75 seconds. What waits unread, the streams that
    the other side opens and the pings that it sends are bounded: the library bounds none of them.

    Args:
        settings: of this node's mesh.
        misbehaved: called with what the peer did that no honest one does, and how much of it.
    """

    def __init__(
        self, *args: Any, settings: MeshSettings, misbehaved: Callable[[str, float], None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._settings = settings
        self._misbehaved = misbehaved
        self._pings = Bucket(PINGS_PER_S_MAX, PINGS_BURST, trio.current_time())
        self._heard_at = trio.current_time()
        # Why it ended, where that was decided here.
        self.end = ""

    @property
    def buffered_bytes(self) -> int:
        """What came and was not read yet."""
        return sum(map(len, self.stream_buffers.values()))

    async def _read_data_body(self, length: int) -> bytes:
        if length > WINDOW_BYTES_MAX or self.buffered_bytes + length > CONNECTION_BUFFER_BYTES_MAX:
            # The library only warns of a peer that sends more than it was told it may.
            self._misbehaved("window", 100.0)
            raise trio.TooSlowError
        body: bytes = await super()._read_data_body(length)
        self._heard_at = trio.current_time()
        return body

    async def accept_stream(self) -> Any:
        """The next stream that the other side opens; what is beyond the bound is refused."""
        while True:
            stream = await super().accept_stream()
            opened = sum(not known.is_initiator for known in self.streams.values())
            if opened <= self._settings.streams_per_connection_max:
                return stream
            self._misbehaved("streams", 1.0)
            await stream.reset()

    async def _write_frame(self, data: bytes) -> None:
        _, kind, flags, _, _ = struct.unpack(yamux.YAMUX_HEADER_FORMAT, data[: yamux.HEADER_SIZE])
        if kind == yamux.TYPE_PING and flags & yamux.FLAG_ACK and not self._pings.take(1, trio.current_time()):
            self._misbehaved("pings", 1.0)
            return
        async with self._write_lock:
            # Whoever is cancelled meanwhile must not leave half a frame, after which there is no going on.
            deadline = trio.current_time() + self._settings.write_timeout_s
            with trio.CancelScope(deadline=deadline, shield=True) as writing:
                await self.secured_conn.write(data)
        if writing.cancelled_caught:
            # Half a frame may be out, so there is no going on.
            await self._give_up(DEAF)
            raise RawConnError("the other side takes nothing")
        await trio.lowlevel.checkpoint()

    async def _measure_rtt_loop(self) -> None:
        timeout_s = self._settings.ping_timeout_s
        while not self.event_shutting_down.is_set():
            await trio.sleep(self._settings.ping_interval_s)
            asked_at = trio.current_time()
            try:
                await self._ask()
            except Exception:
                # The connection broke while writing; its reader finds the same.
                return
            with trio.move_on_after(timeout_s) as waiting:
                await self._ping_event.wait()
            if (
                not waiting.cancelled_caught
                or self._heard_at >= asked_at
                or trio.current_time() - asked_at > timeout_s + self._settings.write_timeout_s + _STALL_S
            ):
                # It speaks, though slowly; or this process itself stood still and could not hear.
                continue
            await self._give_up(NO_ANSWER)

    async def _ask(self) -> None:
        self._ping_id += 1
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        header = (0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id & 0xFFFFFFFF)
        await self._write_frame(struct.pack(yamux.YAMUX_HEADER_FORMAT, *header))

    async def _give_up(self, why: str) -> None:
        self.end = self.end or why
        # The reader then finds the connection closed and ends it the usual way, with all its notices.
        await self.secured_conn.close()

"""The library's Yamux, derived: it notices silence and deafness, bounds what it holds, and takes plain frames.

The library handles each frame under locks and in some ten steps of its scheduler. Frames of data and of windows
that begin or end nothing, which are nearly all, are taken here as they lie in what has come; it handles the others.

https://github.com/hashicorp/yamux/blob/master/spec.md is the protocol.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import trio
from libp2p.io.utils import read_exactly
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from bzzz.mesh.bucket import Bucket
from bzzz.mesh.libp2p_session import BulkSession
from bzzz.mesh.settings import MeshSettings

WINDOW_BYTES_MAX = 1024 * 1024
CONNECTION_BUFFER_BYTES_MAX = 4 * 1024 * 1024
PINGS_PER_S_MAX = 10.0
PINGS_BURST = 100.0
NO_ANSWER = "no answer to pings"
DEAF = "takes nothing"
_STALL_S = 1.0
# As the library has them: how long to wait for the rest of a frame, and for room in the other side's window.
_BODY_S = 60.0
_WINDOW_S = 5.0
_WINDOW_POLL_S = 0.01
_HEADER = struct.Struct(yamux.YAMUX_HEADER_FORMAT)
_FRAME_BYTES_MAX = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE
_log = logging.getLogger("bzzz.mesh")


class MeshStream(YamuxStream):  # type: ignore[misc]
    """A stream of the library without its locks, which guard nothing where nothing waits in between.

    One guards what the library leaves open: what two tasks write at once does not mix.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._writing = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, as the other side's window allows.

        Raises:
            MuxedStreamError: the stream ended, or there was no room for some seconds.
        """
        await _acquire(self._writing)
        try:
            await self._write(data)
        finally:
            self._writing.release()

    async def _write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self.send_closed or self.closed:
                raise MuxedStreamError("Stream is closed for sending")
            size = min(self.send_window, _FRAME_BYTES_MAX, len(data) - at)
            if size <= 0:
                await self._room()
                continue
            self.send_window -= size
            header = _HEADER.pack(0, yamux.TYPE_DATA, 0, self.stream_id, size)
            await self.conn._write_frame(header + data[at : at + size])
            at += size

    async def _room(self) -> None:
        # Looked for every so often, as the library's own loop grants windows too, without a signal.
        deadline = trio.current_time() + _WINDOW_S
        while self.send_window <= 0 and not self.closed:
            if trio.current_time() >= deadline:
                raise MuxedStreamError("Timed out waiting for window update")
            await trio.sleep(_WINDOW_POLL_S)

    async def read(self, n: int | None = -1) -> bytes:
        """What has come, at most ``n`` bytes, waiting for some."""
        events, buffer = self.conn.stream_events, self.conn.stream_buffers.get(self.stream_id)
        while not buffer and not self.recv_closed and self.stream_id in events:
            await events[self.stream_id].wait()
            if self.stream_id in events:
                events[self.stream_id] = trio.Event()
        if not buffer or not n or self.closed:
            # The library tells the ends of streams apart.
            rest: bytes = await super().read(n)
            return rest
        data = bytes(buffer if n is None or n < 0 else buffer[:n])
        del buffer[: len(data)]
        await self._auto_tune_and_send_window_update(bytes_read=len(data))
        return data

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:  # noqa: ARG002
        """Grant the other side more when half of its window is used, as go-yamux does.

        The library answers every read with a frame that grants what was read.
        """
        buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
        if self.target_recv_window - self.recv_window - buffered < self.target_recv_window // 2:
            return
        await self.send_window_update(self._grow_to_delta(buffered) + self._apply_autotune_epoch(buffered))


async def _acquire(lock: trio.Lock) -> None:
    # To wait for a lock that is free is a step of the scheduler too.
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


class _Incoming:
    """What the library's loop reads headers from: it sees the frames alone that are not plain."""

    def __init__(self, session: BulkSession, take: Callable[[bytearray], bool]) -> None:
        self._session = session
        self._take = take

    async def read(self, n: int) -> bytes:
        """A header, or what there is of it before the end."""
        plain = self._session.plain
        while True:
            while len(plain) >= yamux.HEADER_SIZE and self._take(plain):
                pass
            if len(plain) >= yamux.HEADER_SIZE:
                return await self._session.read(n)
            await self._session.fill()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class LiveYamux(Yamux):  # type: ignore[misc]
    """A connection with streams in it.

    12: one that notices silence; a dead host was not noticed in 75 seconds. What waits unread, the streams that
    the other side opens and the pings that it sends are bounded: the library bounds none of them.

    Args:
        session: encrypted.
        settings: of this node's mesh.
        misbehaved: called with what the peer did that no honest one does, and how much of it.
    """

    def __init__(
        self,
        session: BulkSession,
        *args: Any,
        settings: MeshSettings,
        misbehaved: Callable[[str, float], None],
        **options: Any,
    ) -> None:
        super().__init__(_Incoming(session, self._take_plain), *args, **options)
        self._session = session
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

    def _take_plain(self, came: bytearray) -> bool:
        """Take the frame that ``came`` begins with, if it is plain and whole."""
        _, kind, flags, stream_id, length = _HEADER.unpack_from(came)
        if flags or kind not in (yamux.TYPE_DATA, yamux.TYPE_WINDOW_UPDATE):
            return False
        stream = self.streams.get(stream_id)
        if kind == yamux.TYPE_WINDOW_UPDATE:
            del came[: yamux.HEADER_SIZE]
            if stream is not None:
                stream.send_window += length
            return True
        end = yamux.HEADER_SIZE + length
        buffer = self.stream_buffers.get(stream_id)
        if stream is None or buffer is None or len(came) < end or not self._has_room(length):
            return False
        buffer += came[yamux.HEADER_SIZE : end]
        del came[:end]
        stream.recv_window = max(0, stream.recv_window - length)
        self.stream_events[stream_id].set()
        self._heard_at = trio.current_time()
        return True

    def _has_room(self, length: int) -> bool:
        return length <= WINDOW_BYTES_MAX and self.buffered_bytes + length <= CONNECTION_BUFFER_BYTES_MAX

    async def _read_data_body(self, length: int) -> bytes:
        if not self._has_room(length):
            # The library only warns of a peer that sends more than it was told it may.
            self._misbehaved("window", 100.0)
            raise trio.TooSlowError
        with trio.fail_after(_BODY_S):
            body: bytes = await read_exactly(self._session, length, retry_count=length)
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
        _, kind, flags, _, _ = _HEADER.unpack_from(data)
        if kind == yamux.TYPE_PING and flags & yamux.FLAG_ACK and not self._pings.take(1, trio.current_time()):
            self._misbehaved("pings", 1.0)
            return
        await _acquire(self._write_lock)
        try:
            # Whoever is cancelled meanwhile must not leave half a frame, after which there is no going on.
            deadline = trio.current_time() + self._settings.write_timeout_s
            with trio.CancelScope(deadline=deadline, shield=True) as writing:
                await self._session.write(data)
        finally:
            self._write_lock.release()
        if writing.cancelled_caught:
            # Half a frame may be out, so there is no going on.
            await self._give_up(DEAF)
            raise RawConnError("the other side takes nothing")

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
        await self._write_frame(_HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id & 0xFFFFFFFF))

    async def _give_up(self, why: str) -> None:
        self.end = self.end or why
        # The reader then finds the connection closed and ends it the usual way, with all its notices.
        await self.secured_conn.close()

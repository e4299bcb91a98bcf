"""The bounded queue between an engine, which may run in another thread, and the one reader in asyncio.

Messages beyond the bound are dropped and counted. News of peers and of the engine is worth more than
messages (claims are taken over by it), so it has room of its own, and keeps its place in the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from bzzz.errors import TransportError
from bzzz.ports import Received, TransportEvent

NOTICES_MAX = 4096
BYTES_MAX = 64 * 1024 * 1024
_READS_BEFORE_YIELD = 32


class Inbox:
    """One queue; ``put`` from any thread, ``get`` from the event loop that made it."""

    def __init__(self, messages_max: int, bytes_max: int = BYTES_MAX) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._events: deque[TransportEvent] = deque()
        self._messages = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._woken = False
        self._closed = False
        self._reads = 0
        self.received = 0
        self.dropped_messages = 0
        self.dropped_notices = 0

    def put(self, event: TransportEvent) -> None:
        """Add an event; where there is no room, count it as dropped. After ``close`` it does nothing."""
        with self._lock:
            if self._closed:
                return
            if isinstance(event, Received):
                size = len(event.payload)
                if self._messages >= self._messages_max or (self._bytes and self._bytes + size > self._bytes_max):
                    self.dropped_messages += 1
                    return
                self._messages += 1
                self._bytes += size
                self.received += 1
            elif len(self._events) - self._messages >= NOTICES_MAX:
                self.dropped_notices += 1
                return
            self._events.append(event)
            wake, self._woken = not self._woken, True
        if wake:
            self._wake()

    async def get(self) -> TransportEvent:
        """The oldest event, waiting for one.

        Raises:
            TransportError: the inbox was closed.
        """
        self._reads += 1
        if self._reads % _READS_BEFORE_YIELD == 0:
            # A flood must not keep the rest of the program from running.
            await asyncio.sleep(0)
        while True:
            with self._lock:
                if self._closed:
                    raise TransportError("the mesh was stopped; nothing more will be received")
                if self._events:
                    event = self._events.popleft()
                    if isinstance(event, Received):
                        self._messages -= 1
                        self._bytes -= len(event.payload)
                    return event
                self._woken = False
                self._ready.clear()
            await self._ready.wait()

    def close(self) -> None:
        """Let a waiting reader, and every later one, fail."""
        with self._lock:
            self._closed = True
            self._events.clear()
            self._messages = self._bytes = 0
        self._wake()

    def _wake(self) -> None:
        # Where the reader's loop is over, there is nobody to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ready.set)

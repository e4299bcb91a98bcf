"""Deadlines as data: the core asks for a tick, the shell delivers it, and tests move time by hand."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

TimerKey = tuple[Any, ...]
"""A deadline's name: its kind, then what it concerns."""


RUBBISH_MAX = 256
"""How many moved or cancelled deadlines may wait in the heap before it is built anew."""


class Timers:
    """A set of named deadlines, each name at most once.

    Setting a name again moves it. Order is by time, then by when it was set, so that the same calls give
    the same order everywhere.
    """

    def __init__(self) -> None:
        self._due: dict[TimerKey, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, TimerKey]] = []
        self._serial = 0

    def set(self, key: TimerKey, at_ms: int) -> None:
        """Let ``key`` be due at ``at_ms``, whatever was set before."""
        self._serial += 1
        self._due[key] = (at_ms, self._serial)
        heapq.heappush(self._heap, (at_ms, self._serial, key))
        if len(self._heap) > RUBBISH_MAX + 4 * len(self._due):
            self._heap = [(at_ms, serial, key) for key, (at_ms, serial) in self._due.items()]
            heapq.heapify(self._heap)

    def set_earlier(self, key: TimerKey, at_ms: int) -> None:
        """Let ``key`` be due at ``at_ms`` unless it is due sooner already."""
        known = self._due.get(key)
        if known is None or known[0] > at_ms:
            self.set(key, at_ms)

    def cancel(self, key: TimerKey) -> None:
        """Forget ``key``; one that is not set does nothing."""
        self._due.pop(key, None)

    def due_ms(self, key: TimerKey) -> int | None:
        """When ``key`` is due, if it is set."""
        known = self._due.get(key)
        return None if known is None else known[0]

    def size(self) -> int:
        """How many deadlines are kept, those included that were moved or cancelled and not yet swept."""
        return len(self._heap)

    def next_ms(self) -> int | None:
        """When the next deadline is due, if there is any."""
        while self._heap:
            at_ms, serial, key = self._heap[0]
            if self._due.get(key) == (at_ms, serial):
                return at_ms
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int) -> Iterator[TimerKey]:
        """Take out the names that are due, in order; names set meanwhile take part if they are due too."""
        while True:
            at_ms = self.next_ms()
            if at_ms is None or at_ms > now_ms:
                return
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            yield key

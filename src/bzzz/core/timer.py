"""Deadlines as data: the core asks for a tick, the shell delivers it, and tests move time by hand."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

TimerKey = tuple[Any, ...]
"""A deadline's name: its kind, then what it concerns."""


RUBBISH_MAX = 256
"""How many moved or cancelled deadlines may wait in the heap before it is built anew."""


class _Deadline:
    """One entry of the heap; ``moot`` once its name was moved, cancelled or taken."""

    __slots__ = ("at_ms", "key", "moot", "serial")

    def __init__(self, at_ms: int, serial: int, key: TimerKey) -> None:
        self.at_ms = at_ms
        self.serial = serial
        self.key = key
        self.moot = False


class Timers:
    """A set of named deadlines, each name at most once.

    Setting a name again moves it. Order is by time, then by when it was set, so that the same calls give
    the same order everywhere. That an entry of the heap is moot is written on it: names are compared only where
    they are set, for looking at what is next is the most frequent thing that a node does.
    """

    def __init__(self) -> None:
        self._due: dict[TimerKey, _Deadline] = {}
        self._heap: list[tuple[int, int, _Deadline]] = []
        self._serial = 0

    def set(self, key: TimerKey, at_ms: int) -> None:
        """Let ``key`` be due at ``at_ms``, whatever was set before."""
        self._serial += 1
        known = self._due.get(key)
        if known is not None:
            known.moot = True
        deadline = self._due[key] = _Deadline(at_ms, self._serial, key)
        heapq.heappush(self._heap, (at_ms, self._serial, deadline))
        if len(self._heap) > RUBBISH_MAX + 4 * len(self._due):
            self._heap = [(one.at_ms, one.serial, one) for one in self._due.values()]
            heapq.heapify(self._heap)

    def set_earlier(self, key: TimerKey, at_ms: int) -> None:
        """Let ``key`` be due at ``at_ms`` unless it is due sooner already."""
        known = self._due.get(key)
        if known is None or known.at_ms > at_ms:
            self.set(key, at_ms)

    def cancel(self, key: TimerKey) -> None:
        """Forget ``key``; one that is not set does nothing."""
        known = self._due.pop(key, None)
        if known is not None:
            known.moot = True

    def due_ms(self, key: TimerKey) -> int | None:
        """When ``key`` is due, if it is set."""
        known = self._due.get(key)
        return None if known is None else known.at_ms

    def size(self) -> int:
        """How many deadlines are kept, those included that were moved or cancelled and not yet swept."""
        return len(self._heap)

    def next_ms(self) -> int | None:
        """When the next deadline is due, if there is any."""
        heap = self._heap
        while heap:
            at_ms, _, deadline = heap[0]
            if not deadline.moot:
                return at_ms
            heapq.heappop(heap)
        return None

    def pop_due(self, now_ms: int) -> Iterator[TimerKey]:
        """Take out the names that are due, in order; names set meanwhile take part if they are due too."""
        while True:
            at_ms = self.next_ms()
            if at_ms is None or at_ms > now_ms:
                return
            deadline = heapq.heappop(self._heap)[2]
            deadline.moot = True
            del self._due[deadline.key]
            yield deadline.key

"""What a node tells of itself: a bounded history, and live streams that a slow reader cannot hold up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

HISTORY_EVENTS_MAX = 2_000
SUBSCRIBER_EVENTS_MAX = 500

LoggedEvent = Mapping[str, Any]


class EventLog:
    """Events with a number, a time, a kind and whatever belongs to the kind; all JSON-ready.

    Args:
        wall_s: the wall clock.
        echo: called with each event as it is logged (the console's log).
    """

    def __init__(self, wall_s: Callable[[], float], echo: Callable[[LoggedEvent], None] = lambda _: None) -> None:
        self._wall_s = wall_s
        self._echo = echo
        self._history: deque[LoggedEvent] = deque(maxlen=HISTORY_EVENTS_MAX)
        self._subscribers: set[asyncio.Queue[LoggedEvent | None]] = set()
        self._number = 0
        self.overflowed = 0

    def tell(self, kind: str, /, level: str = "info", **fields: Any) -> None:
        """Log one event. ``fields`` must not hold secrets."""
        self._number += 1
        event = {"id": self._number, "at": round(self._wall_s(), 3), "kind": kind, "level": level, **fields}
        self._history.append(event)
        self._echo(event)
        for queue in self._subscribers:
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self.overflowed += 1

    def history(self, after: int = 0) -> Sequence[LoggedEvent]:
        """The events kept whose number is above ``after``, oldest first."""
        return [event for event in self._history if event["id"] > after]

    async def follow(self, after: int = 0) -> AsyncIterator[LoggedEvent]:
        """History after ``after``, then what comes, until ``close``."""
        queue: asyncio.Queue[LoggedEvent | None] = asyncio.Queue(SUBSCRIBER_EVENTS_MAX)
        self._subscribers.add(queue)
        try:
            for event in self.history(after):
                yield event
            while (fresh := await queue.get()) is not None:
                yield fresh
        finally:
            self._subscribers.discard(queue)

    def close(self) -> None:
        """End all streams."""
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()
                self.overflowed += 1
            queue.put_nowait(None)

"""What a node tells of itself: a bounded history, and live streams that a slow reader cannot hold up.

A stream has no queue of its own: it walks through the history and waits at its end. So any number of
readers costs nothing, and one that falls behind by more than the history misses the oldest events, which
is counted and which it sees by a gap in the numbers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import islice
from typing import Any

HISTORY_EVENTS_MAX = 2_000
TEXT_CHARS_MAX = 4_000

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
        self._moved = asyncio.Event()
        self._closed = False
        self._number = 0
        self.missed = 0

    def tell(self, kind: str, /, level: str = "info", **fields: Any) -> None:
        """Log one event. ``fields`` must not hold secrets; a long text is cut."""
        self._number += 1
        told = {key: _cut(value) for key, value in fields.items()}
        event = {**told, "id": self._number, "at": round(self._wall_s(), 3), "kind": kind, "level": level}
        self._history.append(event)
        self._echo(event)
        # Whoever waits now is woken; whoever waits next waits for the next event.
        self._moved.set()
        self._moved = asyncio.Event()

    def history(self, after: int = 0) -> Sequence[LoggedEvent]:
        """The events kept whose number is above ``after``, oldest first."""
        first = self._number - len(self._history) + 1
        return list(islice(self._history, max(0, after + 1 - first), None))

    async def follow(self, after: int = 0) -> AsyncIterator[LoggedEvent]:
        """History after ``after``, then what comes, until ``close``."""
        # A number above all that were given comes from an earlier start of this node.
        last = after if after <= self._number else 0
        while True:
            moved = self._moved
            for event in self.history(last):
                if last and event["id"] > last + 1:
                    self.missed += event["id"] - last - 1
                last = event["id"]
                yield event
            if self._closed:
                if last >= self._number:
                    return
            elif last >= self._number:
                await moved.wait()

    def close(self) -> None:
        """End all streams, once they have given what there is."""
        self._closed = True
        self._moved.set()


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        return value[: TEXT_CHARS_MAX - 3] + "..."
    return value

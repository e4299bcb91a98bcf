"""Which messages were seen already: bounded in number and in time, by a clock that does not go back.

The library's own grows with whatever comes, goes by the clock on the wall, and has a thread.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

SEEN_MAX = 131_072
SEEN_S = 120.0


class SeenMessages:
    """Ids of messages, the latest ``ids_max`` of the last ``ttl_s`` seconds; in place of the library's cache."""

    def __init__(
        self, ids_max: int = SEEN_MAX, ttl_s: float = SEEN_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ids_max = ids_max
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._ids: OrderedDict[bytes, float] = OrderedDict()

    def add(self, key: bytes) -> bool:
        """Remember an id; whether it is new."""
        self._expire()
        fresh = self._ids.pop(key, None) is None
        self._ids[key] = self._now_s() + self._ttl_s
        if len(self._ids) > self._ids_max:
            self._ids.popitem(last=False)
        return fresh

    def has(self, key: bytes) -> bool:
        """Whether an id was seen; one that is seen again is remembered longer."""
        self._expire()
        if key not in self._ids:
            return False
        self.add(key)
        return True

    def length(self) -> int:
        """How many ids are remembered."""
        return len(self._ids)

    def stop(self) -> None:
        """There is nothing to stop."""

    def _expire(self) -> None:
        now_s = self._now_s()
        while self._ids:
            key, until_s = next(iter(self._ids.items()))
            if until_s > now_s:
                return
            del self._ids[key]

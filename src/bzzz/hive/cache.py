"""A small cache for answers that are dear to get: a forge's listing, a repository's claims.

For each key at most one fetch is under way, and all who ask meanwhile share it. What was fetched serves for
``ttl_s``; a failure is remembered as long, for those who would rather have something old than wait. Bounded:
the key that was used longest ago goes first, and is counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bzzz.errors import BzzzError
from bzzz.ports import Clock

V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    flight: asyncio.Task[V] | None = None
    value: V | None = None
    fetched_ms: int | None = None
    failed_ms: int | None = None
    factor: float = 1.0
    error: BzzzError | None = None


class SharedFetch(Generic[V]):
    """The cache; for one event loop.

    Args:
        clock: for ages.
        ttl_s: how long a value serves, in seconds.
        entries_max: how many keys are kept.
    """

    def __init__(self, clock: Clock, *, ttl_s: float, entries_max: int) -> None:
        self._clock = clock
        self._ttl_ms = ttl_s * 1000
        self._entries_max = entries_max
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()
        self._flights: set[asyncio.Task[V]] = set()
        self.fetched = 0
        self.failed = 0
        self.evicted = 0

    def keep_longer(self, key: str, factor: float) -> None:
        """From now on what is fetched for ``key`` serves ``factor`` times as long, until ``forget``."""
        self._entry(key).factor = factor

    async def get(self, key: str, fetch: Callable[[], Awaitable[V]]) -> V:
        """The value if it is fresh, else what ``fetch`` gives.

        Raises:
            BzzzError: as ``fetch`` does.
        """
        entry = self._entry(key)
        if entry.value is not None and self._fresh(entry.fetched_ms, entry.factor):
            return entry.value
        return await asyncio.shield(self._fly(key, entry, fetch))

    async def get_renewing(self, key: str, fetch: Callable[[], Awaitable[V]], stale_s: float) -> V:
        """As ``get``, but what is no more than ``stale_s`` past its time still serves, while a fetch renews it.

        Not where it was forgotten, and not where the last fetch failed: then the caller waits, and hears why.

        Raises:
            BzzzError: as ``fetch`` does.
        """
        entry = self._entry(key)
        at_ms, value = entry.fetched_ms, entry.value
        if value is None or at_ms is None or self._fresh(at_ms, entry.factor):
            return await self.get(key, fetch)
        past_ms = self._clock.now_ms() - at_ms - self._ttl_ms * entry.factor
        if entry.error is not None or past_ms >= stale_s * 1000:
            return await self.get(key, fetch)
        self._fly(key, entry, fetch)
        return value

    def glance(self, key: str, fetch: Callable[[], Awaitable[V]]) -> V | None:
        """What is known, however old, while a fetch renews it; ``None`` if nothing is known yet."""
        entry = self._entry(key)
        if not self._fresh(entry.fetched_ms, entry.factor) and not self._fresh(entry.failed_ms):
            self._fly(key, entry, fetch)
        return entry.value

    async def get_soon(self, key: str, fetch: Callable[[], Awaitable[V]], wait_s: float) -> V | None:
        """What is known, however old, while a fetch renews it; waits ``wait_s`` only where nothing is known.

        ``None`` if nothing is known in that time. Never raises for a failed fetch.
        """
        value, entry = self.glance(key, fetch), self._entry(key)
        if value is None and entry.flight is not None:
            await asyncio.wait({entry.flight}, timeout=wait_s)
        return entry.value

    def trouble(self, key: str) -> BzzzError | None:
        """Why the last fetch of ``key`` failed; ``None`` if it did not."""
        entry = self._entries.get(key)
        return None if entry is None else entry.error

    def last(self, key: str) -> V | None:
        """What was fetched last, however old; ``None`` if nothing was."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def forget(self, key: str) -> None:
        """What was fetched, or is being fetched now, is out of date.

        The old value still serves those who want something at once.
        """
        entry = self._entries.get(key)
        if entry is not None:
            entry.fetched_ms = entry.failed_ms = None
            entry.factor = 1.0
            entry.flight = None

    async def close(self) -> None:
        """End the fetches under way."""
        flights = tuple(self._flights)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _entry(self, key: str) -> _Entry[V]:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
            self.evicted += 1
        return entry

    def _fresh(self, at_ms: int | None, factor: float = 1.0) -> bool:
        return at_ms is not None and self._clock.now_ms() - at_ms < self._ttl_ms * factor

    def _fly(self, key: str, entry: _Entry[V], fetch: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        if entry.flight is None:
            entry.flight = asyncio.create_task(self._fetch(entry, fetch), name=f"hive fetch {key}")
            self._flights.add(entry.flight)
            entry.flight.add_done_callback(self._landed)
        return entry.flight

    async def _fetch(self, entry: _Entry[V], fetch: Callable[[], Awaitable[V]]) -> V:
        flight = asyncio.current_task()
        error: BzzzError | None = None
        self.fetched += 1
        try:
            value = await fetch()
        except BzzzError as caught:
            self.failed += 1
            error = caught
            raise
        else:
            if entry.flight is flight:  # else ``forget`` came between: it may be out of date
                entry.value, entry.fetched_ms = value, self._clock.now_ms()
            elif entry.value is None:
                entry.value = value
            return value
        finally:
            if entry.flight is flight:
                entry.flight = None
                entry.error = error
                entry.failed_ms = None if error is None else self._clock.now_ms()

    def _landed(self, flight: asyncio.Task[Any]) -> None:
        self._flights.discard(flight)
        if not flight.cancelled():
            flight.exception()  # kept in the entry; a flight that nobody waits for is not an error lost

"""Who is told when a repository changes: the nodes that keep an event stream open.

A change is a hint that saves a polling interval, so the hub may fold hints together but never loses that
something changed: a subscriber too slow for its bound gets ``EVERYTHING`` instead of what overflowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

EVERYTHING = ""
"""In place of a repository: anything may have changed."""


class Subscription:
    """One node's pending changes, each repository once; read with ``async for``."""

    def __init__(self, pending_max: int) -> None:
        self._pending: dict[str, None] = {}
        self._pending_max = pending_max
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, repository: str) -> bool:
        """Add a change; false if the bound was met and all was folded into ``EVERYTHING``."""
        fits = repository in self._pending or EVERYTHING in self._pending or len(self._pending) < self._pending_max
        if not fits:
            self._pending = {EVERYTHING: None}
        elif EVERYTHING not in self._pending:
            self._pending[repository] = None
        self._wake.set()
        return fits

    def close(self) -> None:
        """End the iteration, at once."""
        self._closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            while self._pending and not self._closed:
                repository = next(iter(self._pending))
                del self._pending[repository]
                yield repository


class ChangeHub:
    """All subscriptions; for one event loop.

    Args:
        subscribers_max: how many nodes may listen at once.
        pending_max: how many changes wait for one slow node.
    """

    def __init__(self, *, subscribers_max: int, pending_max: int) -> None:
        self._subscribers: set[Subscription] = set()
        self._subscribers_max = subscribers_max
        self._pending_max = pending_max
        self._closed = False
        self._published = 0
        self._overflowed = 0
        self._refused = 0

    @property
    def full(self) -> bool:
        """Whether one more subscriber would be too many."""
        return len(self._subscribers) >= self._subscribers_max

    def publish(self, repository: str) -> None:
        """Tell every subscriber that ``owner/name`` changed."""
        self._published += 1
        for subscription in self._subscribers:
            self._overflowed += not subscription.put(repository)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen while the context lasts; after ``close`` the iteration ends at once."""
        subscription = Subscription(self._pending_max)
        if self._closed:
            subscription.close()
        self._subscribers.add(subscription)
        try:
            yield subscription
        finally:
            self._subscribers.discard(subscription)

    def refuse(self) -> None:
        """Count a subscriber that was sent away because the hub is full."""
        self._refused += 1

    def close(self) -> None:
        """End all subscriptions, so that a server can stop without waiting for its nodes."""
        self._closed = True
        for subscription in self._subscribers:
            subscription.close()

    def counters(self) -> Mapping[str, int]:
        """Counts since start, and the subscribers there are now."""
        return {
            "subscribers": len(self._subscribers),
            "subscribers_refused": self._refused,
            "changes_published": self._published,
            "changes_overflowed": self._overflowed,
        }

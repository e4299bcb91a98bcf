"""Writes that arrive together, in one transaction: a database commits a hundred rows as soon as one.

While a write is under way the next ones gather, and go together when it ends; so an idle Hive writes at once, and a
busy one commits no oftener than its disk allows. Whoever asked is answered only when the transaction that holds the
item has ended. A batch that one item spoils is written item by item, so that the blame meets that item alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bzzz.errors import ServiceUnavailable

ITEMS_MAX = 200
WAITING_MAX = 10_000

T = TypeVar("T")
R = TypeVar("R")

_AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""The database itself: what failed for all would fail for each."""


class Batch(Generic[T, R]):
    """Gathers items for one kind of write; for one event loop.

    Args:
        name: of what is written, for people.
        write: writes items in one transaction and gives one result for each, in their order; called in a thread.
        items_max: how many go into one transaction.
        waiting_max: how many may wait; above that they are refused and counted.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[T]], Sequence[R]],
        *,
        items_max: int = ITEMS_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._name = name
        self._write = write
        self._items_max = items_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._flight: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter(dict.fromkeys(("batches", "batched", "batch_refused"), 0))

    def counters(self) -> dict[str, int]:
        """Counts since start: transactions, items in them, items refused because too many waited."""
        return {f"{self._name}_{key}": count for key, count in self._counts.items()}

    async def put(self, item: T) -> R:
        """Write one item with whatever else is waiting; gives its result once the transaction has ended.

        Raises:
            ServiceUnavailable: too many wait already.
            Exception: as ``write`` does.
        """
        if len(self._waiting) >= self._waiting_max:
            self._counts["batch_refused"] += 1
            raise ServiceUnavailable("Hive", f"storing {self._name}", f"{self._waiting_max} wait already")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly(), name=f"hive {self._name}")
        return await future

    async def close(self) -> None:
        """Write what waits."""
        if self._flight is not None:
            await asyncio.gather(self._flight, return_exceptions=True)

    async def _fly(self) -> None:
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self._items_max, len(self._waiting)))]
                await self._write_all(taken)
        finally:
            self._flight = None

    async def _write_all(self, taken: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        self._counts["batches"] += 1
        self._counts["batched"] += len(taken)
        try:
            results = await run_in_threadpool(self._write, [item for item, _ in taken])
        except Exception as error:
            if len(taken) > 1 and not isinstance(error, _AWAY):
                for one in taken:
                    await self._write_all([one])
                return
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(taken, results, strict=True):
            # Who asked may be gone; what was asked is done all the same.
            if not future.done():
                future.set_result(result)

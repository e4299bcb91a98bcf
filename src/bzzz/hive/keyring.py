"""Whose key is it: keys from the key file, and from the database, remembered for a moment.

A key that was made or revoked in the database by another process is known here within ``REMEMBERED_S``; one that
was made or revoked through this Hive is known at once. The keys themselves are kept nowhere, only their digests.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from bzzz.hive.key import Caller, Role, digest
from bzzz.hive.key_store import KeyStore
from bzzz.ports import Clock

REMEMBERED_S = 5.0
REMEMBERED_MAX = 10_000
USE_NOTED_S = 60.0


@dataclass(slots=True)
class _Known:
    caller: Caller | None
    key_id: int
    asked_ms: int
    noted_ms: int


class Keyring:
    """The keys of one Hive; for one event loop.

    Args:
        store: the keys in the database.
        clock: for how long an answer is remembered.
        file_keys: keys of the key file, with their roles.
    """

    def __init__(self, store: KeyStore, clock: Clock, file_keys: Mapping[str, Role]) -> None:
        self._store = store
        self._clock = clock
        self._file = {
            digest(key): Caller(f"key file, key {number}", role)
            for number, (key, role) in enumerate(file_keys.items(), 1)
        }
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._any: tuple[bool, int] | None = None
        self._noting: set[asyncio.Task[None]] = set()

    async def in_use(self) -> bool:
        """Whether a key is asked for at all.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        if self._file:
            return True
        now_ms = self._clock.now_ms()
        # A Hive that has keys keeps having them; one that has none may get its first from another process.
        if self._any is None or (not self._any[0] and now_ms - self._any[1] >= REMEMBERED_S * 1000):
            self._any = (await run_in_threadpool(self._store.any), now_ms)
        return self._any[0]

    async def find(self, key: str) -> Caller | None:
        """Whose key this is; ``None`` for an unknown or revoked one.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        key_digest = digest(key)
        if key_digest in self._file:
            return self._file[key_digest]
        now_ms = self._clock.now_ms()
        known = self._known.get(key_digest)
        if known is None or now_ms - known.asked_ms >= REMEMBERED_S * 1000:
            info = await run_in_threadpool(self._store.find, key_digest)
            caller = None if info is None else Caller(info.name, info.role)
            noted_ms = known.noted_ms if known is not None else now_ms - int(USE_NOTED_S * 1000)
            known = _Known(caller, 0 if info is None else info.id, now_ms, noted_ms)
            self._known[key_digest] = known
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(key_digest)
        if known.caller is not None and now_ms - known.noted_ms >= USE_NOTED_S * 1000:
            known.noted_ms = now_ms
            self._note(known.key_id)
        return known.caller

    def forget(self) -> None:
        """Keys were made or revoked here: ask the database anew."""
        self._known.clear()
        self._any = None

    async def close(self) -> None:
        """Finish writing down which keys were used."""
        await asyncio.gather(*self._noting, return_exceptions=True)

    def _note(self, key_id: int) -> None:
        async def note() -> None:
            await run_in_threadpool(self._store.note_use, key_id)

        task = asyncio.create_task(note(), name="hive key use")
        self._noting.add(task)
        task.add_done_callback(self._noted)

    def _noted(self, task: asyncio.Task[None]) -> None:
        self._noting.discard(task)
        if not task.cancelled():
            task.exception()  # only a time that people read is lost

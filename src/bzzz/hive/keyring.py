"""Whose key it is: keys from the key file, and from the database, all of them read together now and then.

A key that was made or revoked in the database by another process is known here within ``READ_AGAIN_S``; one that
was made or revoked through this Hive is known at once. The keys themselves are kept nowhere, only their digests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi.concurrency import run_in_threadpool

from bzzz.hive.key import Caller, KeyInfo, Role, digest
from bzzz.hive.key_store import KeyStore
from bzzz.ports import Clock

READ_AGAIN_S = 5.0
USE_NOTED_S = 60.0


class Keyring:
    """The keys of one Hive; for one event loop.

    Args:
        store: the keys in the database.
        clock: for how long what was read serves, and how often use is written down.
        file_keys: keys of the key file, with their roles.
    """

    def __init__(self, store: KeyStore, clock: Clock, file_keys: Mapping[str, Role]) -> None:
        self._store = store
        self._clock = clock
        self._file = {
            digest(key): Caller(f"key file, key {number}", role)
            for number, (key, role) in enumerate(file_keys.items(), 1)
        }
        self._known: Mapping[str, tuple[int, Caller]] = {}
        self._any = False
        self._read_ms: int | None = None
        self._reading: asyncio.Task[None] | None = None
        self._used: dict[int, None] = {}
        self._noted_ms = clock.now_ms() - int(USE_NOTED_S * 1000)
        self._noting: asyncio.Task[None] | None = None

    async def in_use(self) -> bool:
        """Whether a key is asked for at all.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        if self._file:
            return True
        await self._fresh()
        return self._any

    async def find(self, key: str) -> Caller | None:
        """Whose key this is; ``None`` for an unknown or revoked one.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        key_digest = digest(key)
        if key_digest in self._file:
            return self._file[key_digest]
        await self._fresh()
        found = self._known.get(key_digest)
        if found is None:
            return None
        number, caller = found
        self._used[number] = None
        self._note()
        return caller

    def forget(self) -> None:
        """Keys were made or revoked here: ask the database anew."""
        self._read_ms = None
        self._reading = None

    async def close(self) -> None:
        """Finish writing down which keys were used."""
        if self._noting is not None:
            await asyncio.gather(self._noting, return_exceptions=True)

    async def _fresh(self) -> None:
        # Not the other way round: what was read is as old as the moment when reading began.
        while self._read_ms is None or self._clock.now_ms() - self._read_ms >= READ_AGAIN_S * 1000:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(), name="hive keys")
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        own, began_ms = asyncio.current_task(), self._clock.now_ms()
        try:
            keys = await run_in_threadpool(self._store.in_force)
            some = bool(keys) or await run_in_threadpool(self._store.any)
            if self._reading is own:  # else ``forget`` came between
                self._known = {key_digest: _caller(info) for key_digest, info in keys.items()}
                self._any, self._read_ms = some, began_ms
        finally:
            if self._reading is own:
                self._reading = None

    def _note(self) -> None:
        """Write down, now and then, which keys were used."""
        if self._noting is not None or self._clock.now_ms() - self._noted_ms < USE_NOTED_S * 1000:
            return
        used, self._used = tuple(self._used), {}
        self._noted_ms = self._clock.now_ms()
        self._noting = asyncio.create_task(run_in_threadpool(self._store.note_use, used), name="hive key use")
        self._noting.add_done_callback(self._noted)

    def _noted(self, task: asyncio.Task[None]) -> None:
        self._noting = None
        if not task.cancelled():
            task.exception()  # only a time that people read is lost


def _caller(info: KeyInfo) -> tuple[int, Caller]:
    return info.id, Caller(info.name, info.role)

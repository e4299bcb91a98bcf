"""Carries queued webhook deliveries to their receivers: signed, in order for each hook, and never in a hurry's way.

One slow or dead receiver delays nobody but itself. A delivery counts as made when it is answered 2xx; else
it is tried again with a doubling pause, and after ``webhook_attempts_max`` tries it is dropped and counted.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable

import httpx

from bzzz.forge.embedded import hook
from bzzz.forge.embedded.setting import EmbeddedForgeSettings
from bzzz.forge.embedded.store import Store

log = logging.getLogger(__name__)

DELIVERIES_AT_ONCE_MAX = 16
USER_AGENT = "GitHub-Hookshot/bzzz"


def headers(delivery: sqlite3.Row) -> dict[str, str]:
    """What a delivery is sent with: GitHub's headers, and the signature over its exact bytes."""
    found = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-GitHub-Event": delivery["event"],
        "X-GitHub-Delivery": delivery["guid"],
        "X-GitHub-Hook-ID": str(delivery["hook_id"]),
    }
    if delivery["secret"]:
        digest = hmac.new(delivery["secret"].encode(), delivery["payload"], hashlib.sha256).hexdigest()
        found["X-Hub-Signature-256"] = f"sha256={digest}"
    return found


class Courier:
    """Delivers for one forge; ``wake`` may be called from any thread."""

    def __init__(
        self, settings: EmbeddedForgeSettings, store: Store, wall_s: Callable[[], float], counts: Counter[str]
    ) -> None:
        self._settings = settings
        self._store = store
        self._wall_s = wall_s
        self._counts = counts
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was queued."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Deliver until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        client = httpx.AsyncClient(
            timeout=self._settings.webhook_timeout_s, follow_redirects=False, trust_env=False
        )
        async with client:
            try:
                while True:
                    await self._dispatch(client)
                    await self._rest()
            finally:
                self._loop = None
                tasks = list(self._busy.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._settings.webhook_poll_s):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _dispatch(self, client: httpx.AsyncClient) -> None:
        room = DELIVERIES_AT_ONCE_MAX - len(self._busy)
        if room <= 0:
            return
        for delivery in await asyncio.to_thread(self._due, list(self._busy), room):
            hook_id = delivery["hook_id"]
            task = asyncio.create_task(self._deliver(client, delivery))
            self._busy[hook_id] = task
            task.add_done_callback(functools.partial(self._done, hook_id))

    def _done(self, hook_id: int, _task: asyncio.Task[None]) -> None:
        self._busy.pop(hook_id, None)
        self._woken.set()

    def _due(self, busy: list[int], room: int) -> list[sqlite3.Row]:
        with self._store.read() as db:
            return hook.due(db, self._wall_s(), busy, room)

    async def _deliver(self, client: httpx.AsyncClient, delivery: sqlite3.Row) -> None:
        status, error = None, ""
        try:
            async with (
                asyncio.timeout(self._settings.webhook_timeout_s),
                client.stream(
                    "POST", delivery["url"], content=delivery["payload"], headers=headers(delivery)
                ) as answer,
            ):
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as problem:
            error = f"{type(problem).__name__}: {problem}"[:300]
        delivered = status is not None and 200 <= status < 300
        attempts = delivery["attempts"] + 1
        retry = not delivered and attempts < self._settings.webhook_attempts_max
        pause_s = self._settings.webhook_backoff_s * 2 ** (attempts - 1)
        self._counts[
            "webhooks_delivered" if delivered else "webhooks_retried" if retry else "webhooks_dropped"
        ] += 1
        if not delivered and not retry:
            log.warning("gave up a %s webhook to %s: %s", delivery["event"], delivery["url"], error or status)
        retry_at_s = self._wall_s() + pause_s if retry else None
        await asyncio.to_thread(self._settle, delivery, delivered, status, error, retry_at_s)

    def _settle(
        self, delivery: sqlite3.Row, delivered: bool, status: int | None, error: str, retry_at_s: float | None
    ) -> None:
        with self._store.write() as db:
            hook.settle(db, delivery, delivered=delivered, status=status, error=error, retry_at_s=retry_at_s)

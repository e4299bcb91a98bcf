"""The ``Hive`` port over HTTP: how a node discovers repositories, reports tasks and hears of changes.

Polling, reporting and listening fail independently and each failure is one ``ServiceError``; what a node does
without Hive is the node's decision. The event stream is read by one task of this client, so that a caller
may give up waiting (and ask again) without losing the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from bzzz.core.task import Repository
from bzzz.errors import ServiceConflict, ServiceError, ServiceLimited, ServiceNonsense, ServiceUnavailable
from bzzz.hive.answer import read_repositories
from bzzz.hive.link import HiveLink
from bzzz.hive.stream import EventReader, StreamEvent
from bzzz.ports import Clock

PENDING_CHANGES_MAX = 1000
RECONNECT_S_MIN = 0.5
RECONNECT_S_MAX = 60.0
STABLE_S_MIN = 10.0
REPOSITORY_CHARACTERS_MAX = 201
EVERYTHING = ""

_EVENTS = "/api/bzzz/events"
_LOG = logging.getLogger("bzzz.hive.client")


class HttpHive:
    """One Hive, over HTTP.

    Args:
        base_url: where it is.
        key: the API key, or ``None``.
        clock: for a ``Retry-After`` that is a date.
        sleep: waits between reconnections; injected for tests.
        jitter: a number from 0 to 1 that spreads reconnections of many nodes.
        link: how it is reached; made from the first three where it is not given.

    Raises:
        SettingError: ``base_url`` is no http or https URL, or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        link: HiveLink | None = None,
    ) -> None:
        self._link = link or HiveLink(base_url, key, clock)
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._counts: Counter[str] = Counter()
        self._pending: dict[str, None] = {}
        self._failure: ServiceError | None = None
        self._wake = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    async def active_repositories(self) -> Sequence[Repository]:
        """Repositories that agents may work on now; broken entries are left out, said and counted.

        Raises:
            ServiceError: any of its kinds.
        """
        path = "/api/bzzz/active-repos"
        asked = self._link.asked(f"GET {path}")
        found, skipped = read_repositories(asked, await self._ask("GET", path))
        self._counts["repositories_skipped"] += len(skipped)
        if skipped:
            _LOG.warning("%s: %d repositories left out: %s", asked.service, len(skipped), "; ".join(skipped[:3]))
        return found

    async def report_status(
        self, repository: Repository, number: int, status: str, metadata: Mapping[str, Any]
    ) -> None:
        """Tell what became of a task. The same report may be sent again and counts once.

        Raises:
            ServiceError: any of its kinds.
        """
        body = {"task_number": number, "status": status, "metadata": dict(metadata)}
        await self._tell("PUT", f"/api/bzzz/projects/{repository.project_id}/status", body, "report")

    async def capture(self, kind: str, repository: Repository, number: int, body: Mapping[str, Any]) -> None:
        """Hand over what was done for a task. The same item may be sent again and counts once.

        Raises:
            ServiceError: any of its kinds.
        """
        path = f"/api/bzzz/projects/{repository.project_id}/{kind}"
        await self._tell("POST", path, {**body, "task_number": number}, "item")

    async def changes(self) -> str:
        """Wait for the next change; ``owner/name``, or empty if anything may have changed.

        After a failure the stream is opened again, after a growing, jittered pause; the failure itself is
        raised here once.

        Raises:
            ServiceError: any of its kinds; ``ServiceUnavailable`` also once this client is closed.
        """
        if self._closed:
            raise ServiceUnavailable(self._link.service, f"GET {_EVENTS}", "this client is closed")
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="hive changes")
            self._listener.add_done_callback(self._ended)
        while not self._pending and self._failure is None:
            self._wake.clear()
            await self._wake.wait()
        if self._pending:
            repository = next(iter(self._pending))
            del self._pending[repository]
            return repository
        failure, self._failure = self._failure, None
        assert failure is not None  # noqa: S101 - the loop above ends on one of the two
        raise failure

    def counters(self) -> Mapping[str, int]:
        """Counts since start: calls, errors, skipped repositories, stream openings, overflow."""
        return dict(self._counts)

    async def close(self) -> None:
        """Release connections; a waiting ``changes`` raises. A second call does nothing."""
        self._closed = True
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        self._pending.clear()
        self._fail(ServiceUnavailable(self._link.service, f"GET {_EVENTS}", "this client is closed"))
        await self._link.close()

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        self._counts["calls"] += 1
        try:
            return await self._link.ask(method, path, body)
        except ServiceError:
            self._counts["errors"] += 1
            raise

    async def _tell(self, method: str, path: str, body: Mapping[str, Any], what: str) -> None:
        answer = await self._ask(method, path, body)
        if not isinstance(answer, dict) or answer.get("success") is not True:
            asked = self._link.asked(f"{method} {path}")
            raise ServiceConflict(asked.service, asked.what, f"it does not say that it stored the {what}")

    async def _listen(self) -> None:
        failures = 0
        while True:
            opened_ms: int | None = None
            error: ServiceError | None = None
            ready = False
            try:
                reader = EventReader()
                async with aclosing(self._link.stream(_EVENTS)) as chunks:
                    async for chunk in chunks:
                        if opened_ms is None:
                            opened_ms = self._clock.now_ms()
                            self._counts["streams_opened"] += 1
                        for event in reader.feed(chunk):
                            if not ready:
                                # Only now does Hive promise that no later change is missed.
                                ready, self._failure = True, None
                                self._put(EVERYTHING)
                            self._take(event)
            except ServiceError as caught:
                error = caught
            except ValueError as caught:
                error = ServiceNonsense(self._link.service, f"GET {_EVENTS}", str(caught))
            lasted_ms = 0 if opened_ms is None else self._clock.now_ms() - opened_ms
            failures = 1 if lasted_ms >= STABLE_S_MIN * 1000 else failures + 1
            if error is not None:
                self._counts["stream_errors"] += 1
                if not ready or isinstance(error, ServiceNonsense):
                    self._fail(error)
            await self._sleep(reconnect_s(failures, error) * (0.5 + self._jitter()))

    def _ended(self, listener: asyncio.Task[None]) -> None:
        if not listener.cancelled() and listener.exception() is not None:
            # Nothing is known to end it; should it happen, the caller hears of it and the next call restarts it.
            what = f"GET {_EVENTS}"
            self._listener = None
            self._fail(ServiceUnavailable(self._link.service, what, repr(listener.exception())))

    def _take(self, event: StreamEvent) -> None:
        if event.name != "change":
            return
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            value = None
        repository = value.get("repository") if isinstance(value, dict) else None
        if isinstance(repository, str) and len(repository) <= REPOSITORY_CHARACTERS_MAX:
            self._put(repository)
        else:
            self._counts["stream_nonsense"] += 1

    def _put(self, repository: str) -> None:
        if repository not in self._pending and len(self._pending) >= PENDING_CHANGES_MAX:
            self._counts["changes_overflowed"] += 1
            self._pending = {EVERYTHING: None}
        elif repository == EVERYTHING:
            self._pending = {EVERYTHING: None}
        elif EVERYTHING not in self._pending:
            self._pending[repository] = None
        self._wake.set()

    def _fail(self, error: ServiceError) -> None:
        self._failure = error
        self._wake.set()


def reconnect_s(failures: int, error: ServiceError | None) -> float:
    """Seconds to wait after the n-th failure in a row: doubling to a bound, or as long as Hive asks."""
    pause_s = min(RECONNECT_S_MIN * 2.0 ** min(failures - 1, 16), RECONNECT_S_MAX)
    if isinstance(error, ServiceLimited) and error.retry_after_s is not None:
        return max(pause_s, error.retry_after_s)
    return pause_s

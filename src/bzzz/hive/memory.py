"""A ``Hive`` in memory, for the simulator and for tests of what uses one.

It keeps the port's promises without a network: changes coalesce, reports are idempotent, and ``away`` makes
every call fail as a Hive that does not answer would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bzzz.core.task import Repository
from bzzz.errors import ServiceConflict, ServiceError, ServiceMissing, ServiceUnavailable

CAPTURES = frozenset({"submit-work", "create-pr", "log-prompt"})
STATUSES = frozenset({"in_progress", "completed", "failed", "escalated"})


@dataclass(frozen=True, slots=True)
class Report:
    """One report that was taken."""

    repository: str
    number: int
    status: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Captured:
    """One item that was handed over."""

    kind: str
    repository: str
    number: int
    body: Mapping[str, Any]


class MemoryHive:
    """Repositories and reports in this process.

    Args:
        repositories: what is active at first.
    """

    def __init__(self, repositories: Iterable[Repository] = ()) -> None:
        self._repositories = {repository.key: repository for repository in repositories}
        self._reports: dict[str, Report] = {}
        self._captures: dict[str, Captured] = {}
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._away: ServiceError | None = None
        self._opened = False
        self._closed = False

    @property
    def reports(self) -> Sequence[Report]:
        """Every report once, oldest first."""
        return tuple(self._reports.values())

    @property
    def captures(self) -> Sequence[Captured]:
        """Every captured item once, oldest first."""
        return tuple(self._captures.values())

    def put(self, repository: Repository) -> None:
        """Add or change an active repository."""
        self._repositories[repository.key] = repository
        self.change(repository.key)

    def remove(self, key: str) -> None:
        """Take ``owner/name`` out of the active ones."""
        self._repositories.pop(key, None)
        self.change(key)

    def change(self, key: str) -> None:
        """Tell listeners that ``owner/name`` changed; before the stream is open nobody hears it."""
        if self._opened:
            self._pending[key] = None
            self._wake.set()

    def away(self, error: ServiceError | None = None) -> None:
        """From now on every call fails, and the stream is cut."""
        self._away = error or ServiceUnavailable("Hive in memory", "any call", "it is away")
        self._opened = False
        self._pending.clear()
        self._wake.set()

    def back(self) -> None:
        """It answers again."""
        self._away = None

    async def active_repositories(self) -> Sequence[Repository]:
        """See the port."""
        self._check("list repositories")
        return tuple(self._repositories.values())

    async def report_status(
        self, repository: Repository, number: int, status: str, metadata: Mapping[str, Any]
    ) -> None:
        """See the port."""
        self._check("report a status")
        if status not in STATUSES:
            raise ServiceConflict("Hive in memory", "report a status", f"{status!r} is not a status", 422)
        if repository.key not in self._repositories:
            raise ServiceMissing("Hive in memory", "report a status", f"no project {repository.key}", 404)
        report = Report(repository.key, number, status, dict(metadata))
        same = json.dumps([report.repository, number, status, report.metadata], sort_keys=True)
        self._reports.setdefault(same, report)

    async def capture(self, kind: str, repository: Repository, number: int, body: Mapping[str, Any]) -> None:
        """See the port."""
        self._check("capture an item")
        if kind not in CAPTURES or repository.key not in self._repositories:
            raise ServiceMissing("Hive in memory", "capture an item", f"no {kind} for {repository.key}", 404)
        item = Captured(kind, repository.key, number, dict(body))
        same = json.dumps([kind, item.repository, number, item.body], sort_keys=True)
        self._captures.setdefault(same, item)

    async def changes(self) -> str:
        """See the port."""
        self._check("listen for changes")
        if not self._opened:
            self._opened = True
            self._pending.clear()
            return ""
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
            self._check("listen for changes")
        key = next(iter(self._pending))
        del self._pending[key]
        return key

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        self._wake.set()

    def _check(self, what: str) -> None:
        if self._closed:
            raise ServiceUnavailable("Hive in memory", what, "this client is closed")
        if self._away is not None:
            raise self._away

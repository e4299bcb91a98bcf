"""The task board: a project's open issues, as the forge tells them, joined with its claims from the ledger.

It reads and never decides: whether a task is free is known only when its claim ref is taken. Listings are
shared and kept for a moment, so that polling nodes do not cost a forge call each.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bzzz.core.record import Observation, RecordState
from bzzz.core.task import Issue, Repository, TaskType
from bzzz.errors import BzzzError
from bzzz.hive.cache import SharedFetch
from bzzz.hive.project import Project
from bzzz.hive.setting import HiveSettings
from bzzz.ports import Clock, Forge, Ledger

Classifier = Callable[[Sequence[str], str, str], TaskType]
"""The task type from labels, then title, then body."""

DEPENDENCIES_MAX = 50

_DEPENDENCY = re.compile(
    r"(?:depends on|blocked by)\s+(?:(?P<repository>[\w.-]{1,100}/[\w.-]{1,100}))?#(?P<number>\d{1,9})\b",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class BoardTask:
    """One open issue and what stands in the ledger for it."""

    issue: Issue
    task_type: TaskType
    dependencies: tuple[str, ...]
    standing: Observation | None

    @property
    def is_claimed(self) -> bool:
        """Whether it is anybody's: held, delivered or waiting for a person."""
        return self.standing is not None and self.standing.record.state is not RecordState.RELEASED


class TaskBoard:
    """Reads tasks for the routes.

    Args:
        forge: where the issues are.
        ledger: where the claims are.
        classify: the product's one classifier of tasks.
        clock: for the ages of listings.
        settings: label and bounds.
    """

    def __init__(
        self, forge: Forge, ledger: Ledger, classify: Classifier, clock: Clock, settings: HiveSettings
    ) -> None:
        self._forge = forge
        self._ledger = ledger
        self._classify = classify
        self._settings = settings
        kept = settings.repositories_cached_max
        self._issues = SharedFetch[tuple[Issue, ...]](clock, ttl_s=settings.listing_ttl_s, entries_max=kept)
        self._claims = SharedFetch[Mapping[int, Observation]](clock, ttl_s=settings.claims_ttl_s, entries_max=kept)
        self._forge_slots = asyncio.Semaphore(settings.forge_parallel_max)

    async def tasks(self, project: Project) -> Sequence[BoardTask]:
        """All open tasks of a project, by number.

        Raises:
            ValueError: the project has a ``problem``.
            ServiceError: the forge or the git server fails.
            LedgerError: the claims cannot be read.
        """
        repository = project.to_repository()
        cache_key = _cache_key(repository)
        issues, claims = await asyncio.gather(
            self._issues.get(cache_key, lambda: self._list(project)),
            self._claims.get(cache_key, lambda: self._ledger.list(repository)),
        )
        return [self._task(repository, issue, claims) for issue in sorted(issues, key=lambda one: one.number)]

    async def ready(self, project: Project) -> bool | None:
        """Whether a project has open tasks; ``None`` where that is not known soon enough."""
        if project.problem:
            return False
        repository = project.to_repository()
        known = await self._issues.get_soon(
            _cache_key(repository), lambda: self._list(project), self._settings.ready_wait_s
        )
        return None if known is None else bool(known)

    def trouble(self, repository: Repository) -> BzzzError | None:
        """Why the last listing failed."""
        return self._issues.trouble(_cache_key(repository))

    def forget(self, repository: Repository) -> None:
        """Something changed there: list it anew when it is next asked for."""
        self._issues.forget(_cache_key(repository))
        self._claims.forget(_cache_key(repository))

    def counters(self) -> Mapping[str, int]:
        """Counts since start: listings and claim readings, failures, evictions."""
        return {
            "listings": self._issues.fetched,
            "listings_failed": self._issues.failed,
            "claim_readings": self._claims.fetched,
            "claim_readings_failed": self._claims.failed,
            "cache_evicted": self._issues.evicted + self._claims.evicted,
        }

    async def close(self) -> None:
        """End readings under way."""
        await self._issues.close()
        await self._claims.close()

    async def _list(self, project: Project) -> tuple[Issue, ...]:
        label = project.label(self._settings.task_label)
        async with self._forge_slots:
            return (await self._forge.list_issues(project.to_repository(), label)).issues

    def _task(self, repository: Repository, issue: Issue, claims: Mapping[int, Observation]) -> BoardTask:
        return BoardTask(
            issue=issue,
            task_type=self._classify(issue.labels, issue.title, issue.body),
            dependencies=find_dependencies(repository.key, issue.body),
            standing=claims.get(issue.number),
        )


def find_dependencies(repository: str, body: str) -> tuple[str, ...]:
    """Tasks that a body says it depends on or is blocked by, as ``owner/name#number``, each once."""
    found = dict.fromkeys(
        f"{match['repository'] or repository}#{int(match['number'])}" for match in _DEPENDENCY.finditer(body)
    )
    return tuple(found)[:DEPENDENCIES_MAX]


def _cache_key(repository: Repository) -> str:
    return f"{repository.api_url} {repository.key}"

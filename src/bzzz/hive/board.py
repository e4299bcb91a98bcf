"""The task board: a project's open issues, as the forge tells them, joined with its claims from the ledger.

It reads and never decides: whether a task is free is known only when its claim ref is taken. Listings are
shared and kept for a moment, so that polling nodes do not cost a forge call each.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
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
UNCHANGED_DOUBLINGS_MAX = 3
"""What stays the same serves up to 8 times ``listing_ttl_s``: four minutes, about as a node's watcher waits."""
CLAIMS_DOUBLINGS_MAX = 2
"""Claims that stay the same are read up to 4 times more seldom: each reading is a process of git's, for a hint."""
SPREAD = 0.25
"""Listings serve up to this share longer, each repository its own: so those of one moment do not end in one."""

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
        self._unchanged: dict[str, int] = {}
        self._claims_unchanged: dict[str, int] = {}
        self._forge_slots = asyncio.Semaphore(settings.forge_parallel_max)

    async def tasks(self, project: Project) -> Sequence[BoardTask]:
        """All open tasks of a project, by number.

        Raises:
            ValueError: the project has a ``problem``.
            ServiceError: the forge or the git server fails.
            LedgerError: the claims cannot be read.
        """
        issues, claims = await self.snapshot(project)
        return [self.task(project, issue, claims.get(issue.number)) for issue in issues]

    async def snapshot(self, project: Project) -> tuple[Sequence[Issue], Mapping[int, Observation]]:
        """What ``tasks`` is made of: open issues by number, and the claims.

        Raises:
            ValueError, ServiceError, LedgerError: as for ``tasks``.
        """
        repository = project.to_repository()
        cache_key = _cache_key(repository)
        return await asyncio.gather(
            self._issues.get(cache_key, lambda: self._list(project)),
            self._claims.get(cache_key, lambda: self._list_claims(repository)),
        )

    def task(self, project: Project, issue: Issue, standing: Observation | None) -> BoardTask:
        """One issue as a task."""
        return BoardTask(
            issue=issue,
            task_type=self._classify(issue.labels, issue.title, issue.body),
            dependencies=find_dependencies(project.key, issue.body),
            standing=standing,
        )

    def ready_now(self, project: Project) -> bool | None:
        """As ``ready``, but what is known at once; a listing that is due begins."""
        if project.problem:
            return False
        known = self._issues.glance(_cache_key(project.to_repository()), lambda: self._list(project))
        return None if known is None else bool(known)

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
        self._unchanged.pop(_cache_key(repository), None)
        self._claims_unchanged.pop(_cache_key(repository), None)
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

    async def _list_claims(self, repository: Repository) -> Mapping[int, Observation]:
        key = _cache_key(repository)
        claims, before = await self._ledger.list(repository), self._claims.last(key)
        times = self._claims_unchanged.get(key, -1) + 1 if claims == before else 0
        self._claims_unchanged[key] = min(times, CLAIMS_DOUBLINGS_MAX)
        self._claims.keep_longer(key, 2.0 ** self._claims_unchanged[key] * _spread(key))
        # The very object, so that who made a page from it sees at once that nothing changed.
        return claims if before is None or claims != before else before

    async def _list(self, project: Project) -> tuple[Issue, ...]:
        first, *others = project.labels(self._settings.task_label)
        repository = project.to_repository()
        key = _cache_key(repository)
        async with self._forge_slots:
            listing = await self._forge.list_issues(repository, first)
        # As the nodes' watchers do: what stays as it is is looked at more and more seldom, and a webhook wakes.
        times = self._unchanged.get(key, 0) + 1 if listing.unchanged else 0
        self._unchanged[key] = min(times, UNCHANGED_DOUBLINGS_MAX)
        self._issues.keep_longer(key, 2.0 ** self._unchanged[key] * _spread(key))
        tasks = (issue for issue in listing.issues if carries(issue, others))
        found, before = tuple(sorted(tasks, key=lambda one: one.number)), self._issues.last(key)
        return found if before is None or found != before else before


def carries(issue: Issue, labels: Iterable[str]) -> bool:
    """Whether an issue has all of these labels; forges do not tell their letters' case apart."""
    return {label.lower() for label in labels} <= {label.lower() for label in issue.labels}


def find_dependencies(repository: str, body: str) -> tuple[str, ...]:
    """Tasks that a body says it depends on or is blocked by, as ``owner/name#number``, each once."""
    found = dict.fromkeys(
        f"{match['repository'] or repository}#{int(match['number'])}" for match in _DEPENDENCY.finditer(body)
    )
    return tuple(found)[:DEPENDENCIES_MAX]


def _spread(key: str) -> float:
    return 1.0 + SPREAD * (zlib.crc32(key.encode()) % 1000) / 1000


def _cache_key(repository: Repository) -> str:
    return f"{repository.api_url} {repository.key}"

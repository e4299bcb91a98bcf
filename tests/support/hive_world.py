"""A forge and a ledger in memory, just large enough for Hive's tests, with failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bzzz.core.record import ClaimRecord, Observation, Version
from bzzz.core.task import Comment, Issue, Pull, Repository
from bzzz.errors import BzzzError, ServiceConflict, ServiceMissing
from bzzz.ports import IssueListing, SwapResult, Work


def issue(number: int, title: str = "Cart total is wrong", **fields: object) -> Issue:
    """An open task issue."""
    made = Issue(
        number=number,
        title=title,
        body="",
        state="open",
        labels=("bzzz-task", "bug"),
        assignees=(),
        author="ana",
        association="OWNER",
        url=f"http://forge.test/acme/shop/issues/{number}",
        created_at="2026-01-01T00:00:00Z",
        updated_at="2026-01-02T00:00:00Z",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


class SmallForge:
    """Issues by repository, and pull requests for the ``branches`` it has, whatever the repository.

    ``failure`` makes every call fail; while ``gate`` is not set, listings wait.
    """

    def __init__(self) -> None:
        self.issues: dict[str, dict[int, Issue]] = {}
        self.failure: BzzzError | None = None
        self.failures: dict[str, BzzzError] = {}
        self.listings = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.branches: set[str] = set()
        self.pulls: dict[str, Pull] = {}

    def put(self, repository: str, *issues: Issue) -> None:
        self.issues.setdefault(repository, {}).update({one.number: one for one in issues})

    def _check(self, repository: Repository) -> None:
        failure = self.failure or self.failures.get(repository.key)
        if failure is not None:
            raise failure

    async def list_issues(self, repository: Repository, label: str) -> IssueListing:
        self.listings += 1
        await self.gate.wait()
        self._check(repository)
        found = self.issues.get(repository.key, {}).values()
        return IssueListing(tuple(one for one in found if label in one.labels and one.state == "open"), False)

    async def read_issue(self, repository: Repository, number: int) -> Issue:
        self._check(repository)
        found = self.issues.get(repository.key, {}).get(number)
        if found is None:
            raise ServiceMissing("forge", f"read {repository.key}#{number}", status=404)
        return found

    async def list_comments(self, repository: Repository, number: int) -> Sequence[Comment]:
        raise NotImplementedError

    async def comment(self, repository: Repository, number: int, body: str, *, key: str) -> None:
        raise NotImplementedError

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        raise NotImplementedError

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        raise NotImplementedError

    async def find_pull(self, repository: Repository, branch: str) -> Pull | None:
        self._check(repository)
        return self.pulls.get(branch)

    async def list_pulls(self, repository: Repository) -> Sequence[Pull]:
        raise NotImplementedError

    async def open_pull(self, repository: Repository, *, branch: str, base: str, title: str, body: str) -> Pull:
        self._check(repository)
        if branch not in self.branches:
            raise ServiceConflict("forge", "open a pull request", f"no branch {branch}", 422)
        number = len(self.pulls) + 7
        url = f"http://forge.test/{repository.key}/pull/{number}"
        return self.pulls.setdefault(branch, Pull(number, url, "open", branch, base, f"{title}\n{body}"))

    async def ask_reviewers(self, repository: Repository, number: int, reviewers: Sequence[str]) -> None:
        raise NotImplementedError

    def counters(self) -> Mapping[str, int]:
        return {"requests": self.listings}

    async def close(self) -> None:
        return None


class SmallLedger:
    """Chains by task, compare-and-swapped. ``meet`` makes that many readers wait for each other."""

    def __init__(self) -> None:
        self.chains: dict[tuple[str, int], list[Observation]] = {}
        self.failure: BzzzError | None = None
        self.history_failure: BzzzError | None = None
        self.meet: asyncio.Barrier | None = None

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _top(self, repository: Repository, number: int) -> Observation | None:
        chain = self.chains.get((repository.key, number))
        return chain[-1] if chain else None

    async def read(self, repository: Repository, number: int) -> Observation | None:
        self._check()
        found = self._top(repository, number)
        if self.meet is not None:
            await self.meet.wait()
        return found

    async def list(self, repository: Repository) -> Mapping[int, Observation]:
        self._check()
        return {key[1]: chain[-1] for key, chain in self.chains.items() if key[0] == repository.key}

    async def swap(self, repository: Repository, expected: Version | None, record: ClaimRecord) -> SwapResult:
        self._check()
        top = self._top(repository, record.task.number)
        if (None if top is None else top.version) != expected:
            return SwapResult(False, top)
        chain = self.chains.setdefault((repository.key, record.task.number), [])
        made = Observation(Version(f"version-{len(chain) + 1}"), record)
        chain.append(made)
        return SwapResult(True, made)

    async def deliver(
        self, repository: Repository, expected: Version, record: ClaimRecord, work: Work
    ) -> SwapResult:
        raise NotImplementedError

    async def rescue(self, repository: Repository, number: int, epoch: int, work: Work) -> str:
        raise NotImplementedError

    async def history(self, repository: Repository, number: int) -> Sequence[Observation]:
        if self.history_failure is not None:
            raise self.history_failure
        return tuple(self.chains.get((repository.key, number), []))

    def counters(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        return None

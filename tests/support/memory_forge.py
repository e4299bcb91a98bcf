"""A forge whose issues are a dictionary, and whose repositories can be made to fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from bzzz.core.task import Comment, Issue, Pull, Repository
from bzzz.errors import ServiceMissing
from bzzz.ports import IssueListing


def make_issue(number: int, title: str = "Mend the gate", body: str = "It squeaks.", **changes: object) -> Issue:
    """An open task of a member."""
    values: dict[str, object] = {
        "number": number,
        "title": title,
        "body": body,
        "state": "open",
        "labels": ("bzzz-task",),
        "assignees": (),
        "author": "maintainer",
        "association": "OWNER",
        "url": f"https://forge.example/acme/shop/issues/{number}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    return Issue(**{**values, **changes})  # type: ignore[arg-type]


class MemoryForge:
    """Implements ``bzzz.ports.Forge``. ``faults`` holds, by ``owner/name`` or by method, what is raised."""

    def __init__(self) -> None:
        self.issues: dict[str, dict[int, Issue]] = {}
        self.labels: dict[tuple[str, int], set[str]] = {}
        self.comments: dict[tuple[str, int], dict[str, str]] = {}
        self.threads: dict[tuple[str, int], list[Comment]] = {}
        self.pulls: dict[tuple[str, str], Pull] = {}
        self.reviewers: dict[tuple[str, int], set[str]] = {}
        self.faults: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()
        self.closed = False

    def add(self, key: str, *issues: Issue) -> None:
        """Open issues of a repository."""
        self.issues.setdefault(key, {}).update({issue.number: issue for issue in issues})

    async def _call(self, method: str, repository: Repository) -> str:
        await asyncio.sleep(0)
        self.calls[method] += 1
        self.calls[f"{method} {repository.key}"] += 1
        fault = self.faults.get(method) or self.faults.get(repository.key)
        if fault is not None:
            raise fault
        return repository.key

    async def list_issues(self, repository: Repository, label: str) -> IssueListing:
        found = self.issues.get(await self._call("list_issues", repository), {}).values()
        return IssueListing(tuple(i for i in found if label in i.labels and i.state == "open"), unchanged=False)

    async def read_issue(self, repository: Repository, number: int) -> Issue:
        key = await self._call("read_issue", repository)
        if number not in self.issues.get(key, {}):
            raise ServiceMissing("forge in memory", f"issue {key}#{number}", status=404)
        return self.issues[key][number]

    async def list_comments(self, repository: Repository, number: int) -> Sequence[Comment]:
        return tuple(self.threads.get((await self._call("list_comments", repository), number), ()))

    async def comment(self, repository: Repository, number: int, body: str, *, key: str) -> None:
        self.comments.setdefault((await self._call("comment", repository), number), {}).setdefault(key, body)

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        self.labels.setdefault((await self._call("add_labels", repository), number), set()).update(labels)

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        self.labels.setdefault((await self._call("remove_label", repository), number), set()).discard(label)

    async def find_pull(self, repository: Repository, branch: str) -> Pull | None:
        return self.pulls.get((await self._call("find_pull", repository), branch))

    async def list_pulls(self, repository: Repository) -> Sequence[Pull]:
        key = await self._call("list_pulls", repository)
        return tuple(pull for (known, _), pull in reversed(self.pulls.items()) if known == key)

    async def open_pull(self, repository: Repository, *, branch: str, base: str, title: str, body: str) -> Pull:
        key = await self._call("open_pull", repository)
        number = len(self.pulls) + 1
        made = Pull(number, f"https://forge.example/{key}/pull/{number}", "open", branch, base, title)
        return self.pulls.setdefault((key, branch), made)

    async def ask_reviewers(self, repository: Repository, number: int, reviewers: Sequence[str]) -> None:
        self.reviewers.setdefault((await self._call("ask_reviewers", repository), number), set()).update(reviewers)

    def counters(self) -> Mapping[str, int]:
        return dict(self.calls)

    async def close(self) -> None:
        self.closed = True

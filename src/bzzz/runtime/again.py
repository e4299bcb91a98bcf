"""Whether a person wants a task done again that the ledger says is delivered or escalated.

Two signs are read from the forge, by the watcher, while it lists a repository: the task's pull request was
closed without being merged, or somebody who may set agents to work wrote ``/bzzz retry`` under the issue. Both
are read only where a task is in such a state and is still open, and comments only when the issue changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bzzz.core.event import AskedAgain
from bzzz.core.record import ClaimRecord, Observation, RecordState
from bzzz.core.task import Comment, Issue, Pull, Repository, TaskId
from bzzz.ports import Forge

RETRY_COMMAND = "/bzzz retry"
SEEN_ISSUES_MAX = 2_000


def closed_unmerged(record: ClaimRecord, pulls: Sequence[Pull]) -> AskedAgain | None:
    """Whether the delivery's own pull request was turned down."""
    if record.state is not RecordState.DELIVERED:
        return None
    found = [pull for pull in pulls if pull.head_branch == record.branch]
    if not found or any(pull.state == "open" or pull.merged for pull in found):
        return None
    newest = max(pull.number for pull in found)
    return AskedAgain(record.task.number, f"its pull request #{newest} was closed unmerged")


def asked_by_comment(
    record: ClaimRecord, comments: Sequence[Comment], may_ask: Callable[[Comment], bool]
) -> AskedAgain | None:
    """Whether a comment that was not acted upon yet asks for another try; the newest one counts."""
    for comment in reversed(comments):
        lines = comment.body.strip().splitlines()
        if comment.id > record.answered and lines and lines[0].strip() == RETRY_COMMAND and may_ask(comment):
            return AskedAgain(record.task.number, f"asked again in comment {comment.id}", comment.id)
    return None


class Again:
    """Reads the signs; remembers which version of an issue it has read, so that nothing is read twice."""

    def __init__(self, forge: Forge, may_ask: Callable[[Comment], bool]) -> None:
        self._forge = forge
        self._may_ask = may_ask
        self._seen: dict[TaskId, tuple[str, str]] = {}

    async def find(
        self, repository: Repository, issues: Sequence[Issue], claims: Mapping[int, Observation]
    ) -> tuple[AskedAgain, ...]:
        """Who is to be done again.

        Args:
            repository: where.
            issues: its open tasks as the forge lists them now.
            claims: what stands in its ledger.

        Raises:
            ServiceError: the forge could not be read; nothing is lost, the next listing reads again.
        """
        ended = [(issue, claims[issue.number]) for issue in issues if issue.number in claims]
        ended = [(issue, seen) for issue, seen in ended if seen.record.state in _ENDED]
        pulls: Sequence[Pull] = ()
        if any(seen.record.state is RecordState.DELIVERED for _, seen in ended):
            pulls = await self._forge.list_pulls(repository)
        asked = []
        for issue, seen in ended:
            sign = closed_unmerged(seen.record, pulls) or await self._commented(repository, issue, seen)
            if sign is not None:
                asked.append(sign)
        return tuple(asked)

    async def _commented(self, repository: Repository, issue: Issue, seen: Observation) -> AskedAgain | None:
        key = TaskId(repository.key, issue.number)
        state = (issue.updated_at, str(seen.version))
        if not issue.comments or self._seen.get(key) == state:
            return None
        comments = await self._forge.list_comments(repository, issue.number)
        sign = asked_by_comment(seen.record, comments, self._may_ask)
        if sign is None:
            self._seen.pop(key, None)
            self._seen[key] = state
            if len(self._seen) > SEEN_ISSUES_MAX:
                self._seen.pop(next(iter(self._seen)))
        return sign


_ENDED = frozenset({RecordState.DELIVERED, RecordState.ESCALATED})

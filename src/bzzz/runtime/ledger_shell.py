"""Between the core and the ledger, the forge and Hive: each effect becomes a call, each end an event.

Nothing is decided and nothing is retried here. An error is turned into the event that says what it means:
nothing was written, nobody knows, or it will never work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bzzz.core.effect import ConfirmTask, DeliverWork, ListTasks, OpenPull, ReadClaim, SaveWork, SwapClaim
from bzzz.core.event import (
    ClaimNotRead,
    ClaimRead,
    Event,
    PullFound,
    PullNotFound,
    RepositoriesFound,
    RepositoriesNotFound,
    SwapEnd,
    SwapEnded,
    TaskConfirmed,
    TaskNotConfirmed,
    TasksListed,
    TasksNotListed,
    WorkNotSaved,
    WorkSaved,
)
from bzzz.core.task import Issue, Pull, Repository, Task, TaskId
from bzzz.errors import (
    BzzzError,
    LedgerRefused,
    LedgerUncertain,
    ServiceConflict,
    ServiceDenied,
    ServiceMissing,
)
from bzzz.ports import Hive, SwapResult, Work
from bzzz.runtime.again import Again
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.failure import retry_after_ms
from bzzz.runtime.shells import Shells

ISSUES_KEPT_MAX = 64
"""As many as one node may hold; each can be as long as its forge allows."""
REFUSALS_KEPT_MAX = 2_000


class LedgerShell:
    """Reads and writes for the core.

    Args:
        label: the label that makes an issue a task.
        find: the repository with a given ``owner/name``, if it is known.
        works_of: the work of a claim's attempts that is on this machine, by task and epoch, oldest first.
    """

    def __init__(
        self,
        shells: Shells,
        events: EventLog,
        *,
        label: str,
        find: Callable[[str], Repository | None],
        works_of: Callable[[TaskId, int], Sequence[Work]],
    ) -> None:
        self._label = label
        self._ledger = shells.ledger
        self._forge = shells.forge
        self._admit = shells.admit
        self._again = Again(shells.forge, shells.may_ask)
        self._events = events
        self._find = find
        self._works_of = works_of
        self._issues: dict[TaskId, tuple[Issue, Task]] = {}
        self._refused: dict[TaskId, str] = {}

    async def find_repositories(self, hive: Hive) -> Event:
        """Ask Hive."""
        try:
            return RepositoriesFound(tuple(await hive.active_repositories()))
        except BzzzError as error:
            return RepositoriesNotFound(str(error), retry_after_ms(error))

    async def list_tasks(self, effect: ListTasks) -> Event:
        """Read issues and claims of one repository."""
        repository = self._find(effect.repository)
        if repository is None:
            return TasksNotListed(effect.repository, "it is not among the active repositories any more")
        try:
            label = (repository.rules.labels or (self._label,))[0]
            listing = await self._forge.list_issues(repository, label)
            claims = await self._ledger.list(repository)
            asked = await self._again.find(repository, listing.issues, claims)
        except BzzzError as error:
            return TasksNotListed(effect.repository, str(error), retry_after_ms(error))
        tasks = tuple(task for issue in listing.issues if (task := self._admitted(repository, issue)) is not None)
        return TasksListed(effect.repository, tasks, tuple(sorted(claims.items())), listing.unchanged, asked)

    async def confirm(self, effect: ConfirmTask) -> Event:
        """Read one issue again, and its claim if it had one."""
        repository = self._find(effect.task.repository)
        if repository is None:
            return TaskNotConfirmed(effect.task, "its repository is not active any more")
        try:
            issue = await self._forge.read_issue(repository, effect.task.number)
            standing = await self._ledger.read(repository, effect.task.number) if effect.read_claim else None
        except ServiceMissing as error:
            return TaskConfirmed(effect.task, False, str(error))
        except BzzzError as error:
            return TaskNotConfirmed(effect.task, str(error), retry_after_ms(error))
        if issue.state != "open":
            return TaskConfirmed(effect.task, False, "the issue is closed")
        task = self._admitted(repository, issue)
        if task is None:
            return TaskConfirmed(effect.task, False, self._refused.get(effect.task, "it is no task"))
        self._keep(issue, task)
        return TaskConfirmed(effect.task, True, "", effect.read_claim, standing)

    async def issue(self, task: TaskId) -> Issue:
        """The issue's text as it was confirmed before the claim; read anew if it is not kept.

        Raises:
            ServiceError: it could not be read.
        """
        known = self._issues.get(task)
        repository = self._find(task.repository)
        if known is not None:
            return known[0]
        if repository is None:
            raise ServiceMissing("Hive", f"repository {task.repository}")
        return await self._forge.read_issue(repository, task.number)

    async def swap(self, effect: SwapClaim) -> Event:
        """Append a record."""
        repository = self._find(effect.task.repository)
        nonce = effect.record.nonce
        if repository is None:
            return SwapEnded(effect.task, nonce, SwapEnd.UNAVAILABLE, None, "its repository is not active any more")
        try:
            result = await self._ledger.swap(repository, effect.expected, effect.record)
        except BzzzError as error:
            return _swap_error(effect.task, nonce, error)
        return _swap_ended(effect.task, nonce, result)

    async def deliver(self, effect: DeliverWork) -> Event:
        """Publish branch and claim at once."""
        repository = self._find(effect.task.repository)
        nonce = effect.record.nonce
        works = self._works_of(effect.task, effect.record.epoch)
        work = next((one for one in works if one.commit == effect.record.commit), None)
        if repository is None:
            return SwapEnded(effect.task, nonce, SwapEnd.UNAVAILABLE, None, "its repository is not active any more")
        if work is None:
            return SwapEnded(effect.task, nonce, SwapEnd.REFUSED, None, "the work is not on this machine any more")
        try:
            result = await self._ledger.deliver(repository, effect.expected, effect.record, work)
        except BzzzError as error:
            return _swap_error(effect.task, nonce, error)
        return _swap_ended(effect.task, nonce, result)

    async def read_claim(self, effect: ReadClaim) -> Event:
        """Read what stands for one task."""
        repository = self._find(effect.task.repository)
        if repository is None:
            return ClaimNotRead(effect.task, "its repository is not active any more")
        try:
            return ClaimRead(effect.task, await self._ledger.read(repository, effect.task.number))
        except BzzzError as error:
            return ClaimNotRead(effect.task, str(error), retry_after_ms(error))

    async def save_work(self, effect: SaveWork) -> Event:
        """Push all unpublished work of a claim to its rescue refs: more than one attempt may have left some."""
        repository = self._find(effect.task.repository)
        works = self._works_of(effect.task, effect.epoch)
        if not works:
            return WorkNotSaved(effect.task, effect.epoch, "it is not on this machine", final=True)
        if repository is None:
            return WorkNotSaved(effect.task, effect.epoch, "its repository is not active any more")
        ref = ""
        try:
            for work in works:
                ref = await self._ledger.rescue(repository, effect.task.number, effect.epoch, work)
        except (LedgerRefused, ServiceDenied, ServiceMissing) as error:
            places = ", ".join(str(work.git_dir) for work in works)
            return WorkNotSaved(effect.task, effect.epoch, f"{error}; it is in {places}", final=True)
        except BzzzError as error:
            return WorkNotSaved(effect.task, effect.epoch, str(error))
        return WorkSaved(effect.task, effect.epoch, ref)

    async def open_pull(self, effect: OpenPull) -> Event:
        """Find or open the pull request of a delivery."""
        task, record = effect.task, effect.record
        repository = self._find(task.id.repository)
        if record.branch is None:
            return PullNotFound(task.id, "its record names no branch", final=True)
        if repository is None:
            return PullNotFound(task.id, "its repository is not active any more")
        # The forge's title goes before the one that some peer announced.
        known = self._issues.get(task.id)
        title = task.title if known is None else known[1].title
        body = (
            f"Closes #{task.id.number}.\n\n"
            f"- agent: {record.holder.agent}\n- claim epoch: {record.epoch}\n"
            f"- commit: {record.commit or 'unknown'}\n\n"
            "The repository's own check passed on exactly this commit before it was pushed.\n"
        )
        try:
            pull = await self._forge.open_pull(
                repository, branch=record.branch, base=repository.branch, title=title, body=body
            )
        except (ServiceConflict, ServiceDenied) as error:
            return PullNotFound(task.id, str(error), final=True)
        except BzzzError as error:
            return PullNotFound(task.id, str(error), retry_after_ms(error))
        await self._ask_reviewers(repository, task.id, pull)
        return PullFound(task.id, pull.url)

    async def _ask_reviewers(self, repository: Repository, task: TaskId, pull: Pull) -> None:
        """Ask whom the project names; a pull request that nobody was asked about is a pull request all the same."""
        reviewers = repository.rules.reviewers
        if not reviewers or pull.merged or pull.state != "open":
            return
        try:
            await self._forge.ask_reviewers(repository, pull.number, reviewers)
        except BzzzError as error:
            text = f"{pull.url}: {', '.join(reviewers)} could not be asked to review: {error}"
            self._events.tell("reviewers_not_asked", level="warning", task=str(task), text=text)

    def _admitted(self, repository: Repository, issue: Issue) -> Task | None:
        key = TaskId(repository.key, issue.number)
        verdict: Task | str
        try:
            verdict = self._admit(repository, issue)
        except Exception as error:  # one strange issue must not hide all others
            verdict = f"it cannot be read: {type(error).__name__}: {error}"[:200]
        refused = self._refused.pop(key, None)
        if not isinstance(verdict, str):
            return verdict
        if len(self._refused) >= REFUSALS_KEPT_MAX:
            self._refused.pop(next(iter(self._refused)))
        self._refused[key] = verdict
        if refused != verdict:
            self._events.tell("issue_not_admitted", task=str(key), text=verdict)
        return None

    def _keep(self, issue: Issue, task: Task) -> None:
        self._issues.pop(task.id, None)
        if len(self._issues) >= ISSUES_KEPT_MAX:
            self._issues.pop(next(iter(self._issues)))
        self._issues[task.id] = (issue, task)


def _swap_ended(task: TaskId, nonce: str, result: SwapResult) -> SwapEnded:
    return SwapEnded(task, nonce, SwapEnd.WON if result.won else SwapEnd.LOST, result.standing)


def _swap_error(task: TaskId, nonce: str, error: BzzzError) -> SwapEnded:
    if isinstance(error, LedgerUncertain):
        end = SwapEnd.UNCERTAIN
    elif isinstance(error, LedgerRefused | ServiceDenied | ServiceMissing):
        end = SwapEnd.REFUSED
    else:
        end = SwapEnd.UNAVAILABLE
    return SwapEnded(task, nonce, end, None, str(error), retry_after_ms(error))

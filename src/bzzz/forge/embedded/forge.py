"""The embedded forge as a Python object: what its API, its pages, its command line and Hive all stand on.

Methods are synchronous and may be called from any thread; each is one transaction. What happened is queued
for webhooks in the same transaction. ``start`` and ``stop`` run what works in the background (webhooks out,
the sweeper) on the running loop; without them everything else still works.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bzzz.errors import UsageError
from bzzz.forge.embedded import account, hook, importer, issue, pull, repository
from bzzz.forge.embedded.account import Actor, Scope, TokenInfo
from bzzz.forge.embedded.compaction import Compactor
from bzzz.forge.embedded.delivery import Courier
from bzzz.forge.embedded.follow import Follower
from bzzz.forge.embedded.git import Activity, Git
from bzzz.forge.embedded.herald import Herald
from bzzz.forge.embedded.pktline import RefUpdate
from bzzz.forge.embedded.refusal import Refusal, invalid
from bzzz.forge.embedded.setting import BASE_URL_FILE, EmbeddedForgeSettings
from bzzz.forge.embedded.shape import Json, Shape
from bzzz.forge.embedded.store import Store
from bzzz.forge.embedded.sweep import sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RepositoryInfo:
    """A repository as administration shows it."""

    owner: str
    name: str
    description: str
    default_branch: str
    private: bool
    git_url: str
    api_url: str
    html_url: str
    open_issues: int
    open_pulls: int


class EmbeddedForge:
    """One forge over one data folder.

    Args:
        settings: where and within which bounds.
        wall_s: seconds since the epoch, for times that people see and for due times.
        token_hex: makes secrets and ids from a number of random bytes.

    Raises:
        UsageError: the folder cannot be used, or git is missing or too old.
    """

    def __init__(
        self,
        settings: EmbeddedForgeSettings,
        *,
        wall_s: Callable[[], float] = time.time,
        token_hex: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.settings = settings
        self.wall_s = wall_s
        self.token_hex = token_hex
        try:
            (settings.data_dir / "repositories").mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"{settings.data_dir} cannot be used as a forge's data folder: {error}") from None
        self.activity = Activity()
        self.git = Git(self.activity, settings.git_processes_max)
        self.store = Store(settings.data_dir / "forge.sqlite3")
        self.shape = Shape(settings.base_url, settings.api_url)
        self.counts: Counter[str] = Counter()
        self.courier = Courier(settings, self.store, wall_s, self.counts)
        self.herald = Herald(settings, self.shape, self.courier.wake, wall_s, token_hex)
        self.compactor = Compactor(self.git, wall_s, self.counts)
        self._follower = Follower(self.git, self.folder, self.herald, self.now)
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Sweep once, then deliver webhooks, sweep and pack in the background; a second call does nothing."""
        if self._tasks:
            return
        await asyncio.to_thread(self.sweep)
        (self.settings.data_dir / BASE_URL_FILE).write_text(self.settings.base_url + "\n")
        self._tasks = [asyncio.create_task(self.courier.run()), asyncio.create_task(self._sweep_forever())]

    async def stop(self) -> None:
        """End what ``start`` began; deliveries still waiting are kept for the next start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[EmbeddedForge]:
        """``start`` and ``stop`` around a block: for the lifespan of an app that mounts the forge."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    def sweep(self) -> list[Path]:
        """Remove stale locks now; gives what was removed."""
        removed = sweep(self.settings.data_dir, self.activity, self.wall_s(), self.settings.lock_age_s)
        for path in removed:
            log.warning("removed %s, which a git that is gone had left", path)
        self.counts["locks_swept"] += len(removed)
        return removed

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep_period_s)
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as error:
                log.warning("looking for stale locks failed: %s", error)
            await asyncio.to_thread(self.compactor.run, self.settings.data_dir)

    def now(self) -> str:
        """The time, as GitHub writes it."""
        return account.timestamp(self.wall_s())

    def counters(self) -> Mapping[str, int]:
        """Counts since start: git processes, claims taken, requests, webhooks by their fate, locks swept."""
        return {**self.counts, "git_started": self.activity.started, "git_running": self.activity.running}

    # --- administration -------------------------------------------------------------------------------

    def create_token(self, login: str = "bzzz", *, scope: str = "write", label: str = "") -> str:
        """Make a token and give its secret, which is not kept and cannot be shown again.

        Raises:
            Refusal: 422 for a login or scope that is none.
        """
        secret = account.TOKEN_PREFIX + self.token_hex(20)
        with self.store.write() as db:
            account.add_token(db, secret, login, scope=Scope.parse(scope), label=label, now=self.now())
        return secret

    def list_tokens(self) -> list[TokenInfo]:
        """All tokens, without their secrets."""
        with self.store.read() as db:
            return account.list_tokens(db)

    def revoke_token(self, token_id: int) -> None:
        """End a token at once.

        Raises:
            Refusal: 404.
        """
        with self.store.write() as db:
            account.revoke_token(db, token_id, self.now())

    def create_repository(
        self, owner: str, title: str, *, description: str = "", default_branch: str = "main",
        private: bool | None = None, files: Mapping[str, str] | None = None, message: str = "Initial commit",
    ) -> RepositoryInfo:  # fmt: skip
        """Make a repository, empty or with a first commit that holds ``files`` (path to text).

        Raises:
            Refusal: 422 for a bad or taken name.
        """
        hidden = (not self.settings.anonymous_read) if private is None else private
        now = self.now()
        with self.store.write() as db:
            row = repository.add(
                db, owner, title, now, description=description, branch=default_branch, private=hidden
            )
            path = self.folder(row)
            try:
                repository.init(self.git, path, default_branch)
                if files:
                    repository.seed(self.git, path, default_branch, dict(files), message=message, now=now)
            except BaseException:
                repository.remove_folder(path)
                raise
        return self.repository(owner, title)

    def import_repository(
        self, path: Path, owner: str, title: str, *, private: bool | None = None
    ) -> RepositoryInfo:
        """Bring in all branches and tags of an existing repository; nothing of its configuration is run.

        Raises:
            UsageError: it is no complete git repository.
            Refusal: 422 for a bad or taken name.
        """
        source = importer.git_folder(path)
        refs, head = importer.read_refs(source)
        branch = importer.default_branch(refs, head)
        info = self.create_repository(owner, title, default_branch=branch, private=private)
        try:
            importer.copy(self.git, source, self.folder(self.row(owner, title)), refs)
        except BaseException:
            self.delete_repository(owner, title)
            raise
        return info

    def delete_repository(self, owner: str, title: str) -> None:
        """Delete a repository with everything in it.

        Raises:
            Refusal: 404.
        """
        with self.store.write() as db:
            row = repository.find(db, owner, title)
            db.execute("DELETE FROM repository WHERE id = ?", (row["id"],))
        repository.remove_folder(self.folder(row))

    def row(self, owner: str, title: str) -> sqlite3.Row:
        """The row of a repository.

        Raises:
            Refusal: 404.
        """
        with self.store.read() as db:
            return repository.find(db, owner, title)

    def folder(self, row: sqlite3.Row) -> Path:
        """The bare git folder of a repository."""
        return repository.folder(self.settings.data_dir, row)

    def repository(self, owner: str, title: str) -> RepositoryInfo:
        """One repository.

        Raises:
            Refusal: 404.
        """
        with self.store.read() as db:
            return self._info(db, repository.find(db, owner, title))

    def list_repositories(self) -> list[RepositoryInfo]:
        """All repositories, by name."""
        with self.store.read() as db:
            return [self._info(db, row) for row in db.execute("SELECT * FROM repository ORDER BY owner, name")]

    def _info(self, db: sqlite3.Connection, row: sqlite3.Row) -> RepositoryInfo:
        counts = dict(
            db.execute(
                "SELECT is_pull, count(*) FROM issue WHERE repository_id = ? AND state = 'open' GROUP BY is_pull",
                (row["id"],),
            ).fetchall()
        )
        return RepositoryInfo(
            owner=row["owner"], name=row["name"], description=row["description"],
            default_branch=row["default_branch"], private=bool(row["private"]),
            git_url=self.settings.git_url(row["owner"], row["name"]), api_url=self.settings.api_url,
            html_url=self.shape.repo_html(row), open_issues=counts.get(0, 0), open_pulls=counts.get(1, 0),
        )  # fmt: skip

    # --- issues and pull requests -----------------------------------------------------------------------

    def create_issue(
        self, owner: str, title: str, subject: str, body: str = "", *, labels: Sequence[str] = (),
        assignees: Sequence[str] = (), actor: Actor | None = None,
    ) -> Json:  # fmt: skip
        """Open an issue and give it in GitHub's shape; without ``actor`` it is the repository's owner's.

        Raises:
            Refusal: 404 for the repository, 422 for the text or a label.
        """
        actor = actor or Actor(owner, Scope.ADMIN)
        issue.check_text(self.settings, "Issue", subject, body)
        with self.store.write() as db:
            repo = repository.find(db, owner, title)
            row = issue.add(db, repo, actor, (subject, body), self.now())
            if actor.scope >= Scope.WRITE:
                issue.add_labels(db, repo, row, labels)
                issue.add_assignees(db, row, assignees, self.now())
            value = self.herald.issue(db, repo, row)
            self.herald.tell(db, repo, actor, "issues", {"action": "opened", "issue": value})
        return value

    def create_comment(self, owner: str, title: str, number: int, body: str, *, actor: Actor | None = None) -> Json:
        """Write a comment and give it in GitHub's shape; without ``actor`` it is the repository owner's.

        Raises:
            Refusal: 404; 422 for a text that is empty or too long.
        """
        issue.check_text(self.settings, "IssueComment", None, body)
        if not body.strip():
            raise invalid("IssueComment", "body", "body can't be blank", "missing_field")
        actor = actor or Actor(owner, Scope.ADMIN)
        with self.store.write() as db:
            repo = repository.find(db, owner, title)
            row = issue.find(db, repo, number)
            comment = issue.add_comment(db, repo, row, actor, body=body, now=self.now())
            value = self.shape.comment(repo, number, comment)
            shape = self.herald.issue(db, repo, issue.find(db, repo, number))
            self.herald.tell(
                db, repo, actor, "issue_comment", {"action": "created", "issue": shape, "comment": value}
            )
        return value

    def list_issues(self, owner: str, title: str, *, state: str = "open", label: str = "") -> list[Json]:
        """Issues (no pull requests) of a repository, oldest first, in GitHub's shape.

        Raises:
            Refusal: 404.
        """
        wanted = issue.Filter(state=state, labels=(label,) if label else (), ascending=True, pulls=False)
        with self.store.read() as db:
            repo = repository.find(db, owner, title)
            return [self.herald.issue(db, repo, row) for row in issue.select(db, repo, wanted, -1, 0)[0]]

    def list_pulls(self, owner: str, title: str, *, state: str = "all") -> list[Json]:
        """Pull requests of a repository, oldest first, in GitHub's shape.

        Raises:
            Refusal: 404.
        """
        with self.store.read() as db:
            repo = repository.find(db, owner, title)
            rows, _ = pull.select(db, repo, state=state, ascending=True, limit=-1)
            return [self.herald.pull(db, repo, row) for row in rows]

    def ensure_hook(self, owner: str, title: str, url: str, secret: str, events: Sequence[str]) -> int:
        """Make a webhook, or give an existing one with this address the new secret and events; its id.

        Raises:
            Refusal: 404, 422.
        """
        hook.check(url, events)
        with self.store.write() as db:
            repo = repository.find(db, owner, title)
            for row in hook.select(db, repo):
                if row["url"] == url:
                    db.execute(
                        "UPDATE hook SET secret = ?, events = ?, active = 1, updated_at = ? WHERE id = ?",
                        (secret, hook.events_text(events), self.now(), row["id"]),
                    )
                    return int(row["id"])
            return int(hook.add(db, repo, url, secret, events=events, now=self.now(), active=True)["id"])

    # --- what happens in git ----------------------------------------------------------------------------

    def merge_pull(
        self, repo: sqlite3.Row, number: int, actor: Actor, *, sha: str = "", method: str = "merge",
        title: str = "", message: str | None = None,
    ) -> str:  # fmt: skip
        """Merge a pull request; gives the commit that its base branch now has.

        Raises:
            Refusal: 404; 405 not mergeable; 409 the head is not ``sha``, or the base moved meanwhile.
        """
        with self.store.write() as db:
            row = pull.find(db, repo, number)
            if row["state"] != "open":
                raise Refusal(405, "Pull Request is not mergeable")
            if sha and sha != row["head_sha"]:
                raise Refusal(409, "Head branch was modified. Review and try the merge again.")
            text = pull.merge_message(repo, row, method, title, message)
            return self._follower.merge(db, repo, row, actor, method=method, message=text)

    def pushed(self, repo_id: int, actor: Actor, updates: Sequence[RefUpdate]) -> None:
        """Take note of refs that a push moved: pull requests follow, webhooks are told."""
        if not updates:
            return
        with self.store.write() as db:
            repo = db.execute("SELECT * FROM repository WHERE id = ?", (repo_id,)).fetchone()
            if repo is not None:
                self._follower.pushed(db, repo, actor, updates)

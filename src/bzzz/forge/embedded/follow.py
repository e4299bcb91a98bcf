"""What follows from refs that moved: pull requests go along, close or count as merged, and webhooks hear of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from bzzz.forge.embedded import issue, name, pull, repository
from bzzz.forge.embedded.account import Actor
from bzzz.forge.embedded.git import Git
from bzzz.forge.embedded.herald import Herald
from bzzz.forge.embedded.pktline import ZERO_ID, RefUpdate
from bzzz.forge.embedded.refusal import Refusal


class Follower:
    """Keeps the database in step with git, within the caller's transaction.

    Args:
        git: the git program.
        folder: where a repository is.
        herald: tells webhooks.
        now: the time, as GitHub writes it.
    """

    def __init__(
        self, git: Git, folder: Callable[[sqlite3.Row], Path], herald: Herald, now: Callable[[], str]
    ) -> None:
        self._git = git
        self._folder = folder
        self._herald = herald
        self._now = now

    def merge(
        self,
        db: sqlite3.Connection,
        repo: sqlite3.Row,
        row: sqlite3.Row,
        actor: Actor,
        *,
        method: str,
        message: str,
    ) -> str:
        """Merge an open pull request and note all that follows; gives the base branch's new commit.

        Raises:
            Refusal: 405, 409; see ``pull.merge``.
        """
        base_ref, path = f"refs/heads/{row['base_ref']}", self._folder(repo)
        old = repository.resolve(self._git, path, base_ref) or ZERO_ID
        commit = pull.merge(self._git, path, row, actor, self._now(), method=method, message=message)
        self._merged(db, repo, row, actor, (old, commit))
        update = RefUpdate(base_ref, old, commit)
        self._herald.tell_push(db, repo, actor, update)
        self._follow(db, repo, actor, update)
        return commit

    def pushed(self, db: sqlite3.Connection, repo: sqlite3.Row, actor: Actor, updates: Sequence[RefUpdate]) -> None:
        """Note every ref of one push."""
        db.execute(
            "UPDATE repository SET pushed_at = ?, updated_at = ? WHERE id = ?",
            (self._now(), self._now(), repo["id"]),
        )
        self._adopt_default(db, repo, updates)
        for update in updates:
            if update.ref.startswith(("refs/heads/", "refs/tags/")):
                self._herald.tell_push(db, repo, actor, update)
            if update.ref.startswith("refs/heads/"):
                self._follow(db, repo, actor, update)

    def _adopt_default(self, db: sqlite3.Connection, repo: sqlite3.Row, updates: Sequence[RefUpdate]) -> None:
        """The first branch pushed to an empty repository becomes its default, as on GitHub."""
        made = [
            u.ref.removeprefix("refs/heads/")
            for u in updates
            if u.ref.startswith("refs/heads/") and u.new != ZERO_ID
        ]
        default = repo["default_branch"]
        if not made or default in made:
            return
        path = self._folder(repo)
        if repository.resolve(self._git, path, f"refs/heads/{default}") is None and name.is_ref(
            f"refs/heads/{made[0]}"
        ):
            self._git.text(path, "symbolic-ref", "HEAD", f"refs/heads/{made[0]}")
            db.execute("UPDATE repository SET default_branch = ? WHERE id = ?", (made[0], repo["id"]))

    def _follow(self, db: sqlite3.Connection, repo: sqlite3.Row, actor: Actor, update: RefUpdate) -> None:
        """Let open pull requests follow a branch that moved or went, and see those merged by hand."""
        branch, path = update.ref.removeprefix("refs/heads/"), self._folder(repo)
        for row in pull.select(db, repo, head=branch, limit=-1)[0]:
            if update.new == ZERO_ID:
                action = "closed"
                issue.change(db, row, actor, self._now(), state="closed")
            else:
                action = "synchronize"
                db.execute("UPDATE pull SET head_sha = ? WHERE issue_id = ?", (update.new, row["id"]))
                issue.touch(db, row, self._now())
                pull.keep_head(self._git, path, row["number"], update.new)
            value = self._herald.pull(db, repo, pull.find(db, repo, row["number"]))
            told = {"action": action, "number": row["number"], "pull_request": value}
            self._herald.tell(db, repo, actor, "pull_request", told)
        if update.new == ZERO_ID:
            return
        for row in pull.select(db, repo, base=branch, limit=-1)[0]:
            if self._git.run(path, "merge-base", "--is-ancestor", row["head_sha"], update.new).status == 0:
                base = row["base_sha"] if update.old == ZERO_ID else update.old
                self._merged(db, repo, row, actor, (base, update.new))

    def _merged(
        self, db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row, actor: Actor, shas: tuple[str, str]
    ) -> None:
        """Note a merge; ``shas`` are the base as it was before, and the commit that it became."""
        now = self._now()
        db.execute(
            "UPDATE pull SET merged_at = ?, merged_by = ?, merge_commit_sha = ?, base_sha = ? WHERE issue_id = ?",
            (now, actor.login, shas[1], shas[0], row["id"]),
        )
        issue.change(db, row, actor, now, state="closed")
        value = self._herald.pull(db, repo, pull.find(db, repo, row["number"]))
        value["merged"] = True
        self._herald.tell(
            db, repo, actor, "pull_request", {"action": "closed", "number": row["number"], "pull_request": value}
        )
        if row["base_ref"] != repo["default_branch"]:
            return
        for number in pull.closes(f"{row['title']}\n{row['body']}"):
            try:
                target = issue.find(db, repo, number)
            except Refusal:
                continue
            if target["state"] == "open" and not target["is_pull"]:
                changed = issue.change(db, target, actor, now, state="closed")
                shape = self._herald.issue(db, repo, changed)
                self._herald.tell(db, repo, actor, "issues", {"action": "closed", "issue": shape})

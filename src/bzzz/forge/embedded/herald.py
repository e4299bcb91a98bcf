"""Tells webhooks what happened: makes the event's payload and queues it in the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bzzz.forge.embedded import hook, issue, pull
from bzzz.forge.embedded.account import Actor
from bzzz.forge.embedded.pktline import ZERO_ID, RefUpdate
from bzzz.forge.embedded.setting import EmbeddedForgeSettings
from bzzz.forge.embedded.shape import Json, Shape


class Herald:
    """Queues events for the hooks of a repository, and wakes whoever carries them.

    Args:
        settings: bounds.
        shape: makes GitHub's shapes.
        wake: called when something was queued.
        wall_s: seconds since the epoch; a delivery is due at once.
        token_hex: makes delivery ids.
    """

    def __init__(
        self,
        settings: EmbeddedForgeSettings,
        shape: Shape,
        wake: Callable[[], None],
        wall_s: Callable[[], float],
        token_hex: Callable[[int], str],
    ) -> None:
        self._settings = settings
        self._shape = shape
        self._wake = wake
        self._wall_s = wall_s
        self._token_hex = token_hex

    def issue(self, db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row) -> Json:
        """An issue row in GitHub's shape."""
        return self._shape.issue(repo, row, issue.labels(db, row), issue.assignees(db, row))

    def issues(self, db: sqlite3.Connection, repo: sqlite3.Row, rows: Sequence[sqlite3.Row]) -> list[Json]:
        """A page of issue rows in GitHub's shape."""
        labels, people = issue.labels_of(db, rows), issue.assignees_of(db, rows)
        return [self._shape.issue(repo, row, labels.get(row["id"], ()), people.get(row["id"], ())) for row in rows]

    def pull(self, db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row) -> Json:
        """A pull request row in GitHub's shape."""
        return self._shape.pull(repo, row, issue.labels(db, row), issue.assignees(db, row), pull.reviewers(db, row))

    def tell(
        self, db: sqlite3.Connection, repo: sqlite3.Row, actor: Actor, event: str, payload: Mapping[str, Any]
    ) -> None:
        """Queue an event for every hook that wants it, within the caller's transaction."""
        hooks = [(row, self._token_hex(16)) for row in hook.select(db, repo)]
        if not hooks:
            return
        value = {**payload, "repository": self._shape.repository(repo), "sender": self._shape.user(actor.login)}
        queued = hook.enqueue(
            db, hooks, event, value, now_s=self._wall_s(), pending_max=self._settings.webhook_pending_max
        )
        if queued:
            self._wake()

    def tell_push(self, db: sqlite3.Connection, repo: sqlite3.Row, actor: Actor, update: RefUpdate) -> None:
        """Queue a ``push`` event."""
        payload = {
            "ref": update.ref, "before": update.old, "after": update.new, "created": update.old == ZERO_ID,
            "deleted": update.new == ZERO_ID, "forced": False, "base_ref": None, "commits": [],
            "compare": f"{self._shape.repo_html(repo)}/compare/{update.old[:12]}...{update.new[:12]}",
            "head_commit": None, "pusher": {"name": actor.login},
        }  # fmt: skip
        self.tell(db, repo, actor, "push", payload)

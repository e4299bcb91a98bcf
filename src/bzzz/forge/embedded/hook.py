"""Webhooks: who wants to hear of what, and the durable queue of what is still to be told.

A delivery is written in the transaction that made the event, so that no event is lost and none is told of
something undone. Each hook's queue is bounded: the oldest waiting delivery makes room, counted on the hook.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from bzzz.forge.embedded.refusal import invalid, not_found

HOOKS_MAX = 20
EVENTS = frozenset({"issues", "issue_comment", "pull_request", "push", "ping", "status", "*"})
_CONTROLS = frozenset(map(chr, [*range(33), 127]))


def add(
    db: sqlite3.Connection,
    repo: sqlite3.Row,
    url: str,
    secret: str,
    *,
    events: Sequence[str],
    now: str,
    active: bool,
) -> sqlite3.Row:
    """Make a hook.

    Raises:
        Refusal: 422 for an address that is not http, an event that is none, one that exists, or too many.
    """
    check(url, events)
    existing = db.execute("SELECT url FROM hook WHERE repository_id = ?", (repo["id"],)).fetchall()
    if any(row["url"] == url for row in existing):
        raise invalid("Hook", "url", "Hook already exists on this repository")
    if len(existing) >= HOOKS_MAX:
        raise invalid("Hook", "base", f"a repository takes {HOOKS_MAX} hooks at most")
    cursor = db.execute(
        "INSERT INTO hook (repository_id, url, secret, events, active, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repo["id"], url, secret, events_text(events), int(active), now, now),
    )
    return find(db, repo, cursor.lastrowid or 0)


def events_text(events: Sequence[str]) -> str:
    """Events as they are kept."""
    return json.dumps(sorted(set(events)))


def check(url: str, events: Sequence[str]) -> None:
    """Refuse an address or events that cannot be.

    Raises:
        Refusal: 422.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        sound = False
    if not sound or len(url) > 2000 or _CONTROLS & set(url):
        raise invalid("Hook", "url", "url must be an http or https address without a user in it")
    unknown = sorted(set(events) - EVENTS)
    if unknown or not events:
        raise invalid("Hook", "events", f"events must be some of {', '.join(sorted(EVENTS))}")


def find(db: sqlite3.Connection, repo: sqlite3.Row, hook_id: int) -> sqlite3.Row:
    """One hook of a repository.

    Raises:
        Refusal: 404.
    """
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM hook WHERE repository_id = ? AND id = ?", (repo["id"], hook_id)
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def select(db: sqlite3.Connection, repo: sqlite3.Row) -> list[sqlite3.Row]:
    """A repository's hooks, oldest first."""
    return db.execute("SELECT * FROM hook WHERE repository_id = ? ORDER BY id", (repo["id"],)).fetchall()


def enqueue(
    db: sqlite3.Connection,
    hooks: Sequence[tuple[sqlite3.Row, str]],
    event: str,
    payload: dict[str, Any],
    *,
    now_s: float,
    pending_max: int,
) -> int:
    """Queue ``payload`` for those ``hooks`` (each with a delivery's id) that want ``event``; gives how many do."""
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    count = 0
    for hook, guid in hooks:
        wanted = json.loads(hook["events"])
        if not hook["active"] or (event != "ping" and event not in wanted and "*" not in wanted):
            continue
        surplus = db.execute(
            "DELETE FROM delivery WHERE hook_id = ? AND id IN"
            " (SELECT id FROM delivery WHERE hook_id = ? ORDER BY id DESC LIMIT -1 OFFSET ?)",
            (hook["id"], hook["id"], pending_max - 1),
        ).rowcount
        if surplus:
            db.execute("UPDATE hook SET dropped = dropped + ? WHERE id = ?", (surplus, hook["id"]))
        db.execute(
            "INSERT INTO delivery (hook_id, guid, event, payload, due_s) VALUES (?, ?, ?, ?, ?)",
            (hook["id"], guid, event, body, now_s),
        )
        count += 1
    return count


def due(db: sqlite3.Connection, now_s: float, busy: Sequence[int], limit: int) -> list[sqlite3.Row]:
    """The oldest delivery of each hook that is due and not in ``busy``: a hook's events stay in order."""
    return db.execute(
        "SELECT delivery.*, hook.url, hook.secret FROM delivery JOIN hook ON hook.id = hook_id"
        " WHERE delivery.id IN (SELECT min(id) FROM delivery"
        " WHERE hook_id NOT IN (SELECT value FROM json_each(?)) GROUP BY hook_id) AND due_s <= ? LIMIT ?",
        (json.dumps(list(busy)), now_s, limit),
    ).fetchall()


def settle(
    db: sqlite3.Connection, delivery: sqlite3.Row, *, delivered: bool, status: int | None, error: str,
    retry_at_s: float | None,
) -> None:  # fmt: skip
    """Note how one attempt went: done, to be tried again at ``retry_at_s``, or given up and counted."""
    db.execute(
        "UPDATE hook SET last_status = ?, last_error = ?, delivered = delivered + ?, dropped = dropped + ?"
        " WHERE id = ?",
        (status, error, int(delivered), int(not delivered and retry_at_s is None), delivery["hook_id"]),
    )
    if delivered or retry_at_s is None:
        db.execute("DELETE FROM delivery WHERE id = ?", (delivery["id"],))
    else:
        db.execute(
            "UPDATE delivery SET attempts = attempts + 1, due_s = ? WHERE id = ?", (retry_at_s, delivery["id"])
        )


def events_of(row: sqlite3.Row) -> list[str]:
    """The events that a hook wants."""
    return [str(each) for each in json.loads(row["events"])]

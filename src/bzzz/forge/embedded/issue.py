"""Issues, comments, labels and assignees: what may be written, in one transaction each.

Issues and pull requests share one sequence of numbers a repository. What a stranger wrote is kept as it was
written (but bounded); it is made harmless where it is shown.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bzzz.forge.embedded import account, name
from bzzz.forge.embedded.account import Actor
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found
from bzzz.forge.embedded.setting import EmbeddedForgeSettings

LABELS_PER_ISSUE_MAX = 100
ASSIGNEES_MAX = 10


@dataclass(frozen=True, slots=True)
class Filter:
    """Which issues to list; empty fields ask for all."""

    state: str = "open"
    labels: tuple[str, ...] = ()
    since: str = ""
    assignee: str = ""
    creator: str = ""
    sort: str = "created"
    ascending: bool = False
    pulls: bool | None = None


def check_text(settings: EmbeddedForgeSettings, resource: str, title: str | None, body: str | None) -> None:
    """Refuse text that GitHub would refuse.

    Raises:
        Refusal: 422.
    """
    if title is not None and not title.strip():
        raise invalid(resource, "title", "title can't be blank", "missing_field")
    if title is not None and len(title) > settings.title_chars_max:
        raise invalid(resource, "title", f"title is too long (maximum is {settings.title_chars_max} characters)")
    if body is not None and len(body) > settings.body_chars_max:
        raise invalid(resource, "body", f"body is too long (maximum is {settings.body_chars_max} characters)")
    for text in (title, body):
        if text is not None and any("\ud800" <= c <= "\udfff" for c in text):
            raise invalid(resource, "body", "the text holds half a surrogate pair, which is no character")


def add(
    db: sqlite3.Connection,
    repo: sqlite3.Row,
    actor: Actor,
    text: tuple[str, str],
    now: str,
    *,
    is_pull: bool = False,
) -> sqlite3.Row:
    """Make an issue with the next number of its repository; ``text`` is its title and body."""
    number = db.execute(
        "UPDATE repository SET next_number = next_number + 1, updated_at = ? WHERE id = ?"
        " RETURNING next_number - 1",
        (now, repo["id"]),
    ).fetchone()[0]
    author = account.ensure(db, actor.login, now)["login"]
    db.execute(
        "INSERT INTO issue"
        " (repository_id, number, title, body, author, association, created_at, updated_at, is_pull)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            repo["id"], number, text[0].strip(), text[1], author, account.association(actor, repo["owner"]),
            now, now,
            int(is_pull),
        ),
    )  # fmt: skip
    return find(db, repo, number)


def find(db: sqlite3.Connection, repo: sqlite3.Row, number: int) -> sqlite3.Row:
    """One issue or pull request.

    Raises:
        Refusal: 404.
    """
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM issue WHERE repository_id = ? AND number = ?", (repo["id"], number)
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def select(
    db: sqlite3.Connection, repo: sqlite3.Row, wanted: Filter, limit: int, offset: int
) -> tuple[list[sqlite3.Row], int]:
    """One page of issues, and how many there are on all pages."""
    where = ["repository_id = ?"]
    values: list[object] = [repo["id"]]
    if wanted.state != "all":
        where.append("state = ?")
        values.append(wanted.state)
    if wanted.pulls is not None:
        where.append("is_pull = ?")
        values.append(int(wanted.pulls))
    for label in wanted.labels:
        where.append(
            "id IN (SELECT issue_id FROM issue_label JOIN label ON label.id = label_id"
            " WHERE repository_id = ? AND name = ?)"
        )
        values += [repo["id"], label]
    if wanted.since:
        where.append("updated_at >= ?")
        values.append(wanted.since)
    if wanted.creator:
        where.append("author = ? COLLATE NOCASE")
        values.append(wanted.creator)
    if wanted.assignee == "none":
        where.append("id NOT IN (SELECT issue_id FROM assignee)")
    elif wanted.assignee and wanted.assignee != "*":
        where.append("id IN (SELECT issue_id FROM assignee WHERE login = ?)")
        values.append(wanted.assignee)
    condition = " AND ".join(where)
    order = {"created": "number", "updated": "updated_at", "comments": "comments"}.get(wanted.sort, "number")
    way = "ASC" if wanted.ascending else "DESC"
    total = db.execute(f"SELECT count(*) FROM issue WHERE {condition}", values).fetchone()[0]  # noqa: S608
    rows = db.execute(
        f"SELECT * FROM issue WHERE {condition} ORDER BY {order} {way}, number {way} LIMIT ? OFFSET ?",  # noqa: S608
        [*values, limit, offset],
    ).fetchall()
    return rows, int(total)


def change(
    db: sqlite3.Connection, row: sqlite3.Row, actor: Actor, now: str,
    *, title: str | None = None, body: str | None = None, state: str | None = None, reason: str | None = None,
) -> sqlite3.Row:  # fmt: skip
    """Change title, text or state; what is ``None`` stays.

    Raises:
        Refusal: 422 for a state that is none.
    """
    if state not in (None, "open", "closed"):
        raise invalid("Issue", "state", "state must be 'open' or 'closed'", "invalid")
    db.execute(
        "UPDATE issue SET title = coalesce(?, title), body = coalesce(?, body), updated_at = ? WHERE id = ?",
        (title.strip() if title is not None else None, body, now, row["id"]),
    )
    if state == "closed" and row["state"] == "open":
        db.execute(
            "UPDATE issue SET state = 'closed', closed_at = ?, closed_by = ?, state_reason = ? WHERE id = ?",
            (now, actor.login, reason if reason in ("completed", "not_planned") else "completed", row["id"]),
        )
    elif state == "open" and row["state"] == "closed":
        db.execute(
            "UPDATE issue SET state = 'open', closed_at = NULL, closed_by = NULL, state_reason = 'reopened'"
            " WHERE id = ?",
            (row["id"],),
        )
    changed: sqlite3.Row = db.execute("SELECT * FROM issue WHERE id = ?", (row["id"],)).fetchone()
    return changed


def touch(db: sqlite3.Connection, row: sqlite3.Row, now: str) -> None:
    """Note that an issue changed."""
    db.execute("UPDATE issue SET updated_at = ? WHERE id = ?", (now, row["id"]))


def add_comment(
    db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row, actor: Actor, *, body: str, now: str
) -> sqlite3.Row:
    """Write a comment."""
    author = account.ensure(db, actor.login, now)["login"]
    cursor = db.execute(
        "INSERT INTO comment (issue_id, author, association, body, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (row["id"], author, account.association(actor, repo["owner"]), body, now, now),
    )
    db.execute("UPDATE issue SET comments = comments + 1, updated_at = ? WHERE id = ?", (now, row["id"]))
    comment: sqlite3.Row = db.execute("SELECT * FROM comment WHERE id = ?", (cursor.lastrowid,)).fetchone()
    return comment


def comments(
    db: sqlite3.Connection, row: sqlite3.Row, limit: int, offset: int, since: str = ""
) -> tuple[list[sqlite3.Row], int]:
    """One page of comments, oldest first, and how many there are."""
    total = db.execute(
        "SELECT count(*) FROM comment WHERE issue_id = ? AND updated_at >= ?", (row["id"], since)
    ).fetchone()[0]
    rows = db.execute(
        "SELECT * FROM comment WHERE issue_id = ? AND updated_at >= ? ORDER BY id LIMIT ? OFFSET ?",
        (row["id"], since, limit, offset),
    ).fetchall()
    return rows, int(total)


def find_comment(db: sqlite3.Connection, repo: sqlite3.Row, comment_id: int) -> sqlite3.Row:
    """One comment of a repository, by its id.

    Raises:
        Refusal: 404.
    """
    row: sqlite3.Row | None = db.execute(
        "SELECT comment.*, issue.number FROM comment JOIN issue ON issue.id = issue_id"
        " WHERE comment.id = ? AND repository_id = ?",
        (comment_id, repo["id"]),
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def ensure_label(
    db: sqlite3.Connection, repo: sqlite3.Row, text: str, color: str | None = None, description: str = ""
) -> sqlite3.Row:
    """The label of this name, made where it is missing; its colour comes from its name by default."""
    checked = name.label(text)
    shade = name.color(color) if color else hashlib.sha256(checked.lower().encode()).hexdigest()[:6]
    db.execute(
        "INSERT OR IGNORE INTO label (repository_id, name, color, description) VALUES (?, ?, ?, ?)",
        (repo["id"], checked, shade, name.visible(description)[:100]),
    )
    row: sqlite3.Row = db.execute(
        "SELECT * FROM label WHERE repository_id = ? AND name = ?", (repo["id"], checked)
    ).fetchone()
    return row


def labels(db: sqlite3.Connection, row: sqlite3.Row) -> list[sqlite3.Row]:
    """Labels on an issue, by name."""
    return db.execute(
        "SELECT label.* FROM label JOIN issue_label ON label.id = label_id WHERE issue_id = ? ORDER BY name",
        (row["id"],),
    ).fetchall()


def labels_of(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> Mapping[int, list[sqlite3.Row]]:
    """Labels on many issues, by the issue's row id and then by name: one question for a whole page."""
    found: dict[int, list[sqlite3.Row]] = defaultdict(list)
    query = (
        "SELECT issue_id, label.* FROM label JOIN issue_label ON label.id = label_id"
        " WHERE issue_id IN (SELECT value FROM json_each(?)) ORDER BY issue_id, name"
    )
    for label in db.execute(query, (_ids(rows),)):
        found[label["issue_id"]].append(label)
    return found


def assignees_of(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> Mapping[int, list[str]]:
    """Who many issues are assigned to, by the issue's row id, in one question."""
    found: dict[int, list[str]] = defaultdict(list)
    query = (
        "SELECT issue_id, login FROM assignee"
        " WHERE issue_id IN (SELECT value FROM json_each(?)) ORDER BY issue_id, login"
    )
    for number, login in db.execute(query, (_ids(rows),)):
        found[number].append(login)
    return found


def _ids(rows: Sequence[sqlite3.Row]) -> str:
    return json.dumps([row["id"] for row in rows])


def add_labels(db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row, names: Iterable[str]) -> list[str]:
    """Put labels on an issue; returns those that were not there before.

    Raises:
        Refusal: 422 above ``LABELS_PER_ISSUE_MAX``.
    """
    added = []
    for text in names:
        label = ensure_label(db, repo, text)
        done = db.execute("INSERT OR IGNORE INTO issue_label VALUES (?, ?)", (row["id"], label["id"]))
        if done.rowcount:
            added.append(label["name"])
    if len(labels(db, row)) > LABELS_PER_ISSUE_MAX:
        raise invalid("Issue", "labels", f"an issue takes {LABELS_PER_ISSUE_MAX} labels at most")
    return added


def remove_label(db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row, text: str) -> None:
    """Take one label off an issue.

    Raises:
        Refusal: 404, it is not on it (GitHub's "Label does not exist").
    """
    done = db.execute(
        "DELETE FROM issue_label WHERE issue_id = ? AND label_id ="
        " (SELECT id FROM label WHERE repository_id = ? AND name = ?)",
        (row["id"], repo["id"], text),
    )
    if done.rowcount == 0:
        raise Refusal(404, "Label does not exist")


def clear_labels(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Take all labels off an issue."""
    db.execute("DELETE FROM issue_label WHERE issue_id = ?", (row["id"],))


def assignees(db: sqlite3.Connection, row: sqlite3.Row) -> list[str]:
    """Who an issue is assigned to, by login."""
    rows = db.execute("SELECT login FROM assignee WHERE issue_id = ? ORDER BY login", (row["id"],)).fetchall()
    return [found["login"] for found in rows]


def add_assignees(db: sqlite3.Connection, row: sqlite3.Row, logins: Sequence[str], now: str) -> None:
    """Assign; those already there stay, and beyond ``ASSIGNEES_MAX`` none is added (GitHub's silence)."""
    for login in logins:
        if len(assignees(db, row)) < ASSIGNEES_MAX:
            account.ensure(db, login, now)
            db.execute("INSERT OR IGNORE INTO assignee VALUES (?, ?)", (row["id"], login))


def remove_assignees(db: sqlite3.Connection, row: sqlite3.Row, logins: Sequence[str]) -> None:
    """Unassign; those not there are ignored."""
    for login in logins:
        db.execute("DELETE FROM assignee WHERE issue_id = ? AND login = ?", (row["id"], login))

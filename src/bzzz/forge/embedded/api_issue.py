"""The API's endpoints for issues, comments, labels and assignees."""

from __future__ import annotations

import re
import sqlite3

from bzzz.forge.embedded import issue, name, pull
from bzzz.forge.embedded.account import Scope
from bzzz.forge.embedded.call import Answer, Call, Handler
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found
from bzzz.forge.embedded.shape import Json

_SINCE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+]00:00)")
_STATES = ("open", "closed", "all")


def state_of(call: Call) -> str:
    """The ``state`` that is asked for.

    Raises:
        Refusal: 422.
    """
    state = call.query.get("state", "open")
    if state not in _STATES:
        raise invalid("Issue", "state", f"state must be one of {', '.join(_STATES)}", "invalid")
    return state


def _since(call: Call) -> str:
    text = call.query.get("since", "")
    if text and not _SINCE.fullmatch(text):
        raise invalid("Issue", "since", "since must be a time such as 2026-01-31T12:00:00Z", "invalid")
    return text[:19] + "Z" if text else ""


def tell_change(
    call: Call, db: sqlite3.Connection, repo: sqlite3.Row, number: int, action: str, **extra: object
) -> Json:
    """Tell webhooks that an issue or pull request changed; gives its shape as an issue."""
    row = issue.find(db, repo, number)
    value = call.forge.herald.issue(db, repo, row)
    if row["is_pull"]:
        shape = call.forge.herald.pull(db, repo, pull.find(db, repo, number))
        told = {"action": action, "number": number, "pull_request": shape, **extra}
        call.forge.herald.tell(db, repo, call.actor, "pull_request", told)
    else:
        call.forge.herald.tell(db, repo, call.actor, "issues", {"action": action, "issue": value, **extra})
    return value


def list_issues(call: Call) -> Answer:
    """``GET .../issues``: pull requests are among them, as on GitHub."""
    query = call.query
    wanted = issue.Filter(
        state=state_of(call),
        labels=tuple(each for each in query.get("labels", "").split(",") if each),
        since=_since(call),
        assignee=query.get("assignee", ""),
        creator=query.get("creator", ""),
        sort=query.get("sort", "created"),
        ascending=query.get("direction") == "asc",
    )
    with call.forge.store.read() as db:
        repo = call.repo(db)
        rows, total = issue.select(db, repo, wanted, *call.window())
        return call.paged(call.forge.herald.issues(db, repo, rows), total)


def create_issue(call: Call) -> Answer:
    """``POST .../issues``; labels and assignees of who may not push are dropped in silence, as on GitHub."""
    title, body = call.field("title", str), call.field("body", str, "")
    with call.forge.store.read() as db:
        repo = call.repo(db)
    value = call.forge.create_issue(
        repo["owner"], repo["name"], title, body,
        labels=call.names("labels"), assignees=call.names("assignees"), actor=call.actor,
    )  # fmt: skip
    return Answer(value, 201, {"Location": value["url"]})


def get_issue(call: Call) -> Answer:
    """``GET .../issues/{number}``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        return Answer(call.forge.herald.issue(db, repo, issue.find(db, repo, call.path["number"])))


def _may_edit(call: Call, author: str) -> None:
    """Whoever may write, and a text's own author.

    Raises:
        Refusal: 403.
    """
    if call.actor.scope < Scope.WRITE and call.actor.login.lower() != author.lower():
        raise Refusal(403, "Resource not accessible by personal access token")


def patch_issue(call: Call) -> Answer:
    """``PATCH .../issues/{number}``: title, text, state, labels, assignees."""
    title, body, state = (call.field(key, str, None) for key in ("title", "body", "state"))
    issue.check_text(call.forge.settings, "Issue", title, body)
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        _may_edit(call, row["author"])
        changed = issue.change(
            db, row, call.actor, call.forge.now(), title=title, body=body, state=state,
            reason=call.field("state_reason", str, None),
        )  # fmt: skip
        if call.actor.scope >= Scope.WRITE:
            if "labels" in call.body:
                issue.clear_labels(db, row)
                issue.add_labels(db, repo, row, call.names("labels"))
            if "assignees" in call.body:
                issue.remove_assignees(db, row, issue.assignees(db, row))
                issue.add_assignees(db, row, call.names("assignees"), call.forge.now())
        action = "edited"
        if changed["state"] != row["state"]:
            action = "closed" if changed["state"] == "closed" else "reopened"
        return Answer(tell_change(call, db, repo, row["number"], action))


def list_comments(call: Call) -> Answer:
    """``GET .../issues/{number}/comments``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        rows, total = issue.comments(db, row, *call.window(), since=_since(call))
    return call.paged([call.forge.shape.comment(repo, row["number"], each) for each in rows], total)


def create_comment(call: Call) -> Answer:
    """``POST .../issues/{number}/comments``."""
    body = call.field("body", str, resource="IssueComment")
    with call.forge.store.read() as db:
        repo = call.repo(db)
    number = call.path["number"]
    return Answer(call.forge.create_comment(repo["owner"], repo["name"], number, body, actor=call.actor), 201)


def get_comment(call: Call) -> Answer:
    """``GET .../issues/comments/{id}``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        row = issue.find_comment(db, repo, call.path["comment_id"])
    return Answer(call.forge.shape.comment(repo, row["number"], row))


def patch_comment(call: Call) -> Answer:
    """``PATCH .../issues/comments/{id}``."""
    body = call.field("body", str, resource="IssueComment")
    issue.check_text(call.forge.settings, "IssueComment", None, body)
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find_comment(db, repo, call.path["comment_id"])
        _may_edit(call, row["author"])
        db.execute("UPDATE comment SET body = ?, updated_at = ? WHERE id = ?", (body, call.forge.now(), row["id"]))
        row = issue.find_comment(db, repo, row["id"])
        return Answer(call.forge.shape.comment(repo, row["number"], row))


def delete_comment(call: Call) -> Answer:
    """``DELETE .../issues/comments/{id}``."""
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find_comment(db, repo, call.path["comment_id"])
        _may_edit(call, row["author"])
        db.execute("DELETE FROM comment WHERE id = ?", (row["id"],))
        db.execute("UPDATE issue SET comments = comments - 1 WHERE id = ?", (row["issue_id"],))
    return Answer(status=204)


def _labels_of(call: Call, db: sqlite3.Connection, repo: sqlite3.Row, row: sqlite3.Row) -> list[Json]:
    return [call.forge.shape.label(repo, label) for label in issue.labels(db, row)]


def issue_labels(call: Call) -> Answer:
    """``GET .../issues/{number}/labels``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        return Answer(_labels_of(call, db, repo, issue.find(db, repo, call.path["number"])))


def add_labels(call: Call) -> Answer:
    """``POST .../issues/{number}/labels``; ``PUT`` replaces."""
    names = call.names("labels")
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        for added in issue.add_labels(db, repo, row, names):
            issue.touch(db, row, call.forge.now())
            label = call.forge.shape.label(repo, issue.ensure_label(db, repo, added))
            tell_change(call, db, repo, row["number"], "labeled", label=label)
        return Answer(_labels_of(call, db, repo, row))


def set_labels(call: Call) -> Answer:
    """``PUT .../issues/{number}/labels``."""
    names = call.names("labels")
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        issue.clear_labels(db, row)
        issue.add_labels(db, repo, row, names)
        issue.touch(db, row, call.forge.now())
        tell_change(call, db, repo, row["number"], "labeled")
        return Answer(_labels_of(call, db, repo, row))


def remove_label(call: Call) -> Answer:
    """``DELETE .../issues/{number}/labels/{label}``."""
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        text = call.path["label"]
        issue.remove_label(db, repo, row, text)
        issue.touch(db, row, call.forge.now())
        tell_change(call, db, repo, row["number"], "unlabeled", label={"name": text})
        return Answer(_labels_of(call, db, repo, row))


def repository_labels(call: Call) -> Answer:
    """``GET .../labels``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        rows = db.execute("SELECT * FROM label WHERE repository_id = ? ORDER BY name", (repo["id"],)).fetchall()
    limit, offset = call.window()
    return call.paged([call.forge.shape.label(repo, row) for row in rows[offset : offset + limit]], len(rows))


def create_label(call: Call) -> Answer:
    """``POST .../labels``."""
    text = name.label(call.field("name", str, resource="Label"))
    with call.forge.store.write() as db:
        repo = call.repo(db)
        found = db.execute(
            "SELECT 1 FROM label WHERE repository_id = ? AND name = ?", (repo["id"], text)
        ).fetchone()
        if found:
            raise invalid("Label", "name", f"there is a label {text} already", "already_exists")
        color = call.field("color", str, None)
        row = issue.ensure_label(db, repo, text, color, call.field("description", str, ""))
        return Answer(call.forge.shape.label(repo, row), 201)


def get_label(call: Call) -> Answer:
    """``GET .../labels/{label}``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        row = db.execute(
            "SELECT * FROM label WHERE repository_id = ? AND name = ?", (repo["id"], call.path["label"])
        ).fetchone()
        if row is None:
            raise not_found()
        return Answer(call.forge.shape.label(repo, row))


def delete_label(call: Call) -> Answer:
    """``DELETE .../labels/{label}``."""
    with call.forge.store.write() as db:
        repo = call.repo(db)
        done = db.execute(
            "DELETE FROM label WHERE repository_id = ? AND name = ?", (repo["id"], call.path["label"])
        )
        if not done.rowcount:
            raise not_found()
    return Answer(status=204)


def add_assignees(call: Call) -> Answer:
    """``POST .../issues/{number}/assignees``."""
    logins = call.names("assignees")
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        issue.add_assignees(db, row, logins, call.forge.now())
        issue.touch(db, row, call.forge.now())
        return Answer(tell_change(call, db, repo, row["number"], "assigned"), 201)


def remove_assignees(call: Call) -> Answer:
    """``DELETE .../issues/{number}/assignees``."""
    logins = call.names("assignees")
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = issue.find(db, repo, call.path["number"])
        issue.remove_assignees(db, row, logins)
        issue.touch(db, row, call.forge.now())
        return Answer(tell_change(call, db, repo, row["number"], "unassigned"))


_R = "/repos/{owner}/{name}"
_I = f"{_R}/issues/{{number:int}}"

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", f"{_R}/issues", Scope.NONE, list_issues),
    ("POST", f"{_R}/issues", Scope.ISSUE, create_issue),
    ("GET", f"{_R}/issues/comments/{{comment_id:int}}", Scope.NONE, get_comment),
    ("PATCH", f"{_R}/issues/comments/{{comment_id:int}}", Scope.ISSUE, patch_comment),
    ("DELETE", f"{_R}/issues/comments/{{comment_id:int}}", Scope.ISSUE, delete_comment),
    ("GET", _I, Scope.NONE, get_issue),
    ("PATCH", _I, Scope.ISSUE, patch_issue),
    ("GET", f"{_I}/comments", Scope.NONE, list_comments),
    ("POST", f"{_I}/comments", Scope.ISSUE, create_comment),
    ("GET", f"{_I}/labels", Scope.NONE, issue_labels),
    ("POST", f"{_I}/labels", Scope.WRITE, add_labels),
    ("PUT", f"{_I}/labels", Scope.WRITE, set_labels),
    ("DELETE", f"{_I}/labels/{{label:path}}", Scope.WRITE, remove_label),
    ("POST", f"{_I}/assignees", Scope.WRITE, add_assignees),
    ("DELETE", f"{_I}/assignees", Scope.WRITE, remove_assignees),
    ("GET", f"{_R}/labels", Scope.NONE, repository_labels),
    ("POST", f"{_R}/labels", Scope.WRITE, create_label),
    ("GET", f"{_R}/labels/{{label:path}}", Scope.NONE, get_label),
    ("DELETE", f"{_R}/labels/{{label:path}}", Scope.WRITE, delete_label),
)

"""The API's endpoints for pull requests."""

from __future__ import annotations

import sqlite3

from bzzz.forge.embedded import issue, name, pull
from bzzz.forge.embedded.account import Scope
from bzzz.forge.embedded.api_issue import state_of, tell_change
from bzzz.forge.embedded.call import Answer, Call, Handler
from bzzz.forge.embedded.refusal import invalid, not_found
from bzzz.forge.embedded.shape import Json


def list_pulls(call: Call) -> Answer:
    """``GET .../pulls`` (``head=owner:branch``, ``base``, ``state``)."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        head = pull.head_branch(call.query.get("head", ""), repo["owner"])
        if head is None:
            return call.paged([], 0)
        limit, offset = call.window()
        rows, total = pull.select(
            db, repo, state=state_of(call), head=head, base=call.query.get("base", ""),
            ascending=call.query.get("direction") == "asc", limit=limit, offset=offset,
        )  # fmt: skip
        return call.paged([call.forge.herald.pull(db, repo, row) for row in rows], total)


def create_pull(call: Call) -> Answer:
    """``POST .../pulls``."""
    resource = "PullRequest"
    title, body = call.field("title", str, resource=resource), call.field("body", str, "", resource)
    issue.check_text(call.forge.settings, resource, title, body)
    base = name.branch(call.field("base", str, resource=resource), "base")
    with call.forge.store.read() as db:
        repo = call.repo(db)
    head = pull.head_branch(call.field("head", str, resource=resource), repo["owner"])
    if head is None:
        raise invalid(resource, "head", "head must be a branch of this repository", "invalid")
    git, path = call.forge.git, call.forge.folder(repo)
    shas = pull.check(git, path, base, name.branch(head, "head"))
    with call.forge.store.write() as db:
        draft = call.field("draft", bool, False)
        row = pull.add(
            db, repo, call.actor, (title, body), call.forge.now(), base=base, head=head, shas=shas, draft=draft
        )
        pull.keep_head(git, path, row["number"], shas[1])
        value = call.forge.herald.pull(db, repo, row)
        told = {"action": "opened", "number": row["number"], "pull_request": value}
        call.forge.herald.tell(db, repo, call.actor, "pull_request", told)
    return Answer(_detail(call, repo, row, value), 201, {"Location": value["url"]})


def _detail(call: Call, repo: sqlite3.Row, row: sqlite3.Row, value: Json) -> Json:
    git, path = call.forge.git, call.forge.folder(repo)
    mergeable = None
    if row["state"] == "open":
        base = (
            git.run(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{row['base_ref']}").out.decode().strip()
        )
        mergeable = bool(base) and pull.merged_tree(git, path, base, row["head_sha"]) is not None
    changes = pull.files(git, path, row, call.forge.settings.diff_bytes_max)
    return {
        **call.forge.shape.pull_detail(value, row, mergeable, changes),
        "commits": len(pull.commits(git, path, row)),
    }


def _pull(call: Call) -> tuple[sqlite3.Row, sqlite3.Row, Json]:
    with call.forge.store.read() as db:
        repo = call.repo(db)
        row = pull.find(db, repo, call.path["number"])
        return repo, row, call.forge.herald.pull(db, repo, row)


def get_pull(call: Call) -> Answer:
    """``GET .../pulls/{number}``; as a diff where ``Accept`` asks for one."""
    repo, row, value = _pull(call)
    if ".diff" in call.accept:
        body = pull.diff(call.forge.git, call.forge.folder(repo), row, call.forge.settings.diff_bytes_max)
        return Answer(body=body, content_type="application/vnd.github.diff; charset=utf-8")
    return Answer(_detail(call, repo, row, value))


def patch_pull(call: Call) -> Answer:
    """``PATCH .../pulls/{number}``: title, text, state."""
    title, body, state = (call.field(key, str, None) for key in ("title", "body", "state"))
    issue.check_text(call.forge.settings, "PullRequest", title, body)
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = pull.find(db, repo, call.path["number"])
        if state == "open" and row["merged_at"]:
            raise invalid("PullRequest", "state", "a merged pull request cannot be reopened", "invalid")
        changed = issue.change(db, row, call.actor, call.forge.now(), title=title, body=body, state=state)
        action = "edited"
        if changed["state"] != row["state"]:
            action = "closed" if changed["state"] == "closed" else "reopened"
        tell_change(call, db, repo, row["number"], action)
    repo, row, value = _pull(call)
    return Answer(_detail(call, repo, row, value))


def pull_files(call: Call) -> Answer:
    """``GET .../pulls/{number}/files``."""
    repo, row, _ = _pull(call)
    changes = pull.files(call.forge.git, call.forge.folder(repo), row, call.forge.settings.diff_bytes_max)
    limit, offset = call.window()
    shapes = [call.forge.shape.file(repo, row["head_sha"], each) for each in changes[offset : offset + limit]]
    return call.paged(shapes, len(changes))


def pull_commits(call: Call) -> Answer:
    """``GET .../pulls/{number}/commits``, oldest first."""
    repo, row, _ = _pull(call)
    found = pull.commits(call.forge.git, call.forge.folder(repo), row)
    limit, offset = call.window()
    return call.paged([call.forge.shape.commit(repo, each) for each in found[offset : offset + limit]], len(found))


def is_merged(call: Call) -> Answer:
    """``GET .../pulls/{number}/merge``: 204 merged, 404 not."""
    _repo, row, _ = _pull(call)
    if row["merged_at"] is None:
        raise not_found()
    return Answer(status=204)


def merge_pull(call: Call) -> Answer:
    """``PUT .../pulls/{number}/merge``."""
    repo, row, _ = _pull(call)
    commit = call.forge.merge_pull(
        repo, row["number"], call.actor, sha=call.field("sha", str, ""),
        method=call.field("merge_method", str, "merge"), title=call.field("commit_title", str, ""),
        message=call.field("commit_message", str, None),
    )  # fmt: skip
    return Answer({"sha": commit, "merged": True, "message": "Pull Request successfully merged"})


def ask_reviewers(call: Call) -> Answer:
    """``POST .../pulls/{number}/requested_reviewers``."""
    logins = call.names("reviewers")
    with call.forge.store.write() as db:
        repo = call.repo(db)
        row = pull.find(db, repo, call.path["number"])
        pull.ask_reviewers(db, row, logins, call.forge.now())
        value = call.forge.herald.pull(db, repo, row)
        told = {"action": "review_requested", "number": row["number"], "pull_request": value}
        call.forge.herald.tell(db, repo, call.actor, "pull_request", told)
    return Answer(value, 201)


_R = "/repos/{owner}/{name}"
_P = f"{_R}/pulls/{{number:int}}"

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", f"{_R}/pulls", Scope.NONE, list_pulls),
    ("POST", f"{_R}/pulls", Scope.WRITE, create_pull),
    ("GET", _P, Scope.NONE, get_pull),
    ("PATCH", _P, Scope.WRITE, patch_pull),
    ("GET", f"{_P}/files", Scope.NONE, pull_files),
    ("GET", f"{_P}/commits", Scope.NONE, pull_commits),
    ("POST", f"{_P}/requested_reviewers", Scope.WRITE, ask_reviewers),
    ("GET", f"{_P}/merge", Scope.NONE, is_merged),
    ("PUT", f"{_P}/merge", Scope.WRITE, merge_pull),
)

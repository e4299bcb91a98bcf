"""The API's endpoints for what git holds: branches, commits, refs, contents, and statuses of commits."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from bzzz.forge.embedded import account, name, repository
from bzzz.forge.embedded.account import Scope
from bzzz.forge.embedded.call import Answer, Call, Handler
from bzzz.forge.embedded.pktline import ZERO_ID, RefUpdate
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found

STATES = ("error", "failure", "pending", "success")


def _git(call: Call) -> tuple[sqlite3.Row, Path]:
    with call.forge.store.read() as db:
        repo = call.repo(db)
    return repo, call.forge.folder(repo)


def list_branches(call: Call) -> Answer:
    """``GET .../branches``."""
    repo, path = _git(call)
    found = list(repository.refs(call.forge.git, path, "refs/heads/").items())
    limit, offset = call.window()
    shapes = [
        call.forge.shape.branch(repo, ref.removeprefix("refs/heads/"), sha)
        for ref, sha in found[offset : offset + limit]
    ]
    return call.paged(shapes, len(found))


def get_branch(call: Call) -> Answer:
    """``GET .../branches/{branch}``."""
    repo, path = _git(call)
    branch = call.path["branch"]
    sha = (
        repository.resolve(call.forge.git, path, f"refs/heads/{branch}")
        if name.is_ref(f"refs/heads/{branch}")
        else None
    )
    if sha is None:
        raise Refusal(404, "Branch not found")
    info = repository.log(call.forge.git, path, sha, 1)[0]
    return Answer({**call.forge.shape.branch(repo, branch, sha), "commit": call.forge.shape.commit(repo, info)})


def list_commits(call: Call) -> Answer:
    """``GET .../commits`` (``sha`` names a branch or commit to begin at)."""
    repo, path = _git(call)
    git = call.forge.git
    if not repository.refs(git, path, "refs/heads/"):
        raise Refusal(409, "Git Repository is empty.")
    start = repository.resolve_commit(git, path, call.query.get("sha", ""), repo["default_branch"])
    limit, offset = call.window()
    commits = repository.log(git, path, start, limit, f"--skip={int(offset)}")
    total = int(git.text(path, "rev-list", "--count", start))
    return call.paged([call.forge.shape.commit(repo, info) for info in commits], total)


def get_commit(call: Call) -> Answer:
    """``GET .../commits/{ref}``."""
    repo, path = _git(call)
    sha = repository.resolve_commit(call.forge.git, path, call.path["ref"], repo["default_branch"])
    return Answer(call.forge.shape.commit(repo, repository.log(call.forge.git, path, sha, 1)[0]))


def get_ref(call: Call) -> Answer:
    """``GET .../git/ref/{ref}``."""
    repo, path = _git(call)
    ref = f"refs/{call.path['ref']}"
    sha = repository.resolve(call.forge.git, path, ref) if name.is_ref(ref) else None
    if sha is None:
        raise not_found()
    kind = call.forge.git.text(path, "cat-file", "-t", sha)
    return Answer(call.forge.shape.ref(repo, ref, sha, kind))


def matching_refs(call: Call) -> Answer:
    """``GET .../git/matching-refs/{prefix}`` and ``.../git/refs``."""
    repo, path = _git(call)
    prefix = f"refs/{call.path.get('ref', '')}"
    found = [
        (ref, sha) for ref, sha in repository.refs(call.forge.git, path, "refs/").items() if ref.startswith(prefix)
    ]
    limit, offset = call.window()
    return call.paged([call.forge.shape.ref(repo, *each) for each in found[offset : offset + limit]], len(found))


def _move(call: Call, repo: sqlite3.Row, ref: str, new: str, old: str) -> None:
    if ref.startswith("refs/pull/"):
        raise invalid("Reference", "ref", "refs/pull is kept by the forge itself")
    repository.update_ref(call.forge.git, call.forge.folder(repo), ref, new, old)
    call.forge.pushed(repo["id"], call.actor, [RefUpdate(ref, old, new)])


def create_ref(call: Call) -> Answer:
    """``POST .../git/refs``."""
    repo, path = _git(call)
    ref, sha = name.ref(call.field("ref", str, resource="Reference")), name.commit(call.field("sha", str))
    if call.forge.git.run(path, "cat-file", "-e", sha).status != 0:
        raise invalid("Reference", "sha", "Object does not exist", "invalid")
    if repository.resolve(call.forge.git, path, ref) is not None:
        raise Refusal(422, "Reference already exists")
    _move(call, repo, ref, sha, ZERO_ID)
    return Answer(call.forge.shape.ref(repo, ref, sha), 201)


def patch_ref(call: Call) -> Answer:
    """``PATCH .../git/refs/{ref}``."""
    repo, path = _git(call)
    ref, sha = f"refs/{call.path['ref']}", name.commit(call.field("sha", str))
    old = repository.resolve(call.forge.git, path, ref) if name.is_ref(ref) else None
    if old is None:
        raise Refusal(422, "Reference does not exist")
    if call.forge.git.run(path, "cat-file", "-e", sha).status != 0:
        raise invalid("Reference", "sha", "Object does not exist", "invalid")
    force = call.field("force", bool, False)
    if not force and call.forge.git.run(path, "merge-base", "--is-ancestor", old, sha).status != 0:
        raise Refusal(422, "Update is not a fast forward")
    _move(call, repo, ref, sha, old)
    return Answer(call.forge.shape.ref(repo, ref, sha))


def delete_ref(call: Call) -> Answer:
    """``DELETE .../git/refs/{ref}``."""
    repo, path = _git(call)
    ref = f"refs/{call.path['ref']}"
    old = repository.resolve(call.forge.git, path, ref) if name.is_ref(ref) else None
    if old is None:
        raise Refusal(422, "Reference does not exist")
    if ref == f"refs/heads/{repo['default_branch']}":
        raise Refusal(422, "Cannot delete the default branch")
    _move(call, repo, ref, ZERO_ID, old)
    return Answer(status=204)


def contents(call: Call) -> Answer:
    """``GET .../contents/{path}``."""
    repo, path = _git(call)
    git, inside = call.forge.git, name.path(call.path.get("path", ""))
    commit = repository.resolve_commit(git, path, call.query.get("ref", ""), repo["default_branch"])
    entries = repository.tree(git, path, commit, inside)
    if len(entries) == 1 and entries[0].path == inside and entries[0].kind == "blob":
        content = repository.blob(git, path, entries[0].sha)
        if "raw" in call.accept:
            return Answer(body=content, content_type="application/vnd.github.raw; charset=utf-8")
        return Answer(call.forge.shape.entry(repo, entries[0], commit, content))
    return Answer([call.forge.shape.entry(repo, entry, commit) for entry in entries])


def create_status(call: Call) -> Answer:
    """``POST .../statuses/{sha}``."""
    state = call.field("state", str, resource="Status")
    if state not in STATES:
        raise invalid("Status", "state", f"state must be one of {', '.join(STATES)}", "inclusion")
    repo, path = _git(call)
    sha = name.commit(call.path["sha"])
    if call.forge.git.run(path, "cat-file", "-e", f"{sha}^{{commit}}").status != 0:
        raise invalid("Status", "sha", f"No commit found for SHA: {sha}")
    with call.forge.store.write() as db:
        login = account.ensure(db, call.actor.login, call.forge.now())["login"]
        cursor = db.execute(
            "INSERT INTO status (repository_id, sha, state, context, description, target_url, author, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                repo["id"], sha, state, name.visible(call.field("context", str, "default"))[:250],
                name.visible(call.field("description", str, ""))[:140] or None,
                call.field("target_url", str, None), login, call.forge.now(),
            ),
        )  # fmt: skip
        row = db.execute("SELECT * FROM status WHERE id = ?", (cursor.lastrowid,)).fetchone()
        value = call.forge.shape.status(repo, row)
        call.forge.herald.tell(
            db, repo, call.actor, "status", {"sha": sha, "state": state, "context": row["context"]}
        )
    return Answer(value, 201)


def _statuses(call: Call) -> tuple[sqlite3.Row, str, list[sqlite3.Row]]:
    repo, path = _git(call)
    sha = repository.resolve_commit(call.forge.git, path, call.path["ref"], repo["default_branch"])
    with call.forge.store.read() as db:
        rows = db.execute(
            "SELECT * FROM status WHERE repository_id = ? AND sha = ? ORDER BY id DESC", (repo["id"], sha)
        )
        return repo, sha, rows.fetchall()


def list_statuses(call: Call) -> Answer:
    """``GET .../commits/{ref}/statuses``, newest first."""
    repo, _sha, rows = _statuses(call)
    limit, offset = call.window()
    return call.paged([call.forge.shape.status(repo, row) for row in rows[offset : offset + limit]], len(rows))


def combined_status(call: Call) -> Answer:
    """``GET .../commits/{ref}/status``: the newest of each context, and the worst of them."""
    repo, sha, rows = _statuses(call)
    newest: dict[str, sqlite3.Row] = {}
    for row in rows:
        newest.setdefault(row["context"], row)
    states = {row["state"] for row in newest.values()}
    worst = "failure" if states & {"error", "failure"} else "pending" if states != {"success"} else "success"
    value = {
        "state": worst, "sha": sha, "total_count": len(newest),
        "statuses": [call.forge.shape.status(repo, row) for row in newest.values()],
        "repository": call.forge.shape.repository(repo),
        "url": f"{call.forge.shape.repo_url(repo)}/commits/{sha}/status",
    }  # fmt: skip
    return Answer(value)


_R = "/repos/{owner}/{name}"

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", f"{_R}/branches", Scope.NONE, list_branches),
    ("GET", f"{_R}/branches/{{branch:path}}", Scope.NONE, get_branch),
    ("GET", f"{_R}/commits", Scope.NONE, list_commits),
    ("GET", f"{_R}/commits/{{ref:path}}/status", Scope.NONE, combined_status),
    ("GET", f"{_R}/commits/{{ref:path}}/statuses", Scope.NONE, list_statuses),
    ("GET", f"{_R}/commits/{{ref:path}}", Scope.NONE, get_commit),
    ("GET", f"{_R}/git/ref/{{ref:path}}", Scope.NONE, get_ref),
    ("GET", f"{_R}/git/matching-refs/{{ref:path}}", Scope.NONE, matching_refs),
    ("GET", f"{_R}/git/refs", Scope.NONE, matching_refs),
    ("POST", f"{_R}/git/refs", Scope.WRITE, create_ref),
    ("PATCH", f"{_R}/git/refs/{{ref:path}}", Scope.WRITE, patch_ref),
    ("DELETE", f"{_R}/git/refs/{{ref:path}}", Scope.WRITE, delete_ref),
    ("GET", f"{_R}/contents", Scope.NONE, contents),
    ("GET", f"{_R}/contents/{{path:path}}", Scope.NONE, contents),
    ("POST", f"{_R}/statuses/{{sha}}", Scope.WRITE, create_status),
    ("GET", f"{_R}/statuses/{{ref}}", Scope.NONE, list_statuses),
)

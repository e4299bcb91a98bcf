"""The API's endpoints for the forge itself, accounts and repositories."""

from __future__ import annotations

import sqlite3

from bzzz.forge.embedded import name, repository
from bzzz.forge.embedded.account import ANONYMOUS, Scope
from bzzz.forge.embedded.call import Answer, Call, Handler
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found


def root(call: Call) -> Answer:
    """``GET /``."""
    api = call.forge.settings.api_url
    return Answer(
        {
            "current_user_url": f"{api}/user",
            "rate_limit_url": f"{api}/rate_limit",
            "repository_url": f"{api}/repos/{{owner}}/{{repo}}",
            "user_url": f"{api}/users/{{user}}",
        }
    )


def meta(_call: Call) -> Answer:
    """``GET /meta``: GitHub Enterprise clients look here for a version."""
    return Answer({"verifiable_password_authentication": False, "installed_version": "3.14.0"})


def user(call: Call) -> Answer:
    """``GET /user``."""
    if call.actor is ANONYMOUS:
        raise Refusal(401, "Requires authentication")
    return Answer({**call.forge.shape.user(call.actor.login), "name": call.actor.login, "email": None})


def some_user(call: Call) -> Answer:
    """``GET /users/{login}``."""
    with call.forge.store.read() as db:
        row = db.execute("SELECT * FROM account WHERE login = ?", (call.path["login"],)).fetchone()
    if row is None:
        raise not_found()
    return Answer({**call.forge.shape.user(row["login"], row["kind"]), "name": row["login"], "email": None})


def _open_issues(db: sqlite3.Connection, repo: sqlite3.Row) -> int:
    row = db.execute("SELECT count(*) FROM issue WHERE repository_id = ? AND state = 'open'", (repo["id"],))
    return int(row.fetchone()[0])


def get_repository(call: Call) -> Answer:
    """``GET /repos/{owner}/{name}``."""
    with call.forge.store.read() as db:
        repo = call.repo(db)
        return Answer(call.forge.shape.repository(repo, _open_issues(db, repo), call.actor.scope))


def list_repositories(call: Call) -> Answer:
    """``GET /user/repos``, ``/orgs/{org}/repos``, ``/users/{login}/repos``: those that the asker may see."""
    owner = call.path.get("login") or call.path.get("org")
    where, values = "(private = 0 OR ?)", [int(call.actor.scope >= Scope.READ)]
    if owner:
        where, values = f"{where} AND owner = ?", [*values, owner]
    with call.forge.store.read() as db:
        total = db.execute(f"SELECT count(*) FROM repository WHERE {where}", values).fetchone()[0]  # noqa: S608
        rows = db.execute(
            f"SELECT * FROM repository WHERE {where} ORDER BY owner, name LIMIT ? OFFSET ?",  # noqa: S608
            [*values, *call.window()],
        ).fetchall()
        shapes = [call.forge.shape.repository(row, _open_issues(db, row), call.actor.scope) for row in rows]
    return call.paged(shapes, total)


def create_repository(call: Call) -> Answer:
    """``POST /user/repos`` and ``/orgs/{org}/repos``."""
    owner = call.path.get("org") or call.actor.login
    title = call.field("name", str, resource="Repository")
    call.forge.create_repository(
        name.owner(owner), title, description=call.field("description", str, ""),
        private=call.field("private", bool, None),
        files={"README.md": f"# {title}\n"} if call.field("auto_init", bool, False) else None,
    )  # fmt: skip
    return Answer(call.forge.shape.repository(call.forge.row(owner, title), 0, call.actor.scope), 201)


def patch_repository(call: Call) -> Answer:
    """``PATCH /repos/{owner}/{name}``: description, visibility, default branch."""
    with call.forge.store.write() as db:
        repo = call.repo(db)
        branch = call.field("default_branch", str, None)
        path = call.forge.folder(repo)
        if branch is not None:
            if repository.resolve(call.forge.git, path, f"refs/heads/{name.branch(branch)}") is None:
                raise invalid("Repository", "default_branch", f"there is no branch {branch}", "invalid")
            call.forge.git.text(path, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        private, text = call.field("private", bool, None), call.field("description", str, None)
        db.execute(
            "UPDATE repository SET default_branch = coalesce(?, default_branch), private = coalesce(?, private),"
            " description = coalesce(?, description), updated_at = ? WHERE id = ?",
            (branch, private, text and name.visible(text)[:350], call.forge.now(), repo["id"]),
        )
        repo = call.repo(db)
        return Answer(call.forge.shape.repository(repo, _open_issues(db, repo), call.actor.scope))


def delete_repository(call: Call) -> Answer:
    """``DELETE /repos/{owner}/{name}``."""
    call.forge.delete_repository(call.path["owner"], call.path["name"])
    return Answer(status=204)


_R = "/repos/{owner}/{name}"

ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", "/", Scope.NONE, root),
    ("GET", "/meta", Scope.NONE, meta),
    ("GET", "/user", Scope.NONE, user),
    ("GET", "/user/repos", Scope.NONE, list_repositories),
    ("POST", "/user/repos", Scope.ADMIN, create_repository),
    ("GET", "/users/{login}", Scope.NONE, some_user),
    ("GET", "/users/{login}/repos", Scope.NONE, list_repositories),
    ("GET", "/orgs/{org}/repos", Scope.NONE, list_repositories),
    ("POST", "/orgs/{org}/repos", Scope.ADMIN, create_repository),
    ("GET", _R, Scope.NONE, get_repository),
    ("PATCH", _R, Scope.ADMIN, patch_repository),
    ("DELETE", _R, Scope.ADMIN, delete_repository),
)

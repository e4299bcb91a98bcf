"""Pages for people: what is in the forge and what became of it, rendered here, without a script.

Everything a stranger wrote is escaped; Markdown is rendered without its HTML, and a content security policy
forbids scripts, frames and foreign images to whatever might still get through.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bzzz.forge.embedded import claim_chain, issue, name, pull, repository
from bzzz.forge.embedded.account import ANONYMOUS, Actor, Scope
from bzzz.forge.embedded.call import NUMBER_MAX
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.refusal import Refusal, not_found
from bzzz.forge.embedded.sign_in import identify

PER_PAGE = 50
COMMENTS_SHOWN_MAX = 500
DIFF_LINES_MAX = 5000
README_CHARS_MAX = 200_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_MARKER = re.compile(r"\s*<!-- bzzz:[0-9a-f]{32} -->\s*$")
"""Bzzz's own mark in its comments; any other hidden text is shown, so that nobody hides words for agents in it."""

_FOLDER = Path(__file__).parent / "pages"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page."""

    forge: EmbeddedForge
    actor: Actor
    path: Mapping[str, Any]
    query: Mapping[str, str]

    def repo(self, db: sqlite3.Connection) -> sqlite3.Row:
        """The repository in the path.

        Raises:
            Refusal: 404; 401 for an anonymous visitor, who may have a token to show.
        """
        try:
            row = repository.find(db, self.path["owner"], self.path["name"])
            if row["private"] and self.actor.scope < Scope.READ:
                raise not_found()
        except Refusal:
            if self.actor is ANONYMOUS:
                private = db.execute("SELECT 1 FROM repository WHERE private = 1").fetchone()
                if private:
                    raise Refusal(401, "There is no such public repository; a token may show more") from None
            raise
        return row

    @property
    def page(self) -> int:
        """The number of the page of a list, from 1."""
        text = self.query.get("page", "1")
        return min(max(int(text), 1), 10_000) if text.isascii() and text.isdigit() and len(text) < 6 else 1


Rendered = tuple[str, dict[str, Any]]
Show = Callable[[Visit], Rendered]


def markdown() -> MarkdownIt:
    """A renderer that lets no HTML and no image through, and marks links as foreign."""
    made = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    made.disable("image")

    def link_open(renderer: Any, tokens: Any, index: int, options: Any, _env: Any) -> str:
        tokens[index].attrSet("rel", "nofollow noopener noreferrer ugc")
        return str(renderer.renderToken(tokens, index, options, _env))

    made.add_render_rule("link_open", link_open)
    return made


def environment(forge: EmbeddedForge) -> jinja2.Environment:
    """The templates, with autoescape on and undefined names an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    renderer = markdown()
    made.filters["markdown"] = lambda text: Markup(renderer.render(name.visible(_MARKER.sub("", text or ""))))  # noqa: S704 - html is off
    made.filters["visible"] = name.visible
    made.filters["day"] = lambda text: str(text or "")[:10]
    made.filters["minute"] = lambda text: str(text or "")[:16].replace("T", " ")
    made.globals["base"] = forge.settings.base_url
    return made


def _home(visit: Visit) -> Rendered:
    allowed = visit.actor.scope >= Scope.READ
    found = [each for each in visit.forge.list_repositories() if allowed or not each.private]
    return "home.html", {"repositories": found}


def _counts(db: sqlite3.Connection, repo: sqlite3.Row) -> dict[str, int]:
    rows = db.execute(
        "SELECT is_pull, state, count(*) AS n FROM issue WHERE repository_id = ? GROUP BY is_pull, state",
        (repo["id"],),
    ).fetchall()
    found = {f"{'pulls' if row['is_pull'] else 'issues'}_{row['state']}": int(row["n"]) for row in rows}
    return {key: found.get(key, 0) for key in ("issues_open", "issues_closed", "pulls_open", "pulls_closed")}


def _repository(visit: Visit) -> Rendered:
    with visit.forge.store.read() as db:
        repo = visit.repo(db)
        counts = _counts(db, repo)
    git, path = visit.forge.git, visit.forge.folder(repo)
    default = f"refs/heads/{repo['default_branch']}"
    branches = {r.removeprefix("refs/heads/"): sha for r, sha in repository.refs(git, path, "refs/heads/").items()}
    commits, entries, readme = [], [], ""
    if repo["default_branch"] in branches:
        commits = repository.log(git, path, default, 10)
        entries = repository.tree(git, path, commits[0].sha, "")
        entries.sort(key=lambda entry: (entry.kind != "tree", entry.path))
        for entry in entries:
            if entry.path.lower() in ("readme.md", "readme") and (entry.size_bytes or 0) < README_CHARS_MAX:
                readme = repository.blob(git, path, entry.sha).decode("utf-8", "replace")
    return "repository.html", {
        "repo": repo, "counts": counts, "branches": branches, "commits": commits, "entries": entries,
        "readme": readme, "clone_url": visit.forge.settings.git_url(repo["owner"], repo["name"]),
    }  # fmt: skip


def _list(visit: Visit, *, pulls: bool) -> Rendered:
    state = visit.query.get("state", "open")
    state = state if state in ("open", "closed", "all") else "open"
    label = visit.query.get("label", "")
    wanted = issue.Filter(state=state, labels=(label,) if label else (), pulls=pulls)
    with visit.forge.store.read() as db:
        repo = visit.repo(db)
        rows, total = issue.select(db, repo, wanted, PER_PAGE, (visit.page - 1) * PER_PAGE)
        items = [
            {
                "row": row,
                "labels": issue.labels(db, row),
                "pull": pull.find(db, repo, row["number"]) if pulls else None,
            }
            for row in rows
        ]
        counts = _counts(db, repo)
    return "list.html", {
        "repo": repo, "counts": counts, "items": items, "total": total, "state": state, "label": label,
        "page": visit.page, "pages": max(1, -(-total // PER_PAGE)), "pulls": pulls,
    }  # fmt: skip


def _issues(visit: Visit) -> Rendered:
    return _list(visit, pulls=False)


def _pulls(visit: Visit) -> Rendered:
    return _list(visit, pulls=True)


def _issue(visit: Visit) -> Rendered:
    with visit.forge.store.read() as db:
        repo = visit.repo(db)
        row = issue.find(db, repo, visit.path["number"])
        if row["is_pull"]:
            raise Refusal(404, f"#{row['number']} is a pull request, at /pull/{row['number']}")
        labels, assignees = issue.labels(db, row), issue.assignees(db, row)
        comments, _ = issue.comments(db, row, COMMENTS_SHOWN_MAX, 0)
        counts = _counts(db, repo)
    chain = claim_chain.read(visit.forge.git, visit.forge.folder(repo), row["number"])
    branches = {link.record.branch for link in chain if link.record and link.record.branch}
    with visit.forge.store.read() as db:
        pulls = [each for branch in sorted(branches) for each in pull.select(db, repo, state="all", head=branch)[0]]
    return "issue.html", {
        "repo": repo, "counts": counts, "row": row, "labels": labels, "assignees": assignees,
        "comments": comments, "chain": chain, "pulls": pulls,
    }  # fmt: skip


def _lines(patch: str) -> list[tuple[str, str]]:
    kinds = {"+": "add", "-": "del", "@": "hunk", " ": "same", "\\": "note"}
    lines = patch.split("\n")
    at = next((i for i, line in enumerate(lines) if line.startswith("@@")), len(lines))
    shown = [(kinds.get(line[:1], "same"), name.visible(line)) for line in lines[at:] if line]
    return shown[:DIFF_LINES_MAX]


def _pull(visit: Visit) -> Rendered:
    with visit.forge.store.read() as db:
        repo = visit.repo(db)
        row = pull.find(db, repo, visit.path["number"])
        labels, assignees = issue.labels(db, row), issue.assignees(db, row)
        comments, _ = issue.comments(db, row, COMMENTS_SHOWN_MAX, 0)
        counts = _counts(db, repo)
        statuses = db.execute(
            "SELECT * FROM status WHERE id IN (SELECT max(id) FROM status WHERE repository_id = ? AND sha = ?"
            " GROUP BY context) ORDER BY context",
            (repo["id"], row["head_sha"]),
        ).fetchall()
    git, path, most = visit.forge.git, visit.forge.folder(repo), visit.forge.settings.diff_bytes_max
    changes = pull.files(git, path, row, most)
    return "pull.html", {
        "repo": repo, "counts": counts, "row": row, "labels": labels, "assignees": assignees, "statuses": statuses,
        "comments": comments, "commits": pull.commits(git, path, row),
        "changes": [(change, _lines(change.patch)) for change in changes],
        "closes": pull.closes(f"{row['title']}\n{row['body']}"),
    }  # fmt: skip


def routes(forge: EmbeddedForge) -> list[BaseRoute]:
    """The routes of all pages."""
    templates = environment(forge)
    css = (_FOLDER / "forge.css").read_bytes()

    async def stylesheet(_request: Request) -> Response:
        return Response(css, media_type="text/css", headers={"Cache-Control": "max-age=300"})

    def endpoint(show: Show) -> Callable[[Request], Any]:
        async def serve(request: Request) -> Response:
            return await asyncio.to_thread(_serve, forge, templates, show, request)

        return serve

    async def diff(request: Request) -> Response:
        return await asyncio.to_thread(_diff, forge, templates, request)

    at = "/{owner}/{name}"
    return [
        Route("/-/forge.css", stylesheet),
        Route("/", endpoint(_home)),
        Route(at, endpoint(_repository)),
        Route(f"{at}/issues", endpoint(_issues)),
        Route(f"{at}/issues/{{number:int}}", endpoint(_issue)),
        Route(f"{at}/pulls", endpoint(_pulls)),
        Route(f"{at}/pull/{{number:int}}", endpoint(_pull)),
        Route(f"{at}/pull/{{number:int}}.diff", diff),
    ]


def _visit(forge: EmbeddedForge, request: Request) -> Visit:
    if request.path_params.get("number", 0) >= NUMBER_MAX:
        raise not_found()
    actor = identify(forge, request.headers.get("authorization"))
    return Visit(forge, actor, request.path_params, request.query_params)


def _serve(forge: EmbeddedForge, templates: jinja2.Environment, show: Show, request: Request) -> Response:
    try:
        template, values = show(_visit(forge, request))
    except Refusal as refusal:
        return _refused(templates, refusal)
    return Response(templates.get_template(template).render(values), 200, HEADERS, media_type="text/html")


def _refused(templates: jinja2.Environment, refusal: Refusal) -> Response:
    body = templates.get_template("refused.html").render(refusal=refusal)
    headers = dict(HEADERS)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="bzzz forge", charset="UTF-8"'
    return Response(body, refusal.status, headers, media_type="text/html")


def _diff(forge: EmbeddedForge, templates: jinja2.Environment, request: Request) -> Response:
    try:
        visit = _visit(forge, request)
        with forge.store.read() as db:
            repo = visit.repo(db)
            row = pull.find(db, repo, visit.path["number"])
        body = pull.diff(forge.git, forge.folder(repo), row, forge.settings.diff_bytes_max)
    except Refusal as refusal:
        return _refused(templates, refusal)
    return Response(body, headers=HEADERS, media_type="text/plain")

"""GitHub's REST interface: what to ask for, and how to read what comes back. Pure.

Serves GitHub, GitHub Enterprise and the embedded forge. Requests are values that ``http`` sends; readers
take parsed JSON from a server that may be broken or hostile, and raise ``ValueError`` that names the field.
Source: GitHub's REST reference, version 2022-11-28.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from bzzz.core.task import Comment, Issue, Pull, Repository

API_VERSION = "2022-11-28"
PER_PAGE = 100
HOOK_EVENTS = ("issue_comment", "issues", "pull_request", "push")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``what`` says in words what it is for; it begins every error message about it."""

    method: str
    url: str
    what: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether it changes anything, and so counts against the limits for writes."""
        return self.method not in ("GET", "HEAD")

    def content(self) -> bytes:
        """The body's bytes."""
        return b"" if self.body is None else json.dumps(self.body, ensure_ascii=False).encode()


def service(api_url: str) -> str:
    """A forge's name in messages."""
    return f"forge {api_url.partition('://')[2].partition('/')[0] or api_url}"


def headers(token: str | None, user_agent: str, etag: str | None = None) -> dict[str, str]:
    """The headers of every request; ``etag`` makes it conditional, quotes and all."""
    found = {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
        "User-Agent": user_agent,
    }
    if token:
        found["Authorization"] = f"Bearer {token}"
    if etag:
        found["If-None-Match"] = etag
    return found


def root(repository: Repository) -> str:
    """The API address of a repository."""
    owner, name = quote(repository.owner, safe=""), quote(repository.repository, safe="")
    return f"{repository.api_url.rstrip('/')}/repos/{owner}/{name}"


def list_issues(repository: Repository, label: str) -> Request:
    """The first page of open issues with a label, oldest first, so that new ones change the last page alone."""
    query = urlencode(
        {"state": "open", "labels": label, "sort": "created", "direction": "asc", "per_page": PER_PAGE}
    )
    return Request("GET", f"{root(repository)}/issues?{query}", f"listing issues of {repository.key}")


def get_issue(repository: Repository, number: int) -> Request:
    """One issue."""
    return Request("GET", f"{root(repository)}/issues/{number:d}", f"reading {repository.key}#{number}")


def list_comments(repository: Repository, number: int) -> Request:
    """The first page of an issue's comments, oldest first."""
    url = f"{root(repository)}/issues/{number:d}/comments?per_page={PER_PAGE}"
    return Request("GET", url, f"listing comments of {repository.key}#{number}")


def create_comment(repository: Repository, number: int, body: str) -> Request:
    """Write a comment."""
    url = f"{root(repository)}/issues/{number:d}/comments"
    return Request("POST", url, f"commenting on {repository.key}#{number}", {"body": body})


def add_labels(repository: Repository, number: int, labels: Sequence[str]) -> Request:
    """Add labels to an issue."""
    url = f"{root(repository)}/issues/{number:d}/labels"
    return Request("POST", url, f"labelling {repository.key}#{number}", {"labels": list(labels)})


def remove_label(repository: Repository, number: int, label: str) -> Request:
    """Take a label off an issue."""
    url = f"{root(repository)}/issues/{number:d}/labels/{quote(label, safe='')}"
    return Request("DELETE", url, f"removing a label of {repository.key}#{number}")


def find_pulls(repository: Repository, branch: str) -> Request:
    """Pull requests from a branch of this repository, newest first."""
    query = urlencode(
        {
            "head": f"{repository.owner}:{branch}",
            "state": "all",
            "sort": "created",
            "direction": "desc",
            "per_page": 10,
        }
    )
    return Request("GET", f"{root(repository)}/pulls?{query}", f"finding the pull request of {branch}")


def list_pulls(repository: Repository) -> Request:
    """The pull requests that changed last, open and closed."""
    query = urlencode({"state": "all", "sort": "updated", "direction": "desc", "per_page": PER_PAGE})
    return Request("GET", f"{root(repository)}/pulls?{query}", f"listing pull requests of {repository.key}")


def create_pull(repository: Repository, *, branch: str, base: str, title: str, body: str) -> Request:
    """Open a pull request."""
    value = {"title": title, "body": body, "head": branch, "base": base}
    return Request("POST", f"{root(repository)}/pulls", f"opening the pull request of {branch}", value)


def ask_reviewers(repository: Repository, number: int, reviewers: Sequence[str]) -> Request:
    """Ask people to review a pull request."""
    url = f"{root(repository)}/pulls/{number:d}/requested_reviewers"
    return Request("POST", url, f"asking for a review of {repository.key}#{number}", {"reviewers": list(reviewers)})


def list_hooks(repository: Repository) -> Request:
    """The webhooks of a repository."""
    return Request("GET", f"{root(repository)}/hooks?per_page={PER_PAGE}", f"listing webhooks of {repository.key}")


def write_hook(repository: Repository, url: str, secret: str, hook_id: int | None) -> Request:
    """Make a webhook, or bring an existing one up to date."""
    config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
    value = {"active": True, "events": list(HOOK_EVENTS), "config": config}
    what = f"setting a webhook of {repository.key}"
    if hook_id is None:
        return Request("POST", f"{root(repository)}/hooks", what, {"name": "web", **value})
    return Request("PATCH", f"{root(repository)}/hooks/{hook_id:d}", what, value)


def marker(key: str) -> str:
    """What makes a comment findable again, invisible in rendered Markdown."""
    return f"<!-- bzzz:{hashlib.sha256(key.encode()).hexdigest()[:32]} -->"


def read_issue(value: object) -> Issue:
    """An issue, or a pull request as the issues listing shows it.

    Raises:
        ValueError: a field is missing or has another type.
    """
    found = _mapping(value, "issue")
    return Issue(
        number=_integer(found, "number"),
        title=_text(found, "title"),
        body=_text(found, "body", ""),
        state=_text(found, "state"),
        labels=tuple(
            each if isinstance(each, str) else _text(_mapping(each, "label"), "name")
            for each in _list(found, "labels")
        ),
        assignees=tuple(_text(_mapping(each, "assignee"), "login") for each in _list(found, "assignees")),
        author=_login(found),
        association=_text(found, "author_association", "NONE"),
        url=_text(found, "html_url", ""),
        created_at=_text(found, "created_at", ""),
        updated_at=_text(found, "updated_at", ""),
        comments=_integer(found, "comments", 0),
        is_pull=found.get("pull_request") is not None,
    )


def read_comment(value: object) -> Comment:
    """A comment.

    Raises:
        ValueError: as for ``read_issue``.
    """
    found = _mapping(value, "comment")
    return Comment(
        id=_integer(found, "id"),
        author=_login(found),
        association=_text(found, "author_association", "NONE"),
        body=_text(found, "body", ""),
        created_at=_text(found, "created_at", ""),
    )


def read_pull(value: object) -> Pull:
    """A pull request.

    Raises:
        ValueError: as for ``read_issue``.
    """
    found = _mapping(value, "pull request")
    head, base = _mapping(found.get("head"), "head"), _mapping(found.get("base"), "base")
    return Pull(
        number=_integer(found, "number"),
        url=_text(found, "html_url", ""),
        state=_text(found, "state"),
        head_branch=_text(head, "ref"),
        base_branch=_text(base, "ref"),
        title=_text(found, "title", ""),
        merged=bool(found.get("merged_at") or found.get("merged")),
        head_commit=_text(head, "sha", ""),
    )


def newest_pull(value: object, repository: Repository, branch: str) -> Pull | None:
    """The newest pull request from ``branch`` of ``repository`` itself (a fork may have a branch of that name).

    Raises:
        ValueError: as for ``read_issue``.
    """
    found = [pull for pull in own_pulls(value, repository) if pull.head_branch == branch]
    return max(found, key=lambda pull: pull.number, default=None)


def own_pulls(value: object, repository: Repository) -> list[Pull]:
    """The pull requests of a page whose head is a branch of ``repository`` itself.

    Raises:
        ValueError: as for ``read_issue``.
    """
    found = []
    for each in items(value):
        home = (_mapping(each, "pull request").get("head") or {}).get("repo") or {}
        if str(home.get("full_name", "")).lower() == repository.key.lower():
            found.append(read_pull(each))
    return found


def find_hook(value: object, url: str) -> int | None:
    """The id of the webhook that goes to ``url``.

    Raises:
        ValueError: as for ``read_issue``.
    """
    for each in items(value):
        found = _mapping(each, "webhook")
        if _mapping(found.get("config"), "config").get("url") == url:
            return _integer(found, "id")
    return None


def items(value: object) -> list[object]:
    """A JSON array.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is not an object")
    return value


def _text(value: Mapping[str, Any], key: str, default: str | None = None) -> str:
    found = value.get(key)
    if found is None and default is not None:
        return default
    if not isinstance(found, str):
        raise ValueError(f"{key} is not a string")
    return found


def _integer(value: Mapping[str, Any], key: str, default: int | None = None) -> int:
    found = value.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**63:
        raise ValueError(f"{key} is not a whole number")
    return found


def _list(value: Mapping[str, Any], key: str) -> list[object]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _login(value: Mapping[str, Any]) -> str:
    user = value.get("user")
    return _text(user, "login", "ghost") if isinstance(user, Mapping) else "ghost"

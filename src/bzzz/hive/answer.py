"""Hive's answers, read by a node that does not trust them: status to error, JSON to repositories.

Pure: no HTTP is done here. A predecessor's Hive leaves fields out, a wrong address answers HTML, a hostile
one anything; each becomes one clear error, and one broken repository in a list costs only itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from bzzz.core.task import NO_RULES, ProjectRules, Repository
from bzzz.errors import (
    ServiceConflict,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
)
from bzzz.hive.git_url import check_name, read_git_url
from bzzz.hive.project_setting import read_settings

DETAIL_CHARACTERS_MAX = 200
RETRY_AFTER_S_MAX = 3600.0
REPOSITORIES_MAX = 10_000
BRANCH_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, for the errors: the service's name, the call, and the secret to keep out of them."""

    service: str
    what: str
    secret: str | None = None


def refused(
    asked: Asked, status: int, headers: Mapping[str, str], body: bytes, wall_s: float
) -> ServiceError | None:
    """The error for an answer's status; ``None`` for 2xx.

    Args:
        asked: what was asked.
        status: the HTTP status.
        headers: the answer's headers, case-insensitive or in lower case.
        body: its body, or the beginning of it.
        wall_s: seconds since the epoch, for a ``Retry-After`` that is a date.
    """
    if 200 <= status < 300:
        return None
    detail = describe(asked, body)
    if status == 429:
        after_s = retry_after_s(headers.get("retry-after", ""), wall_s)
        return ServiceLimited(asked.service, asked.what, detail, status, after_s)
    kinds: dict[int, type[ServiceError]] = {
        401: ServiceDenied,
        403: ServiceDenied,
        404: ServiceMissing,
        410: ServiceMissing,
        409: ServiceConflict,
        422: ServiceConflict,
    }
    default = ServiceFaulty if status >= 500 else ServiceNonsense
    return kinds.get(status, default)(asked.service, asked.what, detail, status)


def describe(asked: Asked, body: bytes) -> str:
    """A body's own words in one short, printable line, without the secret."""
    text = body[:4096].decode(errors="replace")
    try:
        value = json.loads(body) if len(body) <= 65536 else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        text = str(value.get("detail") or value.get("error") or value.get("message") or "")
    elif text.lstrip().startswith("<"):
        text = "a page of HTML"
    return one_line(text, asked.secret)


def one_line(text: str, secret: str | None = None) -> str:
    """Foreign text made fit for a log: one line, printable, bounded, without the secret."""
    if secret:
        text = text.replace(secret, "[secret]")
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= DETAIL_CHARACTERS_MAX else line[: DETAIL_CHARACTERS_MAX - 3] + "..."


def retry_after_s(value: str, wall_s: float) -> float | None:
    """Seconds that ``Retry-After`` asks to wait (RFC 9110, 10.2.3), bounded; ``None`` if it says nothing."""
    try:
        seconds = float(value) if value.isascii() and value.strip().isdigit() else None
        if seconds is None:
            seconds = parsedate_to_datetime(value).timestamp() - wall_s
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def parse_json(asked: Asked, body: bytes) -> Any:
    """The body as JSON.

    Raises:
        ServiceNonsense: it is not.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        shown = describe(asked, body) or "an empty body"
        raise ServiceNonsense(asked.service, asked.what, f"not JSON but {shown}") from None


def read_repositories(asked: Asked, value: Any) -> tuple[tuple[Repository, ...], tuple[str, ...]]:
    """Repositories from the answer of ``active-repos``, and why others were left out, a line each.

    Raises:
        ServiceNonsense: the answer is no list of repositories at all.
    """
    entries = value.get("repositories") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ServiceNonsense(asked.service, asked.what, "no list 'repositories' in it")
    found: dict[str, Repository] = {}
    skipped: list[str] = []
    for index, entry in enumerate(entries[:REPOSITORIES_MAX]):
        try:
            repository = read_repository(entry)
        except ValueError as error:
            skipped.append(one_line(f"repository {index}: {error}", asked.secret))
            continue
        if repository is None:
            continue
        if repository.key.lower() in found:
            skipped.append(f"repository {index}: {repository.key} is there twice")
            continue
        found[repository.key.lower()] = repository
    if len(entries) > REPOSITORIES_MAX:
        skipped.append(f"{len(entries) - REPOSITORIES_MAX} repositories above {REPOSITORIES_MAX}")
    return tuple(found.values()), tuple(skipped)


def read_repository(entry: object) -> Repository | None:
    """One entry of ``active-repos``; ``None`` for one that says it is not enabled.

    Raises:
        ValueError: it cannot be used; says which field.
    """
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    if entry.get("bzzz_enabled") is False:
        return None
    project_id = entry.get("project_id")
    if not isinstance(project_id, int) or isinstance(project_id, bool):
        raise ValueError("project_id is not a number")
    git_url = _string(entry, "git_url")
    address = read_git_url(git_url)
    owner = _string(entry, "owner", address.owner) or address.owner
    name = _string(entry, "repository", address.repository) or address.repository
    check_name(owner, "owner")
    check_name(name, "repository")
    branch = _string(entry, "branch", "main") or "main"
    if branch.startswith("-") or not branch.isprintable() or len(branch) > BRANCH_CHARACTERS_MAX:
        raise ValueError("branch is not a branch name")
    return Repository(
        project_id=project_id,
        name=one_line(_string(entry, "name", name) or name),
        owner=owner,
        repository=name,
        git_url=address.url,
        api_url=_api_url(entry, address.api_url),
        branch=branch,
        forge=_string(entry, "forge", "github") or "github",
        private=entry.get("private_repo") is True,
        token_required=entry.get("github_token_required") is True,
        rules=_rules(entry),
    )


def _rules(entry: dict[str, Any]) -> ProjectRules:
    settings = entry.get("settings")
    return read_settings(settings).to_rules() if isinstance(settings, dict) else NO_RULES


def _api_url(entry: dict[str, Any], default: str) -> str:
    url = (_string(entry, "api_url", default) or default).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or not url.isprintable():
        raise ValueError("api_url is not an http or https URL")
    return url


def _string(entry: dict[str, Any], key: str, default: str | None = None) -> str:
    value = entry.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a string")
    return value

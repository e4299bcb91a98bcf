"""What a forge's HTTP answer means: success, which error, how long to wait, which page comes next. Pure.

Sources: GitHub's REST documentation, "Rate limits for the REST API" (primary limit: ``X-RateLimit-Remaining``
is 0; secondary limit: 403 or 429 with ``Retry-After``, or a message that says so), "Using pagination",
RFC 8288 for ``Link``, RFC 9110 for ``Retry-After``.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from bzzz.errors import (
    ServiceConflict,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
)

RETRY_AFTER_DEFAULT_S = 60.0
"""GitHub's advice where a secondary limit names no time."""

RETRY_AFTER_MAX_S = 3600.0
DETAIL_CHARS_MAX = 300
_LINK = re.compile(r'<([^<>]{1,2000})>\s*;\s*rel="?([a-z]{1,20})"?')
_LIMITED = re.compile(r"rate limit|abuse detection|too many requests", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:gh[pousr]_|github_pat_|bzf_)[A-Za-z0-9_]{8,}")


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of the primary limit, as the last answer told it."""

    left: int | None = None
    resets_in_s: float | None = None


def budget(headers: Mapping[str, str], wall_s: float) -> Budget:
    """Read ``X-RateLimit-Remaining`` and ``X-RateLimit-Reset`` (Unix seconds)."""
    left, resets = _number(headers.get("x-ratelimit-remaining")), _number(headers.get("x-ratelimit-reset"))
    return Budget(
        None if left is None else int(left), None if resets is None else max(0.0, min(resets - wall_s, 86_400.0))
    )


def retry_after(headers: Mapping[str, str], wall_s: float) -> float | None:
    """Seconds to wait by ``Retry-After`` (seconds or a date), else until an empty budget is filled again."""
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is None and text:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - wall_s
        except (ValueError, OverflowError):
            seconds = None
    if seconds is None:
        known = budget(headers, wall_s)
        seconds = known.resets_in_s if known.left == 0 else None
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def next_page(headers: Mapping[str, str], url: str, service: str, what: str) -> str | None:
    """The address of the next page.

    Raises:
        ServiceNonsense: it lies on another server, which must not see the token.
    """
    for target, relation in _LINK.findall(headers.get("link", "")):
        if relation == "next":
            found: str = urljoin(url, str(target))
            if origin(found) != origin(url):
                raise ServiceNonsense(service, what, f"its next page is on another server ({_host(found)})")
            return found
    return None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port, for comparing; empty for what is no address."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None


def error(response: Response, service: str, what: str, wall_s: float) -> ServiceError | None:
    """Which error an answer is; ``None`` for success and 304.

    Args:
        response: the answer.
        service: the forge's name for people.
        what: what was asked of it.
        wall_s: Unix seconds, for limits that are told as a time.
    """
    status = response.status
    if 200 <= status < 300 or status == 304:
        return None
    detail = _detail(response)
    wait_s = retry_after(response.headers, wall_s)
    if status == 429 or (status == 403 and (wait_s is not None or _LIMITED.search(detail))):
        known = RETRY_AFTER_DEFAULT_S if wait_s is None else wait_s
        return ServiceLimited(service, what, detail, status, known)
    if status in (401, 403):
        return ServiceDenied(service, what, detail, status)
    if status in (404, 410, 451):
        return ServiceMissing(service, what, detail, status)
    if 300 <= status < 400:
        target = _host(response.headers.get("location", ""))
        return ServiceMissing(service, what, f"it has moved{f' to {target}' if target else ''}", status)
    if status >= 500:
        return ServiceFaulty(service, what, detail, status)
    return ServiceConflict(service, what, detail, status)


def value(response: Response, service: str, what: str) -> Any:
    """The JSON value of a successful answer.

    Raises:
        ServiceNonsense: it is no JSON.
    """
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        kind = response.headers.get("content-type", "no content type")
        raise ServiceNonsense(service, what, f"no JSON but {clean(kind)}", response.status) from None


def clean(text: str) -> str:
    """One short line without control characters and without what looks like a token."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _SECRET.sub("[removed]", line)
    return line if len(line) <= DETAIL_CHARS_MAX else line[: DETAIL_CHARS_MAX - 3] + "..."


def _detail(response: Response) -> str:
    """GitHub's ``message`` and ``errors``, or what kind of thing came instead."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return clean(response.body[:80].decode("utf-8", "replace")) if response.body else ""
    if not isinstance(found, Mapping):
        return ""
    parts = [str(found.get("message", ""))]
    errors = found.get("errors")
    for each in errors[:5] if isinstance(errors, list) else []:
        text = (each.get("message") or each.get("code")) if isinstance(each, Mapping) else each
        parts.append(str(text or ""))
    return clean(": ".join(part for part in parts if part))


def _host(url: str) -> str:
    scheme, host, _ = origin(url)
    return clean(f"{scheme}://{host}") if host else ""


def _number(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    return float(text)

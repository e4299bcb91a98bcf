"""What an HTTP status, and the headers beside it, say of a git server.

Pure. Turns an answer that is not the git protocol's into the error that names who has to act, with a detail
that is short, on one line, and holds no secret. The meaning of a body in the git protocol is left to
``receive_pack`` and ``upload_pack``. Source: RFC 9110; GitHub's documentation for limits answered as 403.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping

from bzzz.errors import (
    ServiceConflict,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
)
from bzzz.gitformat.pktline import plain

DETAIL_CHARACTERS_MAX = 200
RETRY_AFTER_S_MAX = 24 * 3600.0


def retry_after(value: str | None, wall_s: float) -> float | None:
    """Seconds to wait by a ``Retry-After`` header in either form (seconds, or a date), within bounds."""
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text) if text.isascii() and text.isdigit() else _until(text, wall_s)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _until(date: str, wall_s: float) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - wall_s


def status_error(
    service: str, what: str, status: int, *, headers: Mapping[str, str], body: bytes, wall_s: float
) -> ServiceError | None:
    """The error for an answer's status; ``None`` for 200. Header names are in lower case."""
    if status == 200:
        return None
    detail = describe(headers, body)
    limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    if status == 429 or (status == 403 and limited):
        wait_s = retry_after(headers.get("retry-after"), wall_s)
        if wait_s is None and (reset := headers.get("x-ratelimit-reset", "")).isdigit():
            wait_s = min(max(float(reset) - wall_s, 0.0), RETRY_AFTER_S_MAX)
        return ServiceLimited(service, what, detail, status, retry_after_s=wait_s)
    if status in {401, 403}:
        return ServiceDenied(service, what, detail, status)
    if 300 <= status < 400:
        where = plain(headers.get("location", "").encode(), DETAIL_CHARACTERS_MAX)
        if "@" in where.split("?")[0]:
            where = ""
        return ServiceMissing(service, what, f"it has moved to {where or 'another address'}", status)
    if status in {404, 410}:
        return ServiceMissing(service, what, detail, status)
    if status == 408:
        return ServiceUnavailable(service, what, detail, status)
    if 400 <= status < 500:
        return ServiceConflict(service, what, detail, status)
    if status >= 500:
        return ServiceFaulty(service, what, detail, status)
    return ServiceNonsense(service, what, detail, status)


def describe(headers: Mapping[str, str], body: bytes) -> str:
    """What an answer's body says, if it is plain text; a page is only named, for it is made for a browser."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/plain":
        return plain(body, DETAIL_CHARACTERS_MAX)
    return f"answered with {plain(kind.encode(), 80)}" if kind else ""

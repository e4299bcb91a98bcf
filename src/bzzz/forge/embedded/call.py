"""One API request: who asks, what with, and the answer in GitHub's manner.

Turns a plain function from ``Call`` to ``Answer`` into an HTTP endpoint: authentication and scopes, rate
limit headers, bounded JSON bodies, pages with ``Link``, ETags with 304, errors as ``message`` and ``errors``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bzzz.forge.embedded.account import ANONYMOUS, Actor, Scope
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found
from bzzz.forge.embedded.sign_in import identify

log = logging.getLogger(__name__)

PER_PAGE_DEFAULT = 30
PER_PAGE_MAX = 100
PAGE_MAX = 100_000
WINDOW_S = 3600
NUMBER_MAX = 2**53
"""Numbers in paths from here on name nothing (and would not fit into the database)."""

WINDOWS_MAX = 10_000
DOCUMENTATION_URL = "https://docs.github.com/rest"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: JSON ``value``, or ``body`` as it is with its ``content_type``."""

    value: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, authenticated, with its body read."""

    forge: EmbeddedForge
    actor: Actor
    path: Mapping[str, Any]
    query: Mapping[str, str]
    accept: str
    url: str
    body: Mapping[str, Any]

    def repo(self, db: sqlite3.Connection) -> sqlite3.Row:
        """The repository in the path, if the asker may see it.

        Raises:
            Refusal: 404.
        """
        row: sqlite3.Row | None = db.execute(
            "SELECT * FROM repository WHERE owner = ? AND name = ?", (self.path["owner"], self.path["name"])
        ).fetchone()
        if row is None or (row["private"] and self.actor.scope < Scope.READ):
            raise not_found()
        return row

    def field(self, key: str, kind: type, default: Any = _MISSING, resource: str = "Issue") -> Any:
        """A field of the JSON body.

        Raises:
            Refusal: 422, it is missing (and has no default) or has another type.
        """
        value = self.body.get(key)
        if value is None:
            if default is _MISSING:
                raise invalid(resource, key, f"{key} is missing", "missing_field")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise invalid(resource, key, f"{key} must be a {kind.__name__}", "invalid")
        return value

    def names(self, key: str, resource: str = "Issue") -> list[str]:
        """A field that is a list of names, or of objects with a ``name``."""
        found = [each.get("name") if isinstance(each, Mapping) else each for each in self.field(key, list, [])]
        if not all(isinstance(each, str) for each in found):
            raise invalid(resource, key, f"{key} must be a list of names", "invalid")
        return [str(each) for each in found]

    def window(self) -> tuple[int, int]:
        """``LIMIT`` and ``OFFSET`` of the page that is asked for."""
        page, per_page = self._page()
        return per_page, (page - 1) * per_page

    def _page(self) -> tuple[int, int]:
        def number(key: str, default: int, most: int) -> int:
            text = self.query.get(key, "")
            return min(max(int(text), 1), most) if text.isascii() and text.isdigit() and len(text) < 9 else default

        return number("page", 1, PAGE_MAX), number("per_page", PER_PAGE_DEFAULT, PER_PAGE_MAX)

    def paged(self, values: list[Any], total: int) -> Answer:
        """One page, with the ``Link`` header that leads to the others."""
        page, per_page = self._page()
        last = max((total + per_page - 1) // per_page, 1)
        wanted = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page >= last:
            wanted = {key: wanted[key] for key in ("prev", "first")}
        if page <= 1:
            wanted = {key: value for key, value in wanted.items() if key in ("next", "last")}
        links = []
        for relation, number in wanted.items():
            query = urlencode({**self.query, "page": number})
            links.append(f'<{self.url}?{query}>; rel="{relation}"')
        return Answer(values, headers={"Link": ", ".join(links)} if links else {})


Handler = Callable[[Call], Answer]


class RateLimit:
    """Fixed windows of an hour, one a token and one for all who have none; bounded, the oldest go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._windows: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def spend(self, who: int, now_s: float, points: int) -> tuple[bool, dict[str, str]]:
        """Count a request; whether it is allowed, and GitHub's headers that tell the budget."""
        resets, used = self._windows.get(who, (0, 0))
        if now_s >= resets:
            resets, used = int(now_s) + WINDOW_S, 0
        allowed = used + points <= self._limit
        used = min(used + points, self._limit)
        self._windows[who] = (resets, used)
        self._windows.move_to_end(who)
        while len(self._windows) > WINDOWS_MAX:
            self._windows.popitem(last=False)
        return allowed, {
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Remaining": str(self._limit - used),
            "X-RateLimit-Used": str(used),
            "X-RateLimit-Reset": str(resets),
            "X-RateLimit-Resource": "core",
        }

    def refund(self, who: int) -> None:
        """A 304 costs nothing."""
        resets, used = self._windows.get(who, (0, 0))
        self._windows[who] = (resets, max(used - 1, 0))


class Endpoint:
    """Serves ``handler`` to those whose scope is at least ``scope``.

    Args:
        forge: what it works on.
        limit: the rate limit that all endpoints share.
        handler: runs in a thread.
        scope: ``NONE`` stands for whoever may read the repository.
        free: whether calls cost no budget.
    """

    def __init__(
        self, forge: EmbeddedForge, limit: RateLimit, handler: Handler, scope: Scope, *, free: bool
    ) -> None:
        self._forge = forge
        self._limit = limit
        self._handler = handler
        self._scope = scope
        self._free = free

    async def __call__(self, request: Request) -> Response:
        """Answer one request; whatever happens, with JSON."""
        self._forge.counts["api_requests"] += 1
        headers: dict[str, str] = {
            "X-GitHub-Media-Type": "github.v3; format=json",
            "X-Content-Type-Options": "nosniff",
        }
        actor = ANONYMOUS
        try:
            if any(isinstance(value, int) and value >= NUMBER_MAX for value in request.path_params.values()):
                raise not_found()
            actor = await asyncio.to_thread(identify, self._forge, request.headers.get("authorization"))
            points = 0 if self._free else 1
            allowed, told = self._limit.spend(actor.token_id, self._forge.wall_s(), points)
            headers |= told
            if not allowed:
                raise Refusal(403, f"API rate limit exceeded for {actor.login}.")
            headers["X-OAuth-Scopes"] = actor.scope.word if actor is not ANONYMOUS else ""
            call = Call(
                self._forge, actor, request.path_params, dict(request.query_params),
                request.headers.get("accept", ""),
                self._forge.settings.api_url + request.scope["path"].partition("/api/v3")[2],
                await self._body(request),
            )  # fmt: skip
            answer = await asyncio.to_thread(self._worked_out, call)
        except Refusal as refusal:
            answer = _told(refusal)
        except ClientDisconnect:
            answer = _told(Refusal(400, "the request was cut off"))
        except Exception as problem:
            if isinstance(problem, sqlite3.OperationalError):
                log.warning("%s %s: the database says: %s", request.method, request.url.path, problem)
            else:
                log.exception("%s %s failed", request.method, request.url.path)
            self._forge.counts["api_errors"] += 1
            answer = _told(Refusal(500, "this is a fault of the forge; its log says more"))
        return self._response(request, actor, answer, headers)

    def _worked_out(self, call: Call) -> Answer:
        # As bytes, here in the thread: a long listing takes milliseconds, in which the loop serves others.
        answer = self._guarded(call)
        return replace(answer, body=_body(answer))

    def _guarded(self, call: Call) -> Answer:
        if self._scope > Scope.NONE and call.actor.scope < self._scope:
            if "owner" in call.path and "name" in call.path:
                with call.forge.store.read() as db:
                    call.repo(db)  # 404 before 403: who may not look is not told that it is there
            if call.actor is ANONYMOUS:
                raise Refusal(401, "Requires authentication")
            raise Refusal(403, "Resource not accessible by personal access token")
        return self._handler(call)

    async def _body(self, request: Request) -> Mapping[str, Any]:
        if request.method in ("GET", "HEAD"):
            return {}
        most = self._forge.settings.api_body_bytes_max
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise Refusal(413, f"a request body takes {most} bytes at most")
        if not data.strip():
            return {}
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise Refusal(400, "Problems parsing JSON") from None
        if isinstance(value, list) and request.url.path.endswith("/labels"):
            return {"labels": value}
        if not isinstance(value, dict):
            raise Refusal(400, "Body should be a JSON object")
        return value

    def _response(self, request: Request, actor: Actor, answer: Answer, headers: dict[str, str]) -> Response:
        body = _body(answer)
        headers |= answer.headers
        if answer.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="bzzz forge"'
        status = answer.status
        if request.method in ("GET", "HEAD") and status == 200:
            digest = hashlib.sha256(f"{actor.token_id}\n{headers.get('Link', '')}\n".encode() + body).hexdigest()
            headers |= {
                "ETag": f'W/"{digest}"',
                "Cache-Control": "private, max-age=60, s-maxage=60",
                "Vary": "Accept, Authorization",
            }
            asked = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
            if headers["ETag"] in asked or f'"{digest}"' in asked:
                self._limit.refund(actor.token_id)
                status, body = 304, b""
        if status in (204, 304):
            return Response(status_code=status, headers=headers)
        return Response(body, status, headers, media_type=answer.content_type)


def _body(answer: Answer) -> bytes:
    if answer.body is not None:
        return answer.body
    return b"" if answer.status in (204, 205) else json.dumps(answer.value, ensure_ascii=False).encode()


def _told(refusal: Refusal) -> Answer:
    value: dict[str, Any] = {"message": refusal.message, "documentation_url": DOCUMENTATION_URL}
    if refusal.errors:
        value["errors"] = list(refusal.errors)
    value["status"] = str(refusal.status)
    return Answer(value, refusal.status)

"""The ``Forge`` port over GitHub's REST interface: GitHub, GitHub Enterprise and the embedded forge.

Reads are conditional where they repeat; writes are idempotent by what they leave on the forge (a marker in
a comment, the head branch of a pull request), and spaced where GitHub asks for it. A breaker for each forge
holds requests back for as long as the forge wishes. Nothing here decides who has a claim.
"""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin

from bzzz import __version__
from bzzz.core.task import Comment, Issue, Pull, Repository
from bzzz.errors import (
    ServiceConflict,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
)
from bzzz.forge import answer, github
from bzzz.forge.answer import Response
from bzzz.forge.breaker import Breaker
from bzzz.forge.etag_cache import EtagCache
from bzzz.forge.github import Request
from bzzz.forge.http import HttpSender
from bzzz.ports import Clock, IssueListing

GITHUB_WRITE_SPACING_S = 1.0
"""GitHub's advice against its secondary limit: a second between writes."""

REDIRECTS_MAX = 3
COUNTERS = ("requests", "not_modified", "writes", "limited", "held_back", "errors", "truncated")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds of the client.

    Args:
        timeout_s: for one request.
        body_bytes_max: the largest answer.
        pages_max: pages of one listing; what lies beyond is counted as ``truncated``.
        comments_max: comments of one issue that are read.
        write_spacing_s: pause between writes; ``None`` is 1 s on github.com and none elsewhere.
        etag_entries_max: pages whose answers are remembered.
        etag_bytes_max: how much of them.
    """

    timeout_s: float = 20.0
    body_bytes_max: int = 8 * 1024 * 1024
    pages_max: int = 50
    comments_max: int = 1000
    write_spacing_s: float | None = None
    etag_entries_max: int = 512
    etag_bytes_max: int = 32 * 1024 * 1024


@dataclass(slots=True)
class _Server:
    """What is known of one forge: its breaker, and when it was last written to."""

    breaker: Breaker = field(default_factory=Breaker)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_write_ms: int = 0


class GitHubForge:
    """Implements ``bzzz.ports.Forge``.

    Args:
        token_for: the token for a repository, or ``None`` to ask without one; read anew for each request.
        clock: for limits and spacing.
        settings: bounds.
        sleep: how to wait, in seconds.
    """

    def __init__(
        self,
        token_for: Callable[[Repository], str | None],
        clock: Clock,
        settings: ClientSettings | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._token_for = token_for
        self._clock = clock
        self._settings = settings or ClientSettings()
        self._sleep = sleep
        self._http = HttpSender(self._settings.timeout_s, self._settings.body_bytes_max)
        self._cache = EtagCache(self._settings.etag_entries_max, self._settings.etag_bytes_max)
        self._read_pages: OrderedDict[bytes, Sequence[Issue]] = OrderedDict()
        self._servers: dict[str, _Server] = {}
        self._commenting: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))

    # --- the port -------------------------------------------------------------------------------------

    async def list_issues(self, repository: Repository, label: str) -> IssueListing:
        """All open issues with ``label``; labels are checked here again, for a forge may ignore the filter."""
        request = github.list_issues(repository, label)
        issues: list[Issue] = []
        unchanged, last = True, Response(200)
        async for response, known in self._pages(repository, request):
            unchanged, last = unchanged and known, response
            issues += self._page_of_issues(repository, request, response)
        wanted = tuple(
            each
            for each in issues
            if not each.is_pull and each.state == "open" and label.lower() in {x.lower() for x in each.labels}
        )
        left = answer.budget(last.headers, self._clock.wall_s())
        return IssueListing(wanted, unchanged, left.left, left.resets_in_s)

    async def read_issue(self, repository: Repository, number: int) -> Issue:
        """One issue as it stands now."""
        request = github.get_issue(repository, number)
        return self._read(repository, request, await self._send(repository, request), github.read_issue)

    async def list_comments(self, repository: Repository, number: int) -> Sequence[Comment]:
        """Comments of an issue, oldest first, ``comments_max`` at most."""
        request = github.list_comments(repository, number)
        found: list[Comment] = []
        async for response, _ in self._pages(repository, request):
            found += self._read(repository, request, response, _comments)
            if len(found) > self._settings.comments_max:
                self._counts["truncated"] += 1
                return found[: self._settings.comments_max]
        return found

    async def comment(self, repository: Repository, number: int, body: str, *, key: str) -> None:
        """Write a comment, unless one with this ``key`` is there."""
        mark = github.marker(key)
        place = f"{repository.api_url} {repository.key}#{number}"
        lock = self._commenting.setdefault(place, asyncio.Lock())
        async with lock:
            if any(mark in each.body for each in await self.list_comments(repository, number)):
                return
            await self._send(repository, github.create_comment(repository, number, f"{body}\n\n{mark}"))

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        """Add labels; those that are there stay."""
        if labels:
            await self._send(repository, github.add_labels(repository, number, labels))

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        """Remove a label; one that is not there is success, an issue that is not there is not."""
        try:
            await self._send(repository, github.remove_label(repository, number, label))
        except ServiceMissing as missing:
            if "label" not in missing.detail.lower():
                raise

    async def find_pull(self, repository: Repository, branch: str) -> Pull | None:
        """The newest pull request, open or closed, whose head is ``branch`` of this repository."""
        request = github.find_pulls(repository, branch)
        response = await self._send(repository, request)
        return self._read(repository, request, response, lambda v: github.newest_pull(v, repository, branch))

    async def list_pulls(self, repository: Repository) -> Sequence[Pull]:
        """The pull requests that changed last, from branches of this repository; one page."""
        request = github.list_pulls(repository)
        response, _ = await self._conditional(repository, request)
        return self._read(repository, request, response, lambda v: github.own_pulls(v, repository))

    async def open_pull(self, repository: Repository, *, branch: str, base: str, title: str, body: str) -> Pull:
        """Open a pull request, or give the one that ``branch`` has already."""
        found = await self.find_pull(repository, branch)
        if found is not None:
            return found
        request = github.create_pull(repository, branch=branch, base=base, title=title, body=body)
        try:
            response = await self._send(repository, request)
        except ServiceConflict as conflict:
            if conflict.status == 422 and "already exists" in conflict.detail.lower():
                found = await self.find_pull(repository, branch)
                if found is not None:
                    return found
            raise
        return self._read(repository, request, response, github.read_pull)

    async def ask_reviewers(self, repository: Repository, number: int, reviewers: Sequence[str]) -> None:
        """Ask people to review a pull request; who was asked before stays asked."""
        await self._send(repository, github.ask_reviewers(repository, number, reviewers))

    def counters(self) -> Mapping[str, int]:
        """Counts since start: those of ``COUNTERS``, and ``etags_evicted``."""
        return {**self._counts, "etags_evicted": self._cache.evicted}

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    # --- beyond the port --------------------------------------------------------------------------------

    async def ensure_webhook(self, repository: Repository, url: str, secret: str) -> int:
        """Have the forge tell ``url`` of issues, comments, pull requests and pushes; gives the hook's id.

        An existing hook for ``url`` gets the secret and events anew.

        Raises:
            ServiceError: the token may not set webhooks here (it needs administration), ...
        """
        listing = github.list_hooks(repository)
        response = await self._send(repository, listing)
        known = self._read(repository, listing, response, lambda value: github.find_hook(value, url))
        request = github.write_hook(repository, url, secret, known)
        response = await self._send(repository, request)
        return self._read(repository, request, response, _hook_id)

    # --- machinery --------------------------------------------------------------------------------------

    async def _pages(self, repository: Repository, first: Request) -> AsyncIterator[tuple[Response, bool]]:
        """Each page of a listing, and whether it is known from before."""
        url: str | None = first.url
        for _ in range(self._settings.pages_max):
            if url is None:
                return
            request = Request(first.method, url, first.what)
            response, known = await self._conditional(repository, request)
            yield response, known
            url = answer.next_page(response.headers, url, github.service(repository.api_url), first.what)
        if url is not None:
            self._counts["truncated"] += 1

    def _page_of_issues(self, repository: Repository, request: Request, response: Response) -> Sequence[Issue]:
        """A page's issues; of a page that is as it was, the very same, without reading it again."""
        key = hashlib.blake2b(response.body, digest_size=32).digest()
        page = self._read_pages.pop(key, None)
        if page is None:
            page = self._read(repository, request, response, _issues)
        self._read_pages[key] = page
        while len(self._read_pages) > self._settings.etag_entries_max:
            self._read_pages.popitem(last=False)
        return page

    async def _conditional(self, repository: Repository, request: Request) -> tuple[Response, bool]:
        """Read a page, or learn that it is as it was."""
        key = self._cache.key(self._token_for(repository), request.url)
        kept = self._cache.get(key)
        response = await self._send(repository, request, kept[0] if kept else None)
        if response.status == 304 and kept is not None:
            self._counts["not_modified"] += 1
            return Response(200, {**kept[1].headers, **_limits(response.headers)}, kept[1].body), True
        self._cache.put(key, response)
        return response, False

    async def _send(self, repository: Repository, request: Request, etag: str | None = None) -> Response:
        """Send a request past the breaker; reads follow redirects within the same server.

        Raises:
            ServiceError: whatever the answer means, if it is not success.
        """
        server = self._servers.setdefault(repository.api_url, _Server())
        if not request.writes:
            for _ in range(REDIRECTS_MAX):
                response = await self._exchange(server, repository, request, etag)
                if response.status not in (301, 302, 307, 308):
                    break
                target = urljoin(request.url, response.headers.get("location", ""))
                if answer.origin(target) != answer.origin(request.url):
                    break
                request = Request(request.method, target, request.what)
        else:
            async with self._turn(server, repository):
                response = await self._exchange(server, repository, request, None)
        wrong = answer.error(response, github.service(repository.api_url), request.what, self._clock.wall_s())
        if wrong is not None:
            self._counts["errors"] += 1
            raise wrong
        return response

    @asynccontextmanager
    async def _turn(self, server: _Server, repository: Repository) -> AsyncIterator[None]:
        """One write at a time, spaced, where the forge wants that; at once elsewhere."""
        spacing_s = self._settings.write_spacing_s
        if spacing_s is None:
            host = answer.origin(repository.api_url)[1]
            spacing_s = GITHUB_WRITE_SPACING_S if host in ("api.github.com", "github.com") else 0.0
        self._counts["writes"] += 1
        if spacing_s <= 0:
            yield
            return
        async with server.writing:
            wait_ms = server.next_write_ms - self._clock.now_ms()
            if wait_ms > 0:
                await self._sleep(wait_ms / 1000)
            try:
                yield
            finally:
                server.next_write_ms = self._clock.now_ms() + int(spacing_s * 1000)

    async def _exchange(
        self, server: _Server, repository: Repository, request: Request, etag: str | None
    ) -> Response:
        """One request and its answer, whatever it says; the breaker learns from it."""
        service, breaker = github.service(repository.api_url), server.breaker
        wait_s = breaker.wait_s(self._clock.now_ms())
        if wait_s > 0:
            self._counts["held_back"] += 1
            # Without the seconds, which change from one try to the next: it is one trouble, to be told once.
            detail = "not asked: held back after its earlier answers"
            if breaker.asked:
                raise ServiceLimited(service, request.what, detail, None, wait_s)
            raise ServiceUnavailable(service, request.what, detail)
        self._counts["requests"] += 1
        headers = github.headers(self._token_for(repository), f"bzzz/{__version__}", etag)
        try:
            response = await self._http.send(request, headers, service)
        except (ServiceUnavailable, ServiceNonsense):
            self._counts["errors"] += 1
            breaker.failed(self._clock.now_ms())
            raise
        except BaseException:
            breaker.abandoned()
            raise
        wrong = answer.error(response, service, request.what, self._clock.wall_s())
        if isinstance(wrong, ServiceLimited):
            self._counts["limited"] += 1
            breaker.limited(self._clock.now_ms(), wrong.retry_after_s or answer.RETRY_AFTER_DEFAULT_S)
        elif isinstance(wrong, ServiceFaulty):
            breaker.failed(self._clock.now_ms())
        else:
            breaker.answered()
        return response

    def _read(
        self, repository: Repository, request: Request, response: Response, reader: Callable[[Any], _T]
    ) -> _T:
        service = github.service(repository.api_url)
        try:
            return reader(answer.value(response, service, request.what))
        except ValueError as error:
            self._counts["errors"] += 1
            raise ServiceNonsense(service, request.what, str(error), response.status) from None
        except ServiceError:
            self._counts["errors"] += 1
            raise


def _issues(value: object) -> list[Issue]:
    return [github.read_issue(each) for each in github.items(value)]


def _comments(value: object) -> list[Comment]:
    return [github.read_comment(each) for each in github.items(value)]


def _hook_id(value: object) -> int:
    found = value.get("id") if isinstance(value, Mapping) else None
    if not isinstance(found, int):
        raise ValueError("id is not a whole number")
    return found


def _limits(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.startswith("x-ratelimit-")}

"""Whether a repository can be worked on: it is there, and the token may read and write it.

Asked are the forge's REST interface and both services of its git server; nothing is changed. What fails is told by
name, so that a person knows whether to mend the address, the token or its rights. No redirect is followed, since it
would carry the token elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from bzzz.core.task import Repository
from bzzz.hive.answer import one_line

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``exists``, ``read``, ``write``, ``git read`` or ``git write``."""

    what: str
    fine: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {'yes' if self.fine else 'no'}" + (f" ({self.detail})" if self.detail else "")


async def inspect_repository(repository: Repository, token: str | None) -> Sequence[Finding]:
    """Look at one repository with one token, or without any; never raises for what it finds."""
    headers = {"User-Agent": "bzzz", "Accept-Encoding": "identity"}
    async with httpx.AsyncClient(
        headers=headers, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, verify=_certificates()
    ) as client:
        rest, reads, writes = await asyncio.gather(
            _rest(client, repository, token),
            _git(client, repository, token, "git-upload-pack", "git read"),
            _git(client, repository, token, "git-receive-pack", "git write"),
        )
    return [*rest, reads, writes]


@cache
def _certificates() -> ssl.SSLContext:
    # Reading them takes a tenth of a second, in which nobody is served.
    return httpx.create_ssl_context(trust_env=False)


def trouble(findings: Sequence[Finding]) -> str:
    """What is wrong, in one line; empty if nothing is. Where the repository is not there, that alone."""
    wrong = [finding for finding in findings if not finding.fine]
    absent = [finding for finding in wrong if finding.what == "exists"]
    return "; ".join(map(str, absent or wrong))


async def _rest(client: httpx.AsyncClient, repository: Repository, token: str | None) -> list[Finding]:
    word = "token" if repository.forge == "gitea" else "Bearer"
    headers = {"Authorization": f"{word} {token}"} if token else {}
    url = f"{repository.api_url}/repos/{quote(repository.owner)}/{quote(repository.repository)}"
    try:
        status, body = await _get(client, url, headers)
    except httpx.HTTPError as error:
        return [Finding("exists", False, _unreachable(repository.api_url, error))]
    if status == 401:
        return [Finding("read", False, "the forge does not know the token")]
    if status == 404:
        detail = f"{repository.key} is not at {_host(repository.api_url)}"
        detail += ", or the token may not see it" if token else ", or it is private and there is no token for it"
        return [Finding("exists", False, detail)]
    value = _json(body)
    if status == 403:
        return [Finding("read", False, "the forge refuses: the token may not read it, or its limit is met")]
    if status != 200 or not isinstance(value, dict) or "full_name" not in value:
        detail = f"{_host(repository.api_url)} answered {status}, not a repository; is api_url its REST root?"
        return [Finding("exists", False, detail)]
    permissions = value.get("permissions")
    may_push = isinstance(permissions, dict) and permissions.get("push") is True
    detail = "" if may_push else "the token may not push" if token else "there is no token for this forge"
    return [Finding("exists", True), Finding("read", True), Finding("write", may_push, detail)]


async def _git(
    client: httpx.AsyncClient, repository: Repository, token: str | None, service: str, what: str
) -> Finding:
    if urlsplit(repository.git_url).scheme not in {"http", "https"}:
        return Finding(what, False, "claims are taken over http or https; give that address as git_url")
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"} if token else {}
    url = f"{repository.git_url.rstrip('/')}/info/refs?service={service}"
    try:
        async with client.stream("GET", url, headers=headers) as response:
            status, kind = response.status_code, response.headers.get("content-type", "")
    except httpx.HTTPError as error:
        return Finding(what, False, _unreachable(repository.git_url, error))
    if status == 200 and kind.startswith(f"application/x-{service}-advertisement"):
        return Finding(what, True)
    if status in {401, 403}:
        return Finding(what, False, "the token may not" if token else "there is no token for this git server")
    return Finding(what, False, f"the git server answered {status} {one_line(kind)[:60]}".strip())


async def _get(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    async with client.stream("GET", url, headers=headers) as response:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                break
        return response.status_code, bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _unreachable(url: str, error: httpx.HTTPError) -> str:
    return f"{_host(url)} does not answer: {one_line(str(error)) or type(error).__name__}"

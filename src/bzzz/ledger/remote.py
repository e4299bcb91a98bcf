"""The ledger's only input and output: one request to a git server, one answer.

A server is reached by smart HTTP (connections kept alive, each host's number bounded), or, for a path or a
``file://`` address, by running git's own two services on the directory with the same bytes (the repository's
hooks run, as for any push: there they are the server's rules). It promises to
tell apart, for a write, what was surely not carried out (an error is raised) from what may have been (an
``AnswerLost`` is returned). Tokens go into the ``Authorization`` header and nowhere else. Nothing is
retried here and redirects are not followed, for a token must not reach another host. What the bytes mean
is left to ``receive_pack`` and ``upload_pack``.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import time
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx

from bzzz import __version__
from bzzz.core.task import Repository
from bzzz.errors import (
    LedgerRefused,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
)
from bzzz.ledger.git_process import Finished, run_git
from bzzz.ledger.http_answer import describe, status_error

AGENT = f"bzzz/{__version__}"
UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"
# GitHub gives a page instead of the protocol to a client whose name does not begin with "git/".
_USER_AGENT = f"git/{AGENT}"
_DETAIL_BYTES_MAX = 2048
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NOT_CARRIED_OUT_STATUS = range(300, 500)


@dataclass(frozen=True, slots=True)
class RemoteBound:
    """Bounds of one exchange, and of connections to one host."""

    connect_timeout_s: float = 5.0
    silence_timeout_s: float = 30.0
    exchange_timeout_s: float = 120.0
    answer_bytes_max: int = 32 * 1024 * 1024
    advertisement_bytes_max: int = 64 * 1024
    connections_per_host_max: int = 8


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """A write may or may not have been carried out, for its answer did not come or says nothing."""

    cause: ServiceError


@dataclass(frozen=True, slots=True)
class TooLarge:
    """An answer above the bound; the rest of it was not read."""

    bytes_max: int


class Remote:
    """Exchanges with git servers. Owned by one event loop."""

    def __init__(
        self,
        token_for: Callable[[Repository], str | None],
        bound: RemoteBound | None = None,
        *,
        wall_s: Callable[[], float] = time.time,
        counts: collections.Counter[str] | None = None,
    ) -> None:
        self.bound = bound or RemoteBound()
        self._token_for = token_for
        self._wall_s = wall_s
        self._counts: collections.Counter[str] = collections.Counter() if counts is None else counts
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._client: httpx.AsyncClient | None = None

    async def advertisement(self, repository: Repository, what: str) -> bytes:
        """The beginning of what ``git-receive-pack`` advertises, at most ``advertisement_bytes_max``.

        Raises:
            ServiceError: it could not be read.
        """
        bytes_max = self.bound.advertisement_bytes_max
        answer = await self._exchange(repository, RECEIVE_PACK, None, what, bytes_max, keep_beginning=True)
        return answer if isinstance(answer, bytes) else b""

    async def read(self, repository: Repository, body: bytes, what: str, bytes_max: int) -> bytes | TooLarge:
        """One request to ``git-upload-pack``.

        Raises:
            ServiceError: no answer, or not one of git.
        """
        return await self._exchange(repository, UPLOAD_PACK, body, what, bytes_max)

    async def write(self, repository: Repository, body: bytes, what: str) -> bytes | AnswerLost:
        """One request to ``git-receive-pack``.

        Raises:
            ServiceError: the request was surely not carried out.
        """
        try:
            answer = await self._exchange(repository, RECEIVE_PACK, body, what, self.bound.answer_bytes_max)
        except _MaybeCarriedOutError as unsure:
            self._counts["answers_lost"] += 1
            return AnswerLost(unsure.cause)
        if isinstance(answer, TooLarge):
            self._counts["answers_lost"] += 1
            detail = f"a report above {answer.bytes_max} bytes"
            return AnswerLost(ServiceNonsense(service_name(repository), what, detail))
        return answer

    async def close(self) -> None:
        """Release connections; a later request makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _exchange(
        self,
        repository: Repository,
        service: str,
        body: bytes | None,
        what: str,
        bytes_max: int,
        *,
        keep_beginning: bool = False,
    ) -> bytes | TooLarge:
        address = parse_address(repository)
        gate = self._gates.get(address.host)
        if gate is None:
            gate = self._gates[address.host] = asyncio.Semaphore(self.bound.connections_per_host_max)
        async with gate:
            self._counts["requests"] += 1
            call = _Call(repository, service, body, what, bytes_max, keep_beginning)
            try:
                async with asyncio.timeout(self.bound.exchange_timeout_s):
                    if address.directory is not None:
                        return await self._run(call, address.directory)
                    return await self._post(call, address.url)
            except TimeoutError:
                detail = f"no whole answer within {self.bound.exchange_timeout_s:g} s"
                raise call.unsure(ServiceUnavailable(call.name, what, detail)) from None

    async def _post(self, call: _Call, url: str) -> bytes | TooLarge:
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
        token = self._token_for(call.repository)
        if token:
            headers["Authorization"] = "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
        if call.body is None:
            request = self._http().build_request("GET", f"{url}/info/refs?service={call.service}", headers=headers)
            expected = f"application/x-{call.service}-advertisement"
        else:
            expected = f"application/x-{call.service}-result"
            headers |= {"Content-Type": f"application/x-{call.service}-request", "Accept": expected}
            if call.service == UPLOAD_PACK:
                headers["Git-Protocol"] = "version=2"
            request = self._http().build_request(
                "POST", f"{url}/{call.service}", headers=headers, content=call.body
            )
        try:
            response = await self._http().send(request, stream=True)
            async with contextlib.aclosing(response):
                return await self._receive(call, response, expected)
        except _NOT_SENT as error:
            raise ServiceUnavailable(call.name, call.what, _cause(error)) from None
        except httpx.HTTPError as error:
            raise call.unsure(ServiceUnavailable(call.name, call.what, _cause(error))) from None

    async def _receive(self, call: _Call, response: httpx.Response, expected: str) -> bytes | TooLarge:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        plainly_git = response.status_code == 200 and kind == expected
        encoding = response.headers.get("content-encoding", "identity").lower()
        bytes_max = call.bytes_max if plainly_git else _DETAIL_BYTES_MAX
        body = bytearray()
        overflowed = False
        # As sent and not inflated, so that the size is what arrived.
        async with contextlib.aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > bytes_max:
                    overflowed = True
                    break
        if not plainly_git or encoding != "identity":
            headers: Mapping[str, str] = response.headers
            error = status_error(
                call.name, call.what, response.status_code, headers=headers, body=bytes(body), wall_s=self._wall_s()
            ) or ServiceNonsense(call.name, call.what, describe(headers, bytes(body)), response.status_code)
            refused = response.status_code in _NOT_CARRIED_OUT_STATUS and response.status_code != 408
            raise error if refused else call.unsure(error)
        if overflowed and not call.keep_beginning:
            return TooLarge(bytes_max)
        return bytes(body[:bytes_max])

    async def _run(self, call: _Call, directory: Path) -> bytes | TooLarge:
        arguments = [call.service.removeprefix("git-"), "--stateless-rpc"]
        if call.body is None:
            arguments.append("--advertise-refs")
        finished = await run_git(
            [*arguments, str(directory)],
            call.body or b"",
            output_bytes_max=call.bytes_max,
            timeout_s=self.bound.exchange_timeout_s,
            environment={"GIT_PROTOCOL": "version=2"} if call.service == UPLOAD_PACK else {},
        )
        if finished.overflowed:
            return finished.output if call.keep_beginning else TooLarge(call.bytes_max)
        if finished.status != 0 and b"ERR " not in finished.output[:8]:
            raise _local_error(call, finished)
        return finished.output

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            bound = self.bound
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(bound.silence_timeout_s, connect=bound.connect_timeout_s),
                limits=httpx.Limits(max_connections=None, keepalive_expiry=60.0),
                follow_redirects=False,
            )
        return self._client


@dataclass(frozen=True, slots=True)
class _Call:
    repository: Repository
    service: str
    body: bytes | None
    what: str
    bytes_max: int
    keep_beginning: bool

    @property
    def name(self) -> str:
        return service_name(self.repository)

    def unsure(self, error: ServiceError) -> Exception:
        """The error itself for a read; for a write, one that says that it may have been carried out."""
        is_write = self.service == RECEIVE_PACK and self.body is not None
        return _MaybeCarriedOutError(error) if is_write else error


class _MaybeCarriedOutError(Exception):
    """Never leaves this module."""

    def __init__(self, cause: ServiceError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is: a URL without a slash at its end, or a directory on this machine."""

    host: str
    url: str
    directory: Path | None


def parse_address(repository: Repository) -> Address:
    """Where a repository's git server is.

    Raises:
        LedgerRefused: the address is of a kind that claims cannot use, or holds a password.
    """
    text = repository.git_url.strip()
    try:
        parts = urllib.parse.urlsplit(text)
        httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        raise LedgerRefused(f"{repository.key}: its git address is not one; give its https address") from None
    if parts.scheme in {"http", "https"} and parts.hostname:
        if parts.username or parts.password:
            raise LedgerRefused(
                f"{repository.key}: its git address holds a user name or password; put the token into a file "
                "and give the address without it"
            )
        return Address(parts.netloc, text.rstrip("/"), None)
    if parts.scheme == "file":
        return Address("", "", Path(urllib.parse.unquote(parts.path)))
    if text.startswith("/"):
        return Address("", "", Path(text))
    raise LedgerRefused(
        f"{repository.key}: claims go over http, https, file:// or an absolute path, "
        f"and its git address is none of them; give its https address"
    )


def service_name(repository: Repository) -> str:
    """How a person knows this server."""
    try:
        address = parse_address(repository)
    except LedgerRefused:
        return f"git server of {repository.key}"
    return f"git server {address.host}" if address.directory is None else f"git repository {address.directory}"


def _local_error(call: _Call, finished: Finished) -> Exception:
    low = finished.complaint.lower()
    if "not appear to be a git repository" in low or "not a git repository" in low:
        return ServiceMissing(call.name, call.what, "this is not a git repository")
    if "dubious ownership" in low:
        return ServiceDenied(call.name, call.what, "the directory belongs to another user of this machine")
    detail = f"git ended with status {finished.status}: {finished.complaint}"
    return call.unsure(ServiceFaulty(call.name, call.what, detail))


def _cause(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

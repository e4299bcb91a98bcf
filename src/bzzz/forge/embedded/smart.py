"""Git over smart HTTP: ``git upload-pack`` and ``receive-pack``, streamed, one process a request.

One kind of request is answered without them: a push of a single claim, in the form in which nodes push it
(``claim_push``), is stored here, and git is asked for the compare-and-swap alone, a third of the time. Only what
was carried out is answered so; a claim that cannot be is given to git, which tells why in its own words.

Protocol: gitprotocol-http(5), gitprotocol-v2(5). The request's body goes to git as it arrives and git's answer
goes out as it is made, so a large push or clone needs no memory here. Processes at once are bounded; each
is ended with its whole group when its client goes, stalls or takes too long. A push's commands are read on
their way, so that what it changed is known without a hook.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope, Send

from bzzz.forge.embedded import loose, repository
from bzzz.forge.embedded.account import ANONYMOUS, Actor
from bzzz.forge.embedded.account import Scope as Right
from bzzz.forge.embedded.claim_push import CLAIM_PUSH_BYTES_MAX, ClaimPush, read_claim_push
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.git import environment
from bzzz.forge.embedded.pktline import (
    PUSH_HEAD_BYTES_MAX,
    REPORT_BYTES_MAX,
    ZERO_ID,
    RefUpdate,
    pkt,
    read_accepted,
    read_updates,
)
from bzzz.forge.embedded.refusal import Refusal
from bzzz.forge.embedded.sign_in import identify

log = logging.getLogger(__name__)

SERVICES = frozenset({"git-upload-pack", "git-receive-pack"})
CHUNK_BYTES = 64 * 1024
TERM_GRACE_S = 2.0
_Stream = TypeVar("_Stream")
_PROTOCOL = re.compile(r"version=\d(:[a-z0-9=-]{1,40}){0,4}")


class _ClientGone(Exception):
    """The client closed the connection before it had its answer."""


@dataclass(slots=True)
class _Push:
    """What is remembered of a push while it streams by."""

    head: bytearray = field(default_factory=bytearray)
    updates: tuple[RefUpdate, ...] | None = None
    report: bytearray = field(default_factory=bytearray)
    settled: bool = False

    def saw(self, chunk: bytes) -> None:
        if self.updates is None and len(self.head) < PUSH_HEAD_BYTES_MAX:
            self.head += chunk
            self.updates = read_updates(bytes(self.head))

    def said(self, chunk: bytes) -> None:
        if len(self.report) < REPORT_BYTES_MAX:
            self.report += chunk

    def accepted(self) -> list[RefUpdate]:
        standing = read_accepted(bytes(self.report))
        return [update for update in self.updates or () if update.ref in standing]


@dataclass(slots=True)
class _Exchange:
    """One admitted request. ``version`` is the git protocol asked for, checked; ``push`` is filled on the way."""

    repo: sqlite3.Row
    actor: Actor
    service: str
    advertise: bool
    version: str
    headers: Headers
    receive: Receive
    send: Send
    push: _Push = field(default_factory=_Push)


class SmartHttp:
    """An ASGI app for ``/{owner}/{name}.git/{info/refs, git-upload-pack, git-receive-pack}``."""

    def __init__(self, forge: EmbeddedForge) -> None:
        self._forge = forge
        self._slots: asyncio.Semaphore | None = None
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path_params"]
        headers = Headers(scope=scope)
        service = str(path.get("service") or QueryParams(scope["query_string"]).get("service", ""))
        try:
            advertise = "service" not in path
            if scope["method"] != ("GET" if advertise else "POST"):
                raise Refusal(405, "this address is for git")
            if service not in SERVICES:
                raise Refusal(403, "only git's smart protocol is served here; use git 1.6.6 or newer")
            if not advertise and headers.get("content-type") != f"application/x-{service}-request":
                raise Refusal(415, f"the content type must be application/x-{service}-request")
            repo, actor = await asyncio.to_thread(self._admit, path["owner"], path["name"], service, headers)
            said = headers.get("git-protocol", "")
            version = said if _PROTOCOL.fullmatch(said) else ""
            async with self._slot():
                await self._serve(_Exchange(repo, actor, service, advertise, version, headers, receive, send))
        except Refusal as refusal:
            await _refuse(send, refusal)
        except _ClientGone:
            self._forge.counts["git_clients_gone"] += 1

    def _admit(self, owner: str, name: str, service: str, headers: Headers) -> tuple[sqlite3.Row, Actor]:
        actor = identify(self._forge, headers.get("authorization"))
        try:
            repo = self._forge.row(owner, name)
        except Refusal:
            if actor is ANONYMOUS:
                raise Refusal(401, "Repository not found, or a token is needed") from None
            raise
        if service == "git-receive-pack":
            if actor is ANONYMOUS:
                raise Refusal(401, "a token is needed to push")
            if actor.scope < Right.WRITE:
                raise Refusal(403, f"this token's scope is {actor.scope.word}; pushing needs write")
        elif repo["private"] and actor.scope < Right.READ:
            raise Refusal(401, "Repository not found, or a token is needed")
        if not self._forge.folder(repo).is_dir():
            # No 404: the repository is not gone for those who ask, a disk is; they are to ask again.
            raise Refusal(503, "this repository's files are not on the server's disk; is the disk mounted?")
        return repo, actor

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self._forge.settings.git_processes_max)
        if self._slots.locked() and self._waiting >= self._forge.settings.git_waiting_max:
            self._forge.counts["git_turned_away"] += 1
            raise Refusal(503, "too many clones and pushes at once; try again in a second")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _serve(self, exchange: _Exchange) -> None:
        """Run git for one request, and end it whatever happens."""
        if await self._claimed(exchange):
            return
        forge, headers, service = self._forge, exchange.headers, exchange.service
        folder = forge.folder(exchange.repo)
        extra = {"REMOTE_USER": exchange.actor.login}
        if exchange.version:
            extra["GIT_PROTOCOL"] = exchange.version
        arguments = ["-c", f"receive.maxInputSize={forge.settings.git_body_bytes_max}"]
        arguments += [service.removeprefix("git-"), "--stateless-rpc"]
        arguments += ["--advertise-refs", str(folder)] if exchange.advertise else [str(folder)]
        with forge.activity.at_work(folder):
            process = await asyncio.create_subprocess_exec(
                *forge.git.command(folder, arguments),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env=environment(**extra), cwd=folder, start_new_session=True,
            )  # fmt: skip
            try:
                async with asyncio.timeout(forge.settings.git_timeout_s):
                    await self._converse(process, exchange, self._body(headers, exchange.receive))
            except TimeoutError:
                forge.counts["git_timed_out"] += 1
                raise _ClientGone from None
            finally:
                await asyncio.shield(_end(process))
                await asyncio.shield(self._settle(exchange))

    async def _claimed(self, exchange: _Exchange) -> bool:
        """Carry out and answer a push of one claim; otherwise leave the request as if nobody had read of it."""
        length = exchange.headers.get("content-length", "")
        if exchange.advertise or exchange.service != "git-receive-pack" or "content-encoding" in exchange.headers:
            return False
        if not length.isdecimal() or len(length) > 9 or int(length) > CLAIM_PUSH_BYTES_MAX:
            return False
        body = b"".join([chunk async for chunk in self._body(exchange.headers, exchange.receive)])
        push = read_claim_push(body)
        if push is None or not await asyncio.to_thread(self._take, exchange, push):
            exchange.receive = _again(body, exchange.receive)
            return False
        await _begin(exchange.send, 200, f"application/x-{exchange.service}-result")
        await exchange.send({"type": "http.response.body", "body": push.report(), "more_body": False})
        return True

    def _take(self, exchange: _Exchange, push: ClaimPush) -> bool:
        """Store a claim and move its ref; whether it stands now."""
        folder, update = self._forge.folder(exchange.repo), push.update
        # Anybody who pushes may have pointed the ref at something else, on which no commit can build.
        if update.old != ZERO_ID and not loose.is_commit(folder, update.old):
            return False
        try:
            loose.store(folder, push.objects)
            repository.update_ref(self._forge.git, folder, update.ref, update.new, update.old)
        except (OSError, Refusal):
            return False  # git is asked in full: it may yet do it, and if not, it says why
        self._forge.counts["claims_taken"] += 1
        self._forge.pushed(exchange.repo["id"], exchange.actor, [update])
        return True

    async def _settle(self, exchange: _Exchange) -> None:
        """Take note of what a push changed, once; before its client hears the end of the answer."""
        if exchange.push.updates and not exchange.push.settled:
            exchange.push.settled = True
            await asyncio.to_thread(self._note, exchange)

    def _note(self, exchange: _Exchange) -> None:
        """Tell the forge which refs moved: those git reported, or, cut off before it could, those that did."""
        push = exchange.push
        accepted = push.accepted()
        if not push.report:
            standing = repository.refs(self._forge.git, self._forge.folder(exchange.repo), "refs/")
            accepted = [u for u in push.updates or () if standing.get(u.ref, ZERO_ID) == u.new]
        self._forge.pushed(exchange.repo["id"], exchange.actor, accepted)

    async def _converse(
        self, process: asyncio.subprocess.Process, exchange: _Exchange, body: AsyncIterator[bytes]
    ) -> None:
        """Carry the request to git and git's answer back, until the answer's end or the client's."""
        feeder = asyncio.create_task(self._feed(process, exchange, body))
        speaker = asyncio.create_task(self._speak(process, exchange))
        try:
            await asyncio.wait({feeder, speaker}, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done() and not speaker.done():
                feeder.result()  # it only ends first by an error: the client is gone, or what it sent is wrong
            await speaker
        finally:
            for task in (feeder, speaker):
                task.cancel()
            await asyncio.gather(feeder, speaker, return_exceptions=True)

    async def _feed(
        self, process: asyncio.subprocess.Process, exchange: _Exchange, body: AsyncIterator[bytes]
    ) -> None:
        """Give git the body, then watch for the client's going until cancelled."""
        stdin = _pipe(process.stdin)
        try:
            async for chunk in body:
                if exchange.service == "git-receive-pack":
                    exchange.push.saw(chunk)
                stdin.write(chunk)
                await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # git has read all it wants; its answer says why
        stdin.close()
        while True:
            if (await exchange.receive())["type"] == "http.disconnect":
                raise _ClientGone

    async def _body(self, headers: Headers, receive: Receive) -> AsyncIterator[bytes]:
        """The request's body, decompressed, within bounds of size and idleness."""
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise Refusal(415, f"content encoding {encoding[:20]!r} is not read here; use gzip or none")
        inflate = None if encoding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
        left = self._forge.settings.git_body_bytes_max
        more = True
        while more:
            try:
                async with asyncio.timeout(self._forge.settings.git_idle_s):
                    message = await receive()
            except TimeoutError:
                self._forge.counts["git_stalled"] += 1
                raise Refusal(408, "nothing arrived for too long") from None
            if message["type"] == "http.disconnect":
                raise _ClientGone
            data, more = message.get("body", b""), message.get("more_body", False)
            for piece in _inflated(inflate, data):
                left -= len(piece)
                if left < 0:
                    raise Refusal(413, f"more than {self._forge.settings.git_body_bytes_max} bytes in one request")
                yield piece

    async def _speak(self, process: asyncio.subprocess.Process, exchange: _Exchange) -> None:
        """Send git's answer; the status is held back until git has said its first word."""
        stdout = _pipe(process.stdout)
        chunk = await stdout.read(CHUNK_BYTES)
        if not chunk and await process.wait() != 0:
            raise Refusal(500 if exchange.advertise else 400, "git could not make sense of this request")
        kind = "advertisement" if exchange.advertise else "result"
        await _begin(exchange.send, 200, f"application/x-{exchange.service}-{kind}")
        version_2 = "version=2" in exchange.version.split(":") and exchange.service == "git-upload-pack"
        if exchange.advertise and not version_2:
            chunk = pkt(f"# service={exchange.service}\n".encode()) + b"0000" + chunk
        # A piece goes out when the next is there: so a short answer and its end are one packet, read at one go.
        exchange.push.said(chunk)
        while following := await stdout.read(CHUNK_BYTES):
            exchange.push.said(following)
            await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = following
        await process.wait()
        await self._settle(exchange)
        await exchange.send({"type": "http.response.body", "body": chunk, "more_body": False})


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` as it was before ``body``, the whole of a request's, was read from it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _pipe(found: _Stream | None) -> _Stream:
    if found is None:
        raise Refusal(500, "git was started without pipes")
    return found


def _inflated(inflate: zlib._Decompress | None, data: bytes) -> list[bytes]:
    if inflate is None:
        return [data] if data else []
    pieces = []
    try:
        while data:
            piece = inflate.decompress(data, 16 * CHUNK_BYTES)
            data = inflate.unconsumed_tail
            pieces.append(piece)
    except zlib.error:
        raise Refusal(400, "the body is not the gzip stream that it is said to be") from None
    return [piece for piece in pieces if piece]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process and its group: asked first, so that git removes its own locks, then made to."""
    for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, TERM_GRACE_S)):
        if process.returncode is not None:
            break
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            continue
    if process.stdin is not None:
        process.stdin.close()


async def _begin(send: Send, status: int, content_type: str, *extra: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-cache, max-age=0, must-revalidate"),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _refuse(send: Send, refusal: Refusal) -> None:
    extra = []
    if refusal.status == 401:
        extra.append((b"www-authenticate", b'Basic realm="bzzz forge", charset="UTF-8"'))
    if refusal.status == 503:
        extra.append((b"retry-after", b"1"))
    await _begin(send, refusal.status, "text/plain; charset=utf-8", *extra)
    await send({"type": "http.response.body", "body": f"{refusal}\n".encode(), "more_body": False})

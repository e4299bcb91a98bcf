"""A door between clients and an HTTP server: requests pass, are held, cut, answered by the test, or find it shut.

It gives a test a well-defined moment inside an exchange: ``hold`` a request before the server has seen it, or
its answer before the client has. One request a connection, so that nothing is hidden by a client's pool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

HEAD_BYTES_MAX = 64 * 1024
PIECE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Passing:
    """One request on its way."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Fits = Callable[[Passing], bool]


class Hold:
    """Requests that are stopped at the door; ``reached`` is set by the first, ``requests`` are all so far."""

    def __init__(self, *, after: bool) -> None:
        self.after = after
        self.reached = asyncio.Event()
        self.requests: list[Passing] = []
        self._open = asyncio.Event()
        self._cut = 0
        self._others: int | None = None

    def release(self) -> None:
        """Let what is held, and all that follows, pass."""
        self._open.set()

    def cut(self) -> None:
        """Cut the connections of what is held; requests held before the server are lost. Later ones pass."""
        self._cut = len(self.requests)
        self._open.set()

    def pass_others(self) -> None:
        """What is held stays held; later requests pass."""
        self._others = len(self.requests)

    async def passes(self, request: Passing) -> bool:
        """Wait for the word; whether the request, or its answer, goes on."""
        self.requests.append(request)
        place = len(self.requests)
        self.reached.set()
        if self._others is None or place <= self._others:
            await self._open.wait()
        return place > self._cut


@dataclass(slots=True)
class _Rule:
    fits: Fits
    hold: Hold | None = None
    answer: bytes | None = None


@dataclass(slots=True)
class Door:
    """The door; ``url`` is where clients knock, ``upstream`` a host and a port."""

    host: str = "127.0.0.1"
    upstream: tuple[str, int] = ("127.0.0.1", 0)
    url: str = ""
    seen: list[Passing] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _port: int = 0
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Door:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()

    async def open(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, self.host, self._port, limit=HEAD_BYTES_MAX)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{self.host}:{self._port}"

    async def shut(self) -> None:
        """Refuse connections, and cut those there are."""
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def hold(self, fits: Fits, *, after: bool = False) -> Hold:
        """Stop requests that fit: before the server has seen them, or their answers."""
        hold = Hold(after=after)
        self._rules.append(_Rule(fits, hold=hold))
        return hold

    def answer(self, fits: Fits, answer: bytes) -> Callable[[], None]:
        """Answer requests that fit with these bytes, whatever they are; gives what ends that."""
        rule = _Rule(fits, answer=answer)
        self._rules.append(rule)
        return lambda: self._rules.remove(rule)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader, writer)
        self.seen.append(request)
        rule = next((rule for rule in self._rules if rule.fits(request)), _Rule(lambda _: True))
        if rule.answer is not None:
            writer.write(rule.answer)
            await writer.drain()
            return
        if rule.hold is not None and not rule.hold.after and not await rule.hold.passes(request):
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self.upstream)
        except OSError:
            return
        try:
            to_server.write(_write(request))
            await to_server.drain()
            if rule.hold is not None and rule.hold.after:
                whole = await from_server.read()
                if await rule.hold.passes(request):
                    writer.write(whole)
            else:
                while piece := await from_server.read(PIECE_BYTES_MAX):
                    writer.write(piece)
                    await writer.drain()
            await writer.drain()
        finally:
            to_server.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Passing:
    """A whole request; its body without its framing."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise ConnectionError from None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    if headers.pop("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.pop("transfer-encoding", "") == "chunked":
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        body = b"".join(pieces)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    return Passing(method, path, query, headers, body)


def _write(request: Passing) -> bytes:
    target = request.path + (f"?{request.query}" if request.query else "")
    headers = {**request.headers, "connection": "close", "content-length": str(len(request.body))}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body

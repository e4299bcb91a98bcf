"""An HTTP server that answers with exactly the bytes a test gives it, and notes what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]


class FaultyServer:
    """Answers each request with the next of ``answers``; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[bytes | Answering] = []
        self.requests: list[str] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Notes the connection's task, so that ``end`` can end it."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def end(self) -> None:
        """End all connections."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if callable(answer):
                await answer(writer)
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


def answer(status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> bytes:
    """A whole HTTP answer; names of headers are written with underscores."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Answer", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def json_answer(value: object) -> bytes:
    """A whole HTTP answer, 200, with JSON."""
    return answer(200, json.dumps(value))


def event_stream(*events: str) -> bytes:
    """The beginning of an event stream without an end, and these events."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return (head + "".join(f"{event}\n\n" for event in events)).encode()


@asynccontextmanager
async def faulty_server() -> AsyncIterator[FaultyServer]:
    """Serve on a free loopback port while the context lasts."""
    faulty = FaultyServer()
    server = await asyncio.start_server(faulty.accept, "127.0.0.1", 0)
    faulty.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield faulty
    finally:
        server.close()
        await faulty.end()

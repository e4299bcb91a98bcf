"""The load of benchmark ``hive``: nodes as Hive meets them, each with a key and connections of its own.

The client is a few lines over a socket, so that the load costs its machine less than what it measures. It reads
exactly what Hive sends (an answer with a length, or an endless stream) and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROMPT = "Read the issue, find where totals are summed, and mend it. " * 40
FILES = {
    f"src/module_{index}.py": "def total(items):\n    return sum(item.price for item in items)\n" * 10
    for index in range(3)
}


IDLE_S_MAX = 30.0
"""A connection that nothing was asked over for so long is made anew: the server may have ended it."""


class Line:
    """One connection that stays open, and calls on it, one at a time."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used_s = 0.0
        self.etags: dict[str, str] = {}
        self.listens = asyncio.Event()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """One call; gives its status and its answer's body. A GET is conditional once it has an ETag."""
        if time.monotonic() - self._used_s > IDLE_S_MAX:
            self.close()
        self._used_s = time.monotonic()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        assert self._reader is not None
        content = b"" if body is None else json.dumps(body).encode()
        etag = self.etags.get(path) if method == "GET" else None
        known = f"If-None-Match: {etag}\r\n" if etag else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{known}Content-Length: {len(content)}\r\n\r\n"
        self._writer.write(head.encode() + content)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        if method == "GET" and "etag" in headers:
            self.etags[path] = headers["etag"]
        length = int(headers.get("content-length", "0"))
        return status, await self._reader.readexactly(length) if length else b""

    async def listen(self) -> None:
        """The event stream, until it ends or this is cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"GET /api/bzzz/events HTTP/1.1\r\n{self._head}\r\n".encode())
            while await reader.read(4096):
                self.listens.set()
        finally:
            writer.close()

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


@dataclass
class Measured:
    """Seconds of each call by its name, and the answers that were none of those expected."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unexpected: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    elapsed_s: float = 0.0

    async def time(self, name: str, call: Awaitable[tuple[int, bytes]]) -> tuple[int, bytes]:
        """Await a call and keep how long it took."""
        began_s = time.perf_counter()
        status, body = await call
        self.seconds[name].append(time.perf_counter() - began_s)
        if status not in {200, 201, 202, 304}:
            self.unexpected[f"{name} {status}"] += 1
        return status, body

    def everything(self) -> list[float]:
        """The seconds of all calls."""
        return [one for values in self.seconds.values() for one in values]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@dataclass(frozen=True)
class Task:
    """One task to be worked on."""

    project_id: int
    number: int


def calls_of(task: Task, agent: str, round_: int = 0) -> Mapping[str, tuple[str, str, Any]]:
    """Every call that brings something about a task, as nodes and the predecessor's clients send them."""
    place = f"/api/bzzz/projects/{task.project_id}"
    about = {"task_number": task.number, "agent_id": agent}
    done = {
        "epoch": round_ + 1,
        "branch": f"bzzz/task-{task.number}-0123abcd",
        "pull_request": f"http://forge.test/pull/{task.number}",
    }
    return {
        "status (in_progress)": (
            "PUT",
            f"{place}/status",
            {**about, "status": "in_progress", "metadata": {"epoch": round_ + 1}},
        ),
        "log-prompt": (
            "POST",
            f"{place}/log-prompt",
            {
                **about,
                "prompt_type": "task_analysis",
                "prompt_content": f"{round_} {PROMPT}",
                "model_used": "qwen3-coder",
                "usage": {"input_tokens": 900, "output_tokens": 300},
            },
        ),
        "submit-work": (
            "POST",
            f"{place}/submit-work",
            {
                **about,
                "work_type": "code",
                "files": FILES,
                "commit_message": f"Mend totals ({round_})",
                "description": agent,
            },
        ),
        "create-pr": (
            "POST",
            f"{place}/create-pr",
            {
                **about,
                "title": f"Task {task.number}",
                "branch_name": done["branch"],
                "pr_url": done["pull_request"],
                "description": str(round_),
            },
        ),
        "status (completed)": ("PUT", f"{place}/status", {**about, "status": "completed", "metadata": done}),
    }


@dataclass(frozen=True)
class Load:
    """How often: each node has a round of calls in ``round_s``, ``rounds`` times."""

    round_s: float
    rounds: int
    projects: Sequence[int]


async def paced(lines: Sequence[Line], tasks: Sequence[Task], load: Load) -> Measured:
    """Every line is a node: once a round it polls, and works on one task, its calls spread over the round."""
    measured = Measured()
    began_s = time.perf_counter()
    nodes = (_node(measured, line, index, tasks[index :: len(lines)], load) for index, line in enumerate(lines))
    await asyncio.gather(*nodes)
    measured.elapsed_s = time.perf_counter() - began_s
    return measured


async def _node(measured: Measured, line: Line, index: int, tasks: Sequence[Task], load: Load) -> None:
    begins_s = time.perf_counter() + random.Random(index).random() * load.round_s
    project = load.projects[index % len(load.projects)]
    for task in tasks[: load.rounds]:
        calls = {
            "active-repos": ("GET", "/api/bzzz/active-repos", None),
            "tasks": ("GET", f"/api/bzzz/projects/{project}/tasks", None),
            **calls_of(task, f"node-{index}"),
        }
        for place, (name, call) in enumerate(calls.items()):
            wait_s = begins_s + place * load.round_s / len(calls) - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await measured.time(name, line.call(*call))
        begins_s += load.round_s


async def closed_loop(
    lines: Sequence[Line], name: str, next_call: Callable[[int], tuple[str, str, Any]], for_s: float
) -> Measured:
    """One call again and again, as fast as it is answered."""
    measured = Measured()
    ends_s = time.perf_counter() + for_s
    counter = iter(range(10**9))

    async def loop(line: Line) -> None:
        while time.perf_counter() < ends_s:
            await measured.time(name, line.call(*next_call(next(counter))))

    began_s = time.perf_counter()
    await asyncio.gather(*(loop(line) for line in lines))
    measured.elapsed_s = time.perf_counter() - began_s
    return measured


@contextlib.asynccontextmanager
async def listening(lines: Sequence[Line]) -> AsyncIterator[None]:
    """Every line has its event stream open meanwhile; that all open in one moment is over when it begins."""
    streams = [asyncio.create_task(line.listen()) for line in lines]
    try:
        await asyncio.gather(*(line.listens.wait() for line in lines))
        yield
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

"""One worker of benchmark ``queue`` in a process of its own: it takes jobs, and says when it had each.

With KIND, ADDRESS and NAME as its arguments it says ``ready``, waits for lines on its standard input, and
writes ``took NUMBER TIME`` or ``missed NUMBER TIME`` for each job; times are ``time.monotonic``, which all
processes of one machine share. KIND is ``git`` (each line ``NUMBER`` is a task to claim, ``NUMBER finish`` one
to claim and then end with a second record), ``procrastinate`` or ``pgqueuer`` (the first line lets the
library's own worker begin, which then takes what the database tells it). KIND ``forge`` serves an embedded
forge below the folder ADDRESS instead, and says where. All of them end with their standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import procrastinate
import psycopg
from pgqueuer import Job, PgQueuer
from pgqueuer.db import AsyncpgDriver, PsycopgDriver
from tests.support.forge_server import running_forge

from benchmarks.hive_load import Line
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.ledger.git_ref import GitRefLedger

TASK = "take"
WARM_UP_NUMBER_MIN = 1_000_000
REPOSITORY_NAME = "demo"
OWNER = "hive"
TOKEN_VARIABLE = "QUEUE_TOKEN"


def repository(git_url: str) -> Repository:
    """The repository whose tasks are claimed."""
    return Repository(1, REPOSITORY_NAME, OWNER, REPOSITORY_NAME, git_url, "")


def procrastinate_app(uri: str) -> procrastinate.App:
    """The same app for who defers jobs and for who runs them; each run says when it began."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=uri, min_size=1, max_size=3))

    @app.task(name=TASK)
    async def take(number: int) -> None:
        _say("took", number)

    return app


def pgqueuer_driver() -> str:
    """The driver that pgqueuer gets: asyncpg, its manual's first, where it is installed.

    With psycopg, its one connection listens and writes by turns: what is to be written while it listens waits up to
    a second.
    """
    return "asyncpg" if importlib.util.find_spec("asyncpg") else "psycopg"


async def pgqueuer_app(uri: str) -> PgQueuer:
    """pgqueuer's own wiring; each job says when it began."""
    if pgqueuer_driver() == "asyncpg":
        app = PgQueuer(AsyncpgDriver(await importlib.import_module("asyncpg").connect(uri)))
    else:
        app = PgQueuer(PsycopgDriver(await psycopg.AsyncConnection.connect(uri, autocommit=True)))

    @app.entrypoint(TASK)
    async def take(job: Job) -> None:
        _say("took", int(job.payload or b""))

    return app


def _say(word: str, number: int) -> None:
    os.write(1, f"{word} {number} {time.monotonic():.6f}\n".encode())


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _git(git_url: str, name: str) -> None:
    token = os.environ.get(TOKEN_VARIABLE)
    ledger, repo = GitRefLedger(lambda _: token), repository(git_url)
    holder = Holder(f"peer-{name}", name)

    def record(number: int) -> ClaimRecord:
        nonce = f"{name}-{number}-{time.monotonic_ns()}"
        return ClaimRecord(TaskId(repo.key, number), 1, holder, RecordState.HELD, nonce)

    warm_up = await ledger.swap(repo, None, record(WARM_UP_NUMBER_MIN + int(name)))
    assert warm_up.won
    lines = await _lines()
    os.write(1, b"ready\n")
    while line := (await lines.readline()).decode().split():
        number = int(line[0])
        result = await ledger.swap(repo, None, record(number))
        _say("took" if result.won else "missed", number)
        if result.won and "finish" in line and result.standing is not None:
            held = result.standing
            ended = dataclasses.replace(held.record, state=RecordState.RELEASED, nonce=f"{held.record.nonce}-end")
            assert (await ledger.swap(repo, held.version, ended)).won
            _say("finished", number)
    await ledger.close()


async def _hive(address: str, name: str) -> None:
    """A client without git: Hive takes the ref for it. ``address`` is the project's."""
    parts = urlsplit(address)
    line = Line(parts.port or 80, os.environ[TOKEN_VARIABLE])
    await line.call("GET", "/health")
    lines = await _lines()
    os.write(1, b"ready\n")
    while words := (await lines.readline()).decode().split():
        number = int(words[0])
        about = {"task_number": number, "agent_id": f"client-{name}"}
        status, _ = await line.call("POST", f"{parts.path}/claim", about)
        _say("took" if status == 200 else "missed", number)
        if status == 200 and "finish" in words:
            ended = {**about, "status": "failed", "metadata": {"reason": "measured"}}
            status, _ = await line.call("PUT", f"{parts.path}/status", ended)
            assert status == 200
            _say("finished", number)
    line.close()


async def _procrastinate(uri: str, name: str) -> None:
    app = procrastinate_app(uri)
    async with app.open_async():
        await _work(app.run_worker_async(name=name, install_signal_handlers=False))


async def _pgqueuer(uri: str, _: str) -> None:
    app = await pgqueuer_app(uri)
    await _work(app.run())


async def _work(endless: Awaitable[None]) -> None:
    """Say ready, run the library's worker from the first line on, and end it with the input."""
    lines = await _lines()
    os.write(1, b"ready\n")
    await lines.readline()
    worker = asyncio.ensure_future(endless)
    await asyncio.wait([worker, asyncio.ensure_future(lines.read())], return_when=asyncio.FIRST_COMPLETED)
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(3):
            await worker


def _forge(folder: str) -> None:
    with running_forge(Path(folder)) as forge:
        forge.repository(OWNER, REPOSITORY_NAME)
        token = forge.forge.create_token(scope="write")
        sys.stdout.write(f"{forge.base_url}/{OWNER}/{REPOSITORY_NAME}.git {token}\n")
        sys.stdout.flush()
        sys.stdin.read()


def main() -> None:
    kind, address = sys.argv[1:3]
    if kind == "forge":
        _forge(address)
        return
    kinds: dict[str, Callable[[str, str], Coroutine[Any, Any, None]]] = {
        "git": _git,
        "hive": _hive,
        "procrastinate": _procrastinate,
        "pgqueuer": _pgqueuer,
    }
    asyncio.run(kinds[kind](address, sys.argv[3]))

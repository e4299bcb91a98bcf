"""Hive under load: 200 nodes that poll and report over 10,000 open tasks, on SQLite and on PostgreSQL.

Hive is a process of its own (``bzzz hive serve``) with its embedded forge, on which the tasks really are open
issues; the load comes from this process over loopback. Both share the machine's cores. PostgreSQL runs with its own
defaults, durable. Three things are measured on each database:

- *Paced*: every node has its key, an event stream and a connection. Once a round it reads the active
  repositories and a project's tasks and works on a task of its own: two status reports, a prompt, its work and its
  pull request: in 60 s, as real nodes read repositories, and once more four times as fast.
- *Each call alone*, in a closed loop of ``LOOP_LINES`` connections: how many a second, and how long each takes.
- *Every task reported*, as fast as Hive takes it.

Then claims through the API beside ``procrastinate`` and ``pgqueuer`` on the same PostgreSQL, as in benchmark
``queue``, whose words they are. A claim through the API reads the issue, reads and writes the claim ref by git, and
leaves a row; theirs is a row alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.hive_process import HiveProcess
from tests.support.postgres import running_postgres

from benchmarks import queue
from benchmarks.hive_load import Line, Load, Measured, Task, calls_of, closed_loop, listening, paced, percentile

NODES = 200
PROJECTS = 20
TASKS_PER_PROJECT = 500
PACES_S = {"own pace": 60.0, "pressed": 15.0}
"""The round of a paced node, in seconds. A real one reads the repositories once in 60 s, as here at its own pace;
that it also ends a task in each of them is more than agents do."""
LOOP_LINES = 8
LOOP_S = 1.5
CLAIM_WORKERS = (1, 4)
ADMIN_KEY = "benchmark-administrator"
DURABLE = {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
BODY = "Totals are wrong at midnight: the day is taken from the clock of the server. " * 5

Row = dict[str, Any]
Seconds = dict[tuple[str, str, int], list[float]]


@dataclass(frozen=True)
class Stage:
    """A Hive with its projects, and nodes that have their keys."""

    hive: HiveProcess
    admin: Line
    lines: Sequence[Line]
    projects: Sequence[int]

    @property
    def tasks(self) -> Sequence[Task]:
        """All open tasks, project by project in turn."""
        numbers = range(1, TASKS_PER_PROJECT + 1)
        return [Task(project, number) for number in numbers for project in self.projects]


def run() -> list[Row]:
    """All results; some four minutes on two quiet cores."""
    folder = Path(tempfile.mkdtemp(prefix="bzzz-hive-"))
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[Row]:
    async with _stage(folder / "sqlite", "") as stage:
        results = await _load(stage, "SQLite")
    with running_postgres(**DURABLE) as postgres:
        async with _stage(folder / "postgresql", postgres.create()) as stage:
            results += await _load(stage, "PostgreSQL")
            seconds: Seconds = {}
            await _claims(stage, seconds)
        jobs = postgres.create().replace("postgresql://", "postgres://")
        await queue.procrastinate_jobs(jobs, seconds, CLAIM_WORKERS)
        await queue.pgqueuer_jobs(jobs, seconds, CLAIM_WORKERS)
    return results + _beside(seconds)


@contextlib.asynccontextmanager
async def _stage(folder: Path, database_url: str) -> AsyncIterator[Stage]:
    folder.mkdir()  # noqa: ASYNC240 - nothing else runs yet
    (folder / "keys").write_text(ADMIN_KEY + "\n")
    arguments = ["--key-file", str(folder / "keys"), "--rate-per-s", "0"]
    if database_url:
        (folder / "url").write_text(database_url)
        arguments += ["--database-url-file", str(folder / "url")]
    hive = HiveProcess(folder, arguments)
    await asyncio.to_thread(_open_issues, hive)
    await asyncio.to_thread(hive.start)
    admin = Line(hive.port, ADMIN_KEY)
    lines: list[Line] = []
    try:
        projects = []
        for name in map(_name, range(PROJECTS)):
            made = await _ask(admin, "POST", "/api/bzzz/projects", {"name": name, "github_repo": f"acme/{name}"})
            projects.append(int(made["id"]))
        for node in range(NODES):
            key = await _ask(admin, "POST", "/api/bzzz/keys", {"name": f"node-{node}", "role": "node"})
            lines.append(Line(hive.port, key["key"]))
        # What a Hive does once after it was started is not what it does all day.
        await asyncio.gather(*(line.call("GET", "/api/bzzz/active-repos") for line in lines))
        for project in projects:
            await admin.call("GET", f"/api/bzzz/projects/{project}/tasks")
        yield Stage(hive, admin, lines, projects)
    finally:
        for line in (admin, *lines):
            line.close()
        await asyncio.to_thread(hive.stop)


def _name(number: int) -> str:
    return f"service-{number}"


def _open_issues(hive: HiveProcess) -> None:
    with hive.forge() as forge:
        for name in map(_name, range(PROJECTS)):
            forge.create_repository("acme", name, files={"README.md": f"# {name}\n"})
            for number in range(TASKS_PER_PROJECT):
                forge.create_issue(
                    "acme", name, f"Totals of {name} are wrong ({number})", BODY, labels=["bzzz-task"]
                )


async def _ask(line: Line, method: str, path: str, body: Any) -> Any:
    status, answer = await line.call(method, path, body)
    if status >= 300:
        raise RuntimeError(f"{method} {path} answered {status}: {answer[:300]!r}")
    return json.loads(answer)


# --- load -------------------------------------------------------------------------------------------------------


async def _load(stage: Stage, database: str) -> list[Row]:
    async with listening(stage.lines):
        results: list[Row] = []
        for turn, (pace, round_s) in enumerate(PACES_S.items()):
            tasks = stage.tasks[turn * len(stage.lines) :]
            together = await paced(stage.lines, tasks, Load(round_s, 1, stage.projects))
            results += _paced_rows(together, f"{database}, {pace}", database, round_s)
    for name, next_call in _calls(stage).items():
        alone = await closed_loop(stage.lines[:LOOP_LINES], name, next_call, LOOP_S)
        results += _alone_rows(alone, name, database)
    results += await _report_all(stage, database)
    return results


def _calls(stage: Stage) -> dict[str, Callable[[int], tuple[str, str, Any]]]:
    """Each call, as often as it is wanted: what stores something stores something new each time."""
    tasks = stage.tasks
    calls: dict[str, Callable[[int], tuple[str, str, Any]]] = {}
    for name in calls_of(tasks[0], ""):
        calls[name] = lambda turn, name=name: calls_of(tasks[turn % len(tasks)], "loop", 1 + turn)[name]  # type: ignore[misc]
    for name, path in (
        ("health", "/health"),
        ("active-repos", "/api/bzzz/active-repos"),
        ("projects", "/api/bzzz/projects"),
        ("captures", "/api/bzzz/captures?task=1&bodies=false"),
    ):
        calls[name] = lambda _, path=path: ("GET", path, None)  # type: ignore[misc]
    calls["tasks"] = lambda _: ("GET", f"/api/bzzz/projects/{stage.projects[0]}/tasks", None)
    talk = {"type": "dependency", "details": {"session_id": "s"}}
    for name in ("coordination-log", "chat-log", "antennae-log"):
        calls[name] = lambda turn, name=name: ("POST", f"/api/bzzz/{name}", {**talk, "turn": turn})  # type: ignore[misc]
    calls["coordination-discussion"] = lambda turn: (
        "POST",
        f"/api/bzzz/projects/{stage.projects[0]}/coordination-discussion",
        {"type": "conflict_resolution", "participants": ["a", "b"], "messages": [{"text": "mine"}], "turn": turn},
    )
    calls["claim"] = lambda turn: (
        "POST",
        f"/api/bzzz/projects/{tasks[-1 - turn].project_id}/claim",
        {"task_number": tasks[-1 - turn].number, "agent_id": "loop"},
    )
    return calls


async def _report_all(stage: Stage, database: str) -> list[Row]:
    tasks = stage.tasks
    turns = iter(range(len(tasks)))
    measured = Measured()

    async def reporter(line: Line) -> None:
        for turn in turns:
            await measured.time("report", line.call(*calls_of(tasks[turn], "all", 10**6)["status (completed)"]))

    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(reporter(line) for line in stage.lines))
    elapsed_s = asyncio.get_running_loop().time() - began_s
    _expect(measured, database)
    shared = {"database": database, "nodes": NODES, "tasks": len(tasks)}
    return [
        {
            "name": f"{database}: every task reported at once",
            "value": _round(len(tasks) / elapsed_s),
            "unit": "reports/s",
            **shared,
        },
        {"name": f"{database}: every task reported at once, p99", **_ms(measured.everything(), 0.99), **shared},
    ]


def _paced_rows(measured: Measured, name: str, database: str, round_s: float) -> list[Row]:
    _expect(measured, database)
    calls = measured.everything()
    shared = {"database": database, "nodes": NODES, "tasks": PROJECTS * TASKS_PER_PROJECT, "round_s": round_s}
    rows: list[Row] = [
        {"name": f"{name}: all calls, p50", **_ms(calls, 0.5), **shared},
        {"name": f"{name}: all calls, p99", **_ms(calls, 0.99), **shared},
        {
            "name": f"{name}: calls",
            "value": _round(len(calls) / round_s),
            "unit": "requests/s",
            **shared,
        },
    ]
    for call, seconds in measured.seconds.items():
        rows += [
            {"name": f"{name}: {call}, p{int(share * 100)}", **_ms(seconds, share), **shared}
            for share in (0.5, 0.99)
        ]
    return rows


def _alone_rows(measured: Measured, name: str, database: str) -> list[Row]:
    _expect(measured, database)
    seconds = measured.everything()
    shared = {"database": database, "connections": LOOP_LINES, "calls": len(seconds)}
    rate = {"value": _round(len(seconds) / measured.elapsed_s), "unit": "requests/s"}
    return [
        {"name": f"{database}: {name}", **rate, **shared},
        *(
            {"name": f"{database}: {name}, p{int(share * 100)}", **_ms(seconds, share), **shared}
            for share in (0.5, 0.99)
        ),
    ]


def _expect(measured: Measured, database: str) -> None:
    if measured.unexpected:
        raise RuntimeError(f"{database}: answers that were not expected: {dict(measured.unexpected)}")


def _ms(seconds: Sequence[float], share: float) -> Row:
    return {"value": _round(percentile(seconds, share) * 1000), "unit": "ms"}


def _round(value: float) -> float:
    return round(value, 2)


# --- claims beside job queues -----------------------------------------------------------------------------------


async def _claims(stage: Stage, seconds: Seconds) -> None:
    address = f"{stage.hive.url}/api/bzzz/projects/{stage.projects[1]}"
    made = await _ask(stage.admin, "POST", "/api/bzzz/keys", {"name": "claimant", "role": "node"})
    os.environ.pop("BZZZ_HIVE_API_KEY", None)
    await queue.claims("hive", address, made["key"], seconds, kind="hive", counts=CLAIM_WORKERS, jobs_at_once=40)


def _beside(seconds: Seconds) -> list[Row]:
    rows: list[Row] = []
    for count in CLAIM_WORKERS:
        for peer in ("procrastinate", "pgqueuer"):
            own, theirs = seconds["hive", "ranked", count], seconds[peer, "ranked", count]
            title = f"claim through the API, {count} workers, beside {peer}"
            shared = {
                "database": "PostgreSQL",
                "workers": count,
                "peer": queue.PEERS[peer],
                "gives": queue.FENCED,
                "peer_gives": queue.MARKED,
            }
            for share, of in ((0.5, statistics.median), (0.99, lambda values: percentile(values, 0.99))):
                value, peer_value = of(own) * 1000, of(theirs) * 1000
                rows.append(
                    {
                        "name": f"{title}, p{int(share * 100)}",
                        "value": _round(value),
                        "peer_value": _round(peer_value),
                        "unit": "ms",
                        **shared,
                    }
                )
    return rows

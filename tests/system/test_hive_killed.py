"""Field note 5: no report is lost, though Hive and its database are killed while nodes report.

Real outboxes over real journals report to a real ``bzzz hive serve``, which is killed and started again in the
middle; so is the PostgreSQL behind it. In the end Hive has each report once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy
from tests.support.hive_process import HiveProcess
from tests.support.hive_world import SmallForge
from tests.support.postgres import PostgresServer, running_postgres

from bzzz.core.task import Repository, TaskId
from bzzz.hive.client import HttpHive
from bzzz.hive.setting import sqlite_url
from bzzz.journal.store import SqliteJournal
from bzzz.ledger.memory import MemoryLedger, MemoryStore
from bzzz.runtime import outbox as module
from bzzz.runtime.clock import SystemClock
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.outbox import Outbox
from bzzz.runtime.shells import AgentChoice, Shells

NODES = 20
TASKS = 12
REPORTS = NODES * TASKS * 2
DONE_S_MAX = 120.0
# What a database must keep through the death of all its processes; only the machine itself lives on.
DURABLE = {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on"}
SHOP = Repository(1, "shop", "acme", "shop", "http://forge.test/acme/shop.git", "http://forge.test/api/v3")


class LabelForge(SmallForge):
    """A forge that takes labels."""

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        return None

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        return None


class Reporters:
    """The outboxes of many nodes."""

    def __init__(self, folder: Path, url: str) -> None:
        self.journals: list[SqliteJournal] = []
        self.outboxes: list[Outbox] = []
        self.hives: list[HttpHive] = []
        store, clock, unused = MemoryStore(), SystemClock(), cast("Any", None)
        store.add(SHOP.key)
        for node in range(NODES):
            journal = SqliteJournal(folder / f"node-{node}" / "journal.db")
            hive = HttpHive(url, None, clock)
            shells = Shells(
                transport=unused,
                ledger=MemoryLedger(store),
                forge=LabelForge(),
                hive=hive,
                runner=unused,
                journal=journal,
                clock=clock,
                agent=AgentChoice(f"node-{node}"),
                admit=unused,
            )
            self.journals.append(journal)
            self.hives.append(hive)
            self.outboxes.append(Outbox(shells, lambda _: SHOP, EventLog(clock.wall_s, lambda _: None)))

    def waiting(self) -> int:
        """Reports that have not arrived."""
        return sum(journal.outbox_length() for journal in self.journals)

    def failed(self) -> bool:
        """Whether a report was tried in vain."""
        return any(item.tries for journal in self.journals for item in journal.pending(200))

    def enqueue(self) -> None:
        """A claim and a delivery of every task."""
        for node, journal in enumerate(self.journals):
            for task in range(TASKS):
                key = TaskId(SHOP.key, node * TASKS + task + 1)
                journal.enqueue(key, 1, "claimed", {})
                pull = f"http://forge.test/acme/shop/pull/{key.number}"
                journal.enqueue(key, 1, "delivered", {"pull_request": pull, "branch": f"b-{key.number}"})

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Wait for something that the outboxes bring about."""
        async with asyncio.timeout(DONE_S_MAX):
            while not wanted():  # noqa: ASYNC110 - what is waited for is in files and other processes
                await asyncio.sleep(0.02)


@asynccontextmanager
async def reporting(folder: Path, url: str) -> AsyncIterator[Reporters]:
    reporters = Reporters(folder, url)
    reporters.enqueue()
    loops = [asyncio.create_task(outbox.run()) for outbox in reporters.outboxes]
    try:
        yield reporters
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for hive, journal in zip(reporters.hives, reporters.journals, strict=True):
            await hive.close()
            journal.close()


@pytest.fixture(autouse=True)
def impatient_outboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    monkeypatch.setattr(module, "RETRY_S_MAX", 1.0)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with running_postgres(**DURABLE) as running:
        yield running


def kept(url: str) -> dict[str, int]:
    """What Hive's database holds."""
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    queries = {
        "reports": "SELECT count(*) FROM bzzz_task_reports",
        "tasks reported": "SELECT count(DISTINCT task_number) FROM bzzz_task_reports WHERE status = 'completed'",
        "pull requests": "SELECT count(*) FROM bzzz_captures WHERE kind = 'create-pr'",
    }
    with engine.connect() as connection:
        found = {
            name: int(connection.execute(sqlalchemy.text(query)).scalar_one()) for name, query in queries.items()
        }
    engine.dispose()
    return found


EACH_ONCE = {"reports": REPORTS, "tasks reported": NODES * TASKS, "pull requests": NODES * TASKS}


def kill_postgres(postgres: PostgresServer) -> None:
    """SIGKILL to the server's first process; the others see that it is gone, and go."""
    pid = int((postgres.folder / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


def start_postgres(postgres: PostgresServer) -> None:
    """Start it again, once the last process of the killed one has let go of its memory."""
    for _ in range(100):
        try:
            postgres.server.ensure_postgres_running()
            with psycopg.connect(postgres.url("postgres")):
                return
        except Exception as error:
            last = error
            signal.sigtimedwait([], 0.1)
    raise AssertionError(f"PostgreSQL does not start again: {last}")


async def test_each_report_arrives_once_though_hive_is_killed_twice_in_the_middle(tmp_path: Path) -> None:
    hive = HiveProcess(tmp_path)
    await asyncio.to_thread(hive.start)
    try:
        draft = {"name": "shop", "git_url": SHOP.git_url}
        await asyncio.to_thread(hive.ask, "POST", "/api/bzzz/projects?check=false", json=draft)
        async with reporting(tmp_path, hive.url) as reporters:
            for share in (0.7, 0.4):
                await reporters.until(lambda share=share: reporters.waiting() < REPORTS * share)  # type: ignore[misc]
                hive.kill()
                assert reporters.waiting()
                await reporters.until(reporters.failed)
                await asyncio.to_thread(hive.start)
            await reporters.until(lambda: reporters.waiting() == 0)
    finally:
        await asyncio.to_thread(hive.stop)
    assert kept(sqlite_url(tmp_path / "hive" / "hive.db")) == EACH_ONCE


async def test_each_report_arrives_once_though_the_database_and_then_hive_are_killed_in_the_middle(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.create()
    (tmp_path / "url").write_text(url)
    hive = HiveProcess(tmp_path, ["--database-url-file", str(tmp_path / "url")])
    await asyncio.to_thread(hive.start)
    try:
        draft = {"name": "shop", "git_url": SHOP.git_url}
        await asyncio.to_thread(hive.ask, "POST", "/api/bzzz/projects?check=false", json=draft)
        async with reporting(tmp_path, hive.url) as reporters:
            await reporters.until(lambda: reporters.waiting() < REPORTS * 0.7)
            kill_postgres(postgres)
            assert reporters.waiting()
            await reporters.until(reporters.failed)
            await asyncio.to_thread(start_postgres, postgres)
            await reporters.until(lambda: reporters.waiting() < REPORTS * 0.4)
            hive.kill()
            assert reporters.waiting()
            await asyncio.to_thread(hive.start)
            await reporters.until(lambda: reporters.waiting() == 0)
    finally:
        await asyncio.to_thread(hive.stop)
    assert kept(url) == EACH_ONCE

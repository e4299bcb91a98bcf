"""Writes that arrive together (``bzzz.hive.batch``), and answers rendered once (``bzzz.hive.rendered``)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from tests.support.hive_server import running_hive
from tests.support.hive_world import issue

from bzzz.errors import ServiceUnavailable
from bzzz.hive.batch import Batch

TASKS = "/api/bzzz/projects/1/tasks"


class Writer:
    """Writes into a list; the first write waits until it may go on."""

    def __init__(self, poison: str = "", error: Exception | None = None) -> None:
        self.batches: list[Sequence[str]] = []
        self.go_on = threading.Event()
        self._poison = poison
        self._error = error or IntegrityError("INSERT", {}, Exception("poisoned"))

    def write(self, items: Sequence[str]) -> Sequence[int]:
        if not self.batches:
            self.batches.append(items)
            self.go_on.wait(10)
        else:
            self.batches.append(items)
        if self._poison in items:
            raise self._error
        return [len(item) for item in items]


async def put_all(batch: Batch[str, int], writer: Writer, items: Sequence[str]) -> list[int | BaseException]:
    """The first item is being written while the others come."""
    first = asyncio.create_task(batch.put(items[0]))
    while not writer.batches:  # noqa: ASYNC110 - it is filled by a thread
        await asyncio.sleep(0)
    others = [asyncio.create_task(batch.put(item)) for item in items[1:]]
    await asyncio.sleep(0)
    writer.go_on.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


async def test_what_comes_while_a_write_is_under_way_goes_together_and_each_gets_its_own_answer() -> None:
    writer = Writer(poison="none of them")
    batch = Batch("things", writer.write, items_max=3)
    assert await put_all(batch, writer, ["a", "bb", "ccc", "dddd", "eeeee"]) == [1, 2, 3, 4, 5]
    assert writer.batches == [["a"], ["bb", "ccc", "dddd"], ["eeeee"]]
    assert batch.counters() == {"things_batches": 3, "things_batched": 5, "things_batch_refused": 0}


async def test_an_item_that_spoils_a_batch_fails_alone() -> None:
    writer = Writer(poison="ccc")
    results = await put_all(Batch("things", writer.write), writer, ["a", "bb", "ccc", "dddd"])
    assert [type(result) for result in results] == [int, int, IntegrityError, int]


async def test_a_database_that_is_away_is_asked_once_for_all_of_a_batch() -> None:
    away = OperationalError("INSERT", {}, Exception("gone"))
    writer = Writer(poison="ccc", error=away)
    results = await put_all(Batch("things", writer.write), writer, ["a", "bb", "ccc", "dddd"])
    assert results == [1, away, away, away]
    assert writer.batches == [["a"], ["bb", "ccc", "dddd"]]


async def test_more_than_may_wait_is_refused_and_counted() -> None:
    writer = Writer(poison="none of them")
    batch = Batch("things", writer.write, waiting_max=2)
    results = await put_all(batch, writer, ["a", "bb", "ccc", "dddd"])
    assert [type(result) for result in results] == [int, int, int, ServiceUnavailable]
    assert batch.counters()["things_batch_refused"] == 1


async def test_closing_writes_what_waits() -> None:
    writer = Writer(poison="none of them")
    batch = Batch("things", writer.write)
    asked = asyncio.create_task(batch.put("a"))
    await asyncio.sleep(0)
    writer.go_on.set()
    await batch.close()
    assert writer.batches == [["a"]]
    assert await asked == 1


@pytest.mark.parametrize("path", [TASKS, "/api/bzzz/active-repos"])
async def test_who_has_an_answer_already_is_told_so_until_it_changes(tmp_path: Path, path: str) -> None:
    async with running_hive(tmp_path) as hive, hive.client() as client:
        hive.add_project()
        hive.forge.put("acme/shop", issue(1))
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
        hive.forge.put("acme/shop", issue(1, "Another title"))
        hive.add_project("till", "acme/till")
        changed = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert changed.status_code == 200
        assert changed.headers["etag"] != first.headers["etag"]


async def test_a_task_is_shown_anew_when_its_issue_its_claim_or_its_report_changes(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive, hive.client() as client:
        hive.add_project()
        hive.forge.put("acme/shop", issue(1), issue(2))

        async def shown() -> tuple[str, bool, str | None]:
            task = (await client.get(TASKS)).json()[0]
            return task["title"], task["is_claimed"], task["status"]

        assert await shown() == ("Cart total is wrong", False, None)
        hive.forge.put("acme/shop", issue(1, "Totals"))
        assert await shown() == ("Totals", False, None)
        await client.post("/api/bzzz/projects/1/claim", json={"task_number": 1, "agent_id": "old"})
        assert await shown() == ("Totals", True, None)
        await client.put("/api/bzzz/projects/1/status", json={"task_number": 1, "status": "in_progress"})
        assert await shown() == ("Totals", True, "in_progress")

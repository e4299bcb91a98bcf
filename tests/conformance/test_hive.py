"""One suite for every adapter of the ``Hive`` port: over HTTP against the real server, and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.hive_server import RealClock, RunningHive, running_hive

from bzzz.core.task import Repository
from bzzz.errors import ServiceError, ServiceMissing, ServiceUnavailable
from bzzz.hive.capture import CaptureQuery
from bzzz.hive.client import HttpHive
from bzzz.hive.memory import MemoryHive
from bzzz.ports import Hive


class Bench(Protocol):
    """A Hive, and hands to change what is behind it."""

    hive: Hive

    async def add(self, repository: str) -> None: ...
    async def disable(self, repository: str) -> None: ...
    async def change(self, repository: str) -> None: ...
    async def reports(self, repository: str, number: int) -> int: ...
    async def captures(self, repository: str, number: int) -> int: ...
    async def go_away(self) -> None: ...


class HttpBench:
    def __init__(self, running: RunningHive) -> None:
        self._running = running
        self._ids: dict[str, int] = {}
        self.hive: Hive = HttpHive(running.url, None, RealClock())

    async def add(self, repository: str) -> None:
        async with self._running.client() as client:
            draft = {"name": repository, "git_url": f"http://forge.test/{repository}.git"}
            answer = await client.post("/api/bzzz/projects", json=draft)
            self._ids[repository] = answer.json()["id"]

    async def disable(self, repository: str) -> None:
        async with self._running.client() as client:
            path = f"/api/bzzz/projects/{self._ids[repository]}"
            assert (await client.patch(path, json={"bzzz_enabled": False})).status_code == 200

    async def change(self, repository: str) -> None:
        self._running.parts.changes.publish(repository)

    async def reports(self, repository: str, number: int) -> int:
        project_id = self._ids[repository]
        return len(self._running.parts.store.reports.of(project_id, number))

    async def captures(self, repository: str, number: int) -> int:
        query = CaptureQuery(project_id=self._ids[repository], task_number=number)
        return self._running.parts.store.captures.sums(query).items

    async def go_away(self) -> None:
        await self._running.stop()


class MemoryBench:
    def __init__(self) -> None:
        self._memory = MemoryHive()
        self.hive: Hive = self._memory
        self._count = 0

    async def add(self, repository: str) -> None:
        self._count += 1
        owner, _, name = repository.partition("/")
        root = "http://forge.test"
        self._memory.put(
            Repository(self._count, repository, owner, name, f"{root}/{repository}.git", f"{root}/api/v3")
        )

    async def disable(self, repository: str) -> None:
        self._memory.remove(repository)

    async def change(self, repository: str) -> None:
        self._memory.change(repository)

    async def reports(self, repository: str, number: int) -> int:
        return sum(one.repository == repository and one.number == number for one in self._memory.reports)

    async def captures(self, repository: str, number: int) -> int:
        return sum(one.repository == repository and one.number == number for one in self._memory.captures)

    async def go_away(self) -> None:
        self._memory.away()


@pytest.fixture(params=["http", "memory"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        made: Bench
        if request.param == "http":
            made = HttpBench(await stack.enter_async_context(running_hive(tmp_path)))
        else:
            made = MemoryBench()
        stack.push_async_callback(made.hive.close)
        yield made


async def test_an_enabled_project_is_an_active_repository_with_its_forge_address(bench: Bench) -> None:
    await bench.add("acme/shop")
    (found,) = await bench.hive.active_repositories()
    assert found.key == "acme/shop"
    assert found.git_url == "http://forge.test/acme/shop.git"
    assert found.api_url == "http://forge.test/api/v3"
    assert found.branch == "main"


async def test_a_disabled_project_is_no_active_repository(bench: Bench) -> None:
    await bench.add("acme/shop")
    await bench.add("acme/till")
    await bench.disable("acme/shop")
    assert [one.key for one in await bench.hive.active_repositories()] == ["acme/till"]


async def test_the_same_report_sent_twice_counts_once(bench: Bench) -> None:
    await bench.add("acme/shop")
    (repository,) = await bench.hive.active_repositories()
    for _ in range(2):
        await bench.hive.report_status(repository, 7, "completed", {"pull_request": "http://forge.test/1"})
    assert await bench.reports("acme/shop", 7) == 1
    await bench.hive.report_status(repository, 7, "failed", {"reason": "check"})
    assert await bench.reports("acme/shop", 7) == 2


async def test_a_report_about_a_project_that_is_gone_is_missing(bench: Bench) -> None:
    stranger = Repository(99, "gone", "acme", "gone", "http://forge.test/acme/gone.git", "http://forge.test/api/v3")
    with pytest.raises(ServiceMissing):
        await bench.hive.report_status(stranger, 1, "failed", {})


async def test_the_same_item_captured_twice_is_one(bench: Bench) -> None:
    await bench.add("acme/shop")
    (repository,) = await bench.hive.active_repositories()
    item = {"agent_id": "walnut", "pr_url": "http://forge.test/acme/shop/pull/4", "check": {"status": 0}}
    for _ in range(2):
        await bench.hive.capture("create-pr", repository, 7, item)
    assert await bench.captures("acme/shop", 7) == 1
    await bench.hive.capture("submit-work", repository, 7, {"agent_id": "walnut", "content": "x"})
    assert await bench.captures("acme/shop", 7) == 2


async def test_an_item_of_an_unknown_kind_or_project_is_missing(bench: Bench) -> None:
    await bench.add("acme/shop")
    (repository,) = await bench.hive.active_repositories()
    with pytest.raises(ServiceError):
        await bench.hive.capture("no-such-kind", repository, 1, {})
    stranger = Repository(99, "gone", "acme", "gone", "http://forge.test/acme/gone.git", "http://forge.test/api/v3")
    with pytest.raises(ServiceMissing):
        await bench.hive.capture("submit-work", stranger, 1, {"agent_id": "walnut"})


async def test_a_status_that_nobody_knows_is_refused(bench: Bench) -> None:
    await bench.add("acme/shop")
    (repository,) = await bench.hive.active_repositories()
    with pytest.raises(ServiceError) as caught:
        await bench.hive.report_status(repository, 1, "sleeping", {})
    assert "status" in str(caught.value)


async def test_the_first_change_says_that_anything_may_have_changed_and_the_next_names_it(bench: Bench) -> None:
    assert await bench.hive.changes() == ""
    await bench.change("acme/shop")
    assert await bench.hive.changes() == "acme/shop"


async def test_a_new_project_is_a_change(bench: Bench) -> None:
    assert await bench.hive.changes() == ""
    await bench.add("acme/shop")
    assert await bench.hive.changes() == "acme/shop"


async def test_changes_that_nobody_waited_for_are_kept_each_repository_once(bench: Bench) -> None:
    assert await bench.hive.changes() == ""
    for repository in ("acme/a", "acme/b", "acme/a", "acme/c"):
        await bench.change(repository)
    assert [await bench.hive.changes() for _ in range(3)] == ["acme/a", "acme/b", "acme/c"]


async def test_giving_up_on_waiting_loses_no_later_change(bench: Bench) -> None:
    assert await bench.hive.changes() == ""
    waiting = asyncio.create_task(bench.hive.changes())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await bench.change("acme/shop")
    assert await bench.hive.changes() == "acme/shop"


async def test_a_hive_that_is_away_is_unavailable_for_every_call(bench: Bench) -> None:
    await bench.add("acme/shop")
    (repository,) = await bench.hive.active_repositories()
    await bench.go_away()
    with pytest.raises(ServiceUnavailable):
        await bench.hive.active_repositories()
    with pytest.raises(ServiceUnavailable):
        await bench.hive.report_status(repository, 1, "failed", {})
    with pytest.raises(ServiceUnavailable):
        await bench.hive.capture("submit-work", repository, 1, {"agent_id": "walnut"})
    with pytest.raises(ServiceUnavailable):
        await bench.hive.changes()


async def test_closing_ends_a_wait_for_changes_and_may_be_done_twice(bench: Bench) -> None:
    assert await bench.hive.changes() == ""
    waiting = asyncio.create_task(bench.hive.changes())
    await asyncio.sleep(0)
    await bench.hive.close()
    await bench.hive.close()
    with pytest.raises(ServiceUnavailable):
        await waiting
    with pytest.raises(ServiceUnavailable):
        await bench.hive.changes()

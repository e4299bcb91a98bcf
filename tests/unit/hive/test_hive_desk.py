from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from tests.support.faulty_server import faulty_server, json_answer
from tests.support.hive_server import RealClock

from bzzz.errors import ServiceNonsense, UsageError
from bzzz.hive.desk import HttpDesk, StoreDesk, find
from bzzz.hive.setting import sqlite_url


def test_a_project_is_found_by_name_before_repository_before_id(tmp_path: Path) -> None:
    desk = StoreDesk(sqlite_url(tmp_path / "hive.db"), RealClock(), "http://forge.test")
    for name, repository in (("shop", "acme/shop"), ("acme/shop", "acme/till"), ("1", "acme/one")):
        desk.add({"name": name, "github_repo": repository})
    projects = desk.list()
    assert find(projects, "acme/shop").key == "acme/till"
    assert find(projects, "ACME/shop").name == "shop"
    assert find(projects, "1").key == "acme/one"
    assert find(projects, "2").name == "acme/shop"
    with pytest.raises(UsageError, match="no project 'mill'; there is shop, acme/shop, 1"):
        find(projects, "mill")


@contextmanager
def answering(value: object) -> Iterator[str]:
    """A Hive that answers everything with this, in a thread: a desk runs an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[str, asyncio.Event]:
        ended = asyncio.Event()

        async def hold() -> None:
            async with faulty_server() as server:
                server.answers = [json_answer(value)]
                began.set_result(server.url)
                await ended.wait()

        began: asyncio.Future[str] = loop.create_future()
        tasks.append(loop.create_task(hold()))
        return await began, ended

    async def end(ended: asyncio.Event) -> None:
        ended.set()
        await asyncio.gather(*tasks)

    tasks: list[asyncio.Task[None]] = []
    url, ended = asyncio.run_coroutine_threadsafe(begin(), loop).result(5)
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(end(ended), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "no list 'projects'"),
        ({"projects": [{"id": 1}]}, "name: Field required"),
        ({"projects": [3]}, "project"),
    ],
)
def test_an_answer_that_is_no_projects_is_one_clear_line(value: object, said: str) -> None:
    with answering(value) as url, pytest.raises(ServiceNonsense) as caught:
        HttpDesk(url, None, RealClock()).list()
    assert url in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

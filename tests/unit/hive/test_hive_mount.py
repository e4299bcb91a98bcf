from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tests.support.hive_server import running_hive

from bzzz.errors import UsageError
from bzzz.hive.mount import Guest


class Counting:
    """A guest application that notes its life."""

    def __init__(self, failure: str = "") -> None:
        self.life: list[str] = []
        self.failure = failure

        async def hello(request: Request) -> PlainTextResponse:
            size = len(await request.body())
            return PlainTextResponse(f"{request.scope['root_path']} {request.state.word} {size}")

        self.app = Starlette(
            routes=[Route("/hello/{name}", hello, methods=["GET", "POST"])], lifespan=self._lifespan
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[dict[str, str]]:
        if self.failure:
            raise RuntimeError(self.failure)
        self.life.append("started")
        yield {"word": "there"}
        self.life.append("stopped")


async def test_a_mounted_application_starts_serves_and_stops_with_hive(tmp_path: Path) -> None:
    guest = Counting()
    async with running_hive(tmp_path, mounts={"/forge": guest.app}) as hive, hive.client() as client:
        assert guest.life == ["started"]
        assert (await client.get("/forge/hello/x")).text == "/forge there 0"
    assert guest.life == ["started", "stopped"]


async def test_a_mounted_application_has_its_own_access_rules_and_body_bound(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k" * 32)
    mounts = {"/forge": Counting().app}
    async with running_hive(tmp_path, mounts=mounts, key_file=keys) as hive, hive.client() as client:
        answer = await client.post("/forge/hello/x", content=b"x" * 6_000_000)
        assert answer.text == "/forge there 6000000"
        assert (await client.get("/forgery")).status_code == 401


async def test_a_mounted_application_that_cannot_start_says_which_and_why() -> None:
    with pytest.raises(UsageError, match=r"/forge cannot start: RuntimeError: the folder is locked"):
        async with Guest("/forge", Counting("the folder is locked").app).running():
            raise AssertionError("it must not run")


async def test_an_application_that_knows_no_lifespan_is_served_all_the_same() -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    async with Guest("/bare", bare).running():
        pass

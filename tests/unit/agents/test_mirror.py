"""Fetching: where the token goes, and who is to blame when it fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.agent_fixture import git, make_origin, make_repository

from bzzz.agents.mirror import MirrorStore, classify
from bzzz.agents.setting import AgentSettings
from bzzz.core.task import Repository
from bzzz.errors import (
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceUnavailable,
)

TOKEN = "sekret-token-0123456789"
WORD = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


class Answering(ThreadingHTTPServer):
    """A git server that gives one answer to all, and remembers what it was asked and what ran meanwhile."""

    status = 404
    location = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.authorizations: list[str | None] = []
        self.command_lines: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers["Authorization"])
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.server.command_lines.append(path.read_bytes())
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _store(tmp_path: Path) -> MirrorStore:
    return MirrorStore(AgentSettings(tmp_path / "data", "node"), lambda _: TOKEN)


def _repository(server: Answering) -> Repository:
    url = f"http://127.0.0.1:{server.server_port}/acme/demo.git"
    return dataclasses.replace(make_repository(Path("/")), git_url=url)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ServiceDenied),
        (403, ServiceDenied),
        (404, ServiceMissing),
        (429, ServiceLimited),
        (500, ServiceFaulty),
        (503, ServiceFaulty),
    ],
)
async def test_the_answer_of_the_server_says_who_is_to_blame(
    tmp_path: Path, server: Answering, status: int, kind: type[ServiceError]
) -> None:
    server.status = status
    with pytest.raises(kind, match=r"git server of acme/demo: fetch branch main") as caught:
        await _store(tmp_path).fetch(_repository(server))
    assert type(caught.value) is kind


async def test_the_token_goes_to_the_server_and_nowhere_else(tmp_path: Path, server: Answering) -> None:
    store = _store(tmp_path)
    with pytest.raises(ServiceMissing) as caught:
        await store.fetch(_repository(server))
    assert server.authorizations[0] == f"Basic {WORD}"
    lines = b"".join(server.command_lines)
    assert b"acme/demo.git" in lines
    for secret in (TOKEN, WORD):
        assert secret.encode() not in lines
        assert secret not in str(caught.value)
        for path in (tmp_path / "data").rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes()


async def test_a_redirect_is_not_followed_with_the_token(tmp_path: Path, server: Answering) -> None:
    with Answering() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.status, server.location = 302, f"http://127.0.0.1:{other.server_port}/x/info/refs"
        with pytest.raises(ServiceError):
            await _store(tmp_path).fetch(_repository(server))
        other.shutdown()
        thread.join()
        assert other.authorizations == []


async def test_nobody_there_is_unavailable(tmp_path: Path, server: Answering) -> None:
    repository = dataclasses.replace(make_repository(Path("/")), git_url="http://127.0.0.1:1/x.git")
    with pytest.raises(ServiceUnavailable):
        await _store(tmp_path).fetch(repository)


@pytest.mark.parametrize("url", ["ext::sh -c touch% never", "ssh://127.0.0.1/x", "--upload-pack=touch never"])
def test_an_address_cannot_name_a_program(tmp_path: Path, url: str) -> None:
    repository = dataclasses.replace(make_repository(Path("/")), git_url=url)
    with pytest.raises(ServiceMissing):
        asyncio.run(_store(tmp_path).fetch(repository))
    assert list(tmp_path.rglob("never")) == []


async def test_a_missing_branch_is_missing(tmp_path: Path) -> None:
    repository = dataclasses.replace(make_repository(make_origin(tmp_path / "origin")), branch="trunk")
    with pytest.raises(ServiceMissing, match="trunk"):
        await _store(tmp_path).fetch(repository)


async def test_only_the_base_branch_is_fetched_and_a_rewritten_one_replaces_it(tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "origin")
    git(origin, "tag", "v1")
    git(origin, "branch", "other")
    store = _store(tmp_path)
    first = await store.fetch(make_repository(origin))
    assert len(git(first.mirror, "for-each-ref").splitlines()) == 1
    git(origin, "commit", "--quiet", "--amend", "--message=Anew")
    second = await store.fetch(make_repository(origin))
    assert second.commit == git(origin, "rev-parse", "main") != first.commit
    assert git(first.mirror, "cat-file", "-t", first.commit) == "commit"


async def test_whoever_gives_up_does_not_end_the_fetch_of_the_others(tmp_path: Path) -> None:
    store = _store(tmp_path)
    repository = make_repository(make_origin(tmp_path / "origin"))
    one, two = (asyncio.create_task(store.fetch(repository)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    assert (await two).commit == git(tmp_path / "origin", "rev-parse", "main")
    await store.close()


async def test_a_lock_that_a_killed_git_left_is_swept(tmp_path: Path) -> None:
    store = _store(tmp_path)
    repository = make_repository(make_origin(tmp_path / "origin"))
    base = await store.fetch(repository)
    git(tmp_path / "origin", "commit", "--quiet", "--allow-empty", "--message=Next")
    (ref,) = (base.mirror / "refs/bzzz/base").iterdir()
    ref.with_name(ref.name + ".lock").touch()
    with pytest.raises(ServiceUnavailable):
        await store.fetch(repository)
    assert store.sweep() == 1
    assert (await store.fetch(repository)).commit == git(tmp_path / "origin", "rev-parse", "main")


def test_words_of_git_that_are_not_known_mean_that_it_is_away() -> None:
    assert type(classify("git server", "fetch", "fatal: Could not resolve host")) is ServiceUnavailable

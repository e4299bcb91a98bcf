"""Each way in which a forge can be at fault, over a real socket, gives its own error and one clear line."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.forge_server import serve
from tests.support.manual_clock import ManualClock

from bzzz.core.task import Repository
from bzzz.errors import (
    ServiceConflict,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
)
from bzzz.forge.client import ClientSettings, GitHubForge

TOKEN = "ghp_plantedsecret0123456789"


@dataclass
class FaultyForge:
    """Answers whatever it is told to, and remembers what it was asked."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"[]"
    pause_s: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0
    was_asked: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked.append((scope["method"], scope["path"]))
        self.was_asked.set()
        await asyncio.sleep(self.pause_s)
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def says(self, status: int, message: str = "", **headers: str) -> None:
        self.status = status
        self.body = json.dumps({"message": message}).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def faulty() -> Iterator[FaultyForge]:
    app = FaultyForge()
    with serve(app) as port:
        app.port = port
        yield app


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def client_of(clock: ManualClock, timeout_s: float = 30.0) -> GitHubForge:
    settings = ClientSettings(timeout_s=timeout_s, body_bytes_max=10_000)
    return GitHubForge(lambda _: TOKEN, clock, settings, sleep=clock.sleep)


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[GitHubForge]:
    made = client_of(clock)
    yield made
    await made.close()


def at(port: int) -> Repository:
    return Repository(1, "r", "o", "n", "", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (401, "Bad credentials", ServiceDenied),
        (403, "Resource not accessible by personal access token", ServiceDenied),
        (404, "Not Found", ServiceMissing),
        (410, "Issues are disabled", ServiceMissing),
        (409, "Git Repository is empty.", ServiceConflict),
        (422, "Validation Failed", ServiceConflict),
        (500, "oops", ServiceFaulty),
        (503, "maintenance", ServiceFaulty),
    ],
)
async def test_each_status_is_its_own_error_with_one_line(
    client: GitHubForge, faulty: FaultyForge, status: int, message: str, error: type[ServiceError]
) -> None:
    faulty.says(status, message)
    with pytest.raises(error) as raised:
        await client.read_issue(at(faulty.port), 1)
    text = str(raised.value)
    assert type(raised.value) is error
    assert raised.value.status == status
    assert "reading o/n#1" in text
    assert message in text
    assert "\n" not in text
    assert TOKEN not in text


async def test_a_429_tells_how_long_to_wait_and_nothing_is_asked_until_then(
    client: GitHubForge, faulty: FaultyForge, clock: ManualClock
) -> None:
    faulty.says(429, "slow down", retry_after="30")
    with pytest.raises(ServiceLimited) as raised:
        await client.read_issue(at(faulty.port), 1)
    assert raised.value.retry_after_s == 30

    clock.advance(29)
    with pytest.raises(ServiceLimited, match="held back") as raised:
        await client.read_issue(at(faulty.port), 1)
    assert raised.value.retry_after_s == 1
    assert len(faulty.asked) == 1

    clock.advance(2)
    faulty.says(404)
    with pytest.raises(ServiceMissing):
        await client.read_issue(at(faulty.port), 1)
    assert len(faulty.asked) == 2
    assert client.counters()["limited"] == 1
    assert client.counters()["held_back"] == 1


async def test_one_limited_forge_does_not_hold_back_another(client: GitHubForge, faulty: FaultyForge) -> None:
    faulty.says(429, "slow down", retry_after="30")
    other = FaultyForge(status=404, body=b"{}")
    with pytest.raises(ServiceLimited):
        await client.read_issue(at(faulty.port), 1)
    with serve(other) as port, pytest.raises(ServiceMissing):
        await client.read_issue(at(port), 1)


@pytest.mark.parametrize(
    ("message", "headers", "wait_s"),
    [
        ("You have exceeded a secondary rate limit. Please wait a few minutes.", {}, 60),
        ("You have exceeded a secondary rate limit.", {"retry_after": "7"}, 7),
        ("API rate limit exceeded", {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1790000090"}, 90),
        ("Forbidden", {"retry_after": "5"}, 5),
    ],
)
async def test_a_403_that_is_a_limit_is_a_limit(
    client: GitHubForge, faulty: FaultyForge, message: str, headers: dict[str, str], wait_s: float
) -> None:
    faulty.says(403, message, **headers)
    with pytest.raises(ServiceLimited) as raised:
        await client.list_issues(at(faulty.port), "bzzz-task")
    assert raised.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in to the wifi</html>",
        b"",
        b"{",
        b"[" * 5000,
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'[{"number":"x"}]',
    ],
)
async def test_nonsense_is_named_as_such(client: GitHubForge, faulty: FaultyForge, body: bytes) -> None:
    faulty.body, faulty.headers = body, {"content-type": "text/html"}
    with pytest.raises(ServiceNonsense, match="listing issues of o/n"):
        await client.list_issues(at(faulty.port), "bzzz-task")


async def test_an_answer_above_the_bound_is_not_read(client: GitHubForge, faulty: FaultyForge) -> None:
    faulty.body = b"[" + b" " * 20_000 + b"]"
    with pytest.raises(ServiceNonsense, match="above 10000 bytes"):
        await client.list_issues(at(faulty.port), "bzzz-task")


async def test_nobody_there_is_unavailable(client: GitHubForge) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ServiceUnavailable, match="reading o/n#1"):
            await client.read_issue(at(unused.getsockname()[1]), 1)


async def test_a_slow_forge_is_unavailable(clock: ManualClock, faulty: FaultyForge) -> None:
    faulty.pause_s = 2
    hasty = client_of(clock, timeout_s=0.5)
    with pytest.raises(ServiceUnavailable, match=r"no answer within 0\.5 s"):
        await hasty.read_issue(at(faulty.port), 1)
    await hasty.close()


async def test_a_server_that_speaks_no_http_is_nonsense(client: GitHubForge) -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ServiceNonsense):
            await client.read_issue(at(server.sockets[0].getsockname()[1]), 1)


async def test_an_address_that_is_none_is_said_so(client: GitHubForge) -> None:
    wrong = Repository(1, "r", "o", "n", "", "localhost:no port")
    with pytest.raises(ServiceUnavailable):
        await client.read_issue(wrong, 1)


async def test_a_next_page_on_another_server_is_not_followed(client: GitHubForge, faulty: FaultyForge) -> None:
    faulty.headers = {"link": '<http://127.0.0.1:1/steal>; rel="next"'}
    with pytest.raises(ServiceNonsense, match="another server"):
        await client.list_issues(at(faulty.port), "bzzz-task")
    assert len(faulty.asked) == 1


async def test_a_redirect_to_another_server_does_not_get_the_token(
    client: GitHubForge, faulty: FaultyForge
) -> None:
    with serve(FaultyForge()) as port:
        faulty.says(301, "Moved", location=f"http://127.0.0.1:{port}/x")
        with pytest.raises(ServiceMissing, match="it has moved"):
            await client.read_issue(at(faulty.port), 1)


async def test_after_five_failures_the_forge_is_left_alone_for_a_while(
    client: GitHubForge, faulty: FaultyForge, clock: ManualClock
) -> None:
    faulty.says(500)
    for _ in range(5):
        with pytest.raises(ServiceFaulty):
            await client.read_issue(at(faulty.port), 1)
    with pytest.raises(ServiceUnavailable, match="held back"):
        await client.read_issue(at(faulty.port), 1)
    assert len(faulty.asked) == 5
    clock.advance(3)
    faulty.says(404)
    for _ in range(2):
        with pytest.raises(ServiceMissing):
            await client.read_issue(at(faulty.port), 1)


async def test_writes_are_spaced_where_that_is_asked_for(faulty: FaultyForge, clock: ManualClock) -> None:
    spaced = GitHubForge(lambda _: None, clock, ClientSettings(write_spacing_s=1), sleep=clock.sleep)
    await asyncio.gather(*(spaced.add_labels(at(faulty.port), 1, ["x"]) for _ in range(3)))
    assert clock.slept_s == [1.0, 1.0]
    assert spaced.counters()["writes"] == 3
    await spaced.close()


async def test_a_filter_that_the_forge_ignores_is_applied_here(client: GitHubForge, faulty: FaultyForge) -> None:
    def issue(number: int, **more: Any) -> dict[str, Any]:
        base = {"number": number, "title": "t", "state": "open", "labels": [{"name": "bzzz-task"}]}
        return {**base, **more}

    found = [
        issue(1),
        issue(2, labels=[]),
        issue(3, pull_request={}),
        issue(4, state="closed"),
        issue(5, labels=["Bzzz-Task"]),
    ]
    faulty.body = json.dumps(found).encode()
    listing = await client.list_issues(at(faulty.port), "bzzz-task")
    assert [each.number for each in listing.issues] == [1, 5]


async def test_a_cancelled_request_leaves_the_client_usable(client: GitHubForge, faulty: FaultyForge) -> None:
    faulty.pause_s = 0.3
    task = asyncio.create_task(client.list_issues(at(faulty.port), "bzzz-task"))
    await asyncio.to_thread(faulty.was_asked.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    faulty.pause_s = 0
    assert (await client.list_issues(at(faulty.port), "bzzz-task")).issues == ()

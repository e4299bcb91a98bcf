"""A node against a Hive that is old, broken, hostile or gone."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.faulty_server import FaultyServer, answer, event_stream, faulty_server, json_answer
from tests.support.hive_server import RealClock, free_socket

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
    SettingError,
)
from bzzz.hive import client as client_module
from bzzz.hive.client import RECONNECT_S_MAX, HttpHive, reconnect_s
from bzzz.hive.link import HiveLink

KEY = "s3cret-key-of-a-node"
REPOSITORY = Repository(4, "shop", "acme", "shop", "http://git.test/acme/shop.git", "http://git.test/api/v3")
OLD = {"project_id": 1, "name": "shop", "git_url": "https://github.com/acme/shop.git"}


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with faulty_server() as made:
        yield made


class Pauses:
    """Takes the place of sleeping: notes each pause, and lets it pass once it is allowed."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.allowed = asyncio.Semaphore(0)
        self.begun = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.begun.set()
        await self.allowed.acquire()


@pytest.fixture
async def pauses() -> Pauses:
    return Pauses()


def client(server: FaultyServer, pauses: Pauses, answer_timeout_s: float = 30.0) -> HttpHive:
    link = HiveLink(server.url, KEY, RealClock(), answer_timeout_s=answer_timeout_s, answer_bytes_max=10_000)
    return HttpHive(server.url, KEY, RealClock(), sleep=pauses, jitter=lambda: 0.5, link=link)


@pytest.fixture
async def hive(server: FaultyServer, pauses: Pauses) -> AsyncIterator[HttpHive]:
    made = client(server, pauses)
    yield made
    await made.close()


def fine(error: ServiceError, server: FaultyServer) -> None:
    """One line, bounded, that names the service and never the key."""
    text = str(error)
    assert text.startswith(f"Hive {server.url}: GET /api/bzzz/")
    assert text.isprintable()
    assert len(text) < 500
    assert KEY not in text


async def test_a_predecessors_answer_without_our_fields_is_enough(server: FaultyServer, hive: HttpHive) -> None:
    server.answers = [json_answer({"repositories": [OLD]})]
    (found,) = await hive.active_repositories()
    assert (found.key, found.api_url, found.branch, found.forge) == (
        "acme/shop",
        "https://api.github.com",
        "main",
        "github",
    )
    assert f"authorization: bearer {KEY}" in server.requests[0].lower()


async def test_broken_entries_are_left_out_counted_and_said_and_the_others_stay(
    server: FaultyServer, hive: HttpHive, caplog: pytest.LogCaptureFixture
) -> None:
    broken: list[Any] = [
        None,
        3,
        {},
        {**OLD, "project_id": "1"},
        {**OLD, "project_id": True},
        {**OLD, "git_url": None},
        {**OLD, "git_url": "ext::sh -c id"},
        {**OLD, "owner": "../.."},
        {**OLD, "repository": "-x/y"},
        {**OLD, "branch": "--upload-pack=x"},
        {**OLD, "branch": ["main"]},
        {**OLD, "api_url": "file:///etc/passwd"},
        {**OLD, "api_url": "http://[bad"},
        {**OLD, "api_url": f"http://x:{KEY}@h"},
        {**OLD, "name": "twice", "project_id": 9},
    ]
    asleep = {**OLD, "repository": "asleep", "bzzz_enabled": False}
    other = {**OLD, "project_id": 2, "name": "x\x1b[2J", "git_url": "http://git.test/acme/till.git"}
    server.answers = [json_answer({"repositories": [OLD, *broken, asleep, other]})]
    with caplog.at_level(logging.WARNING):
        found = await hive.active_repositories()
    assert [one.key for one in found] == ["acme/shop", "acme/till"]
    assert "\x1b" not in found[1].name
    assert hive.counters()["repositories_skipped"] == len(broken)
    assert f"{len(broken)} repositories left out" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ServiceDenied),
        (403, ServiceDenied),
        (404, ServiceMissing),
        (410, ServiceMissing),
        (409, ServiceConflict),
        (422, ServiceConflict),
        (429, ServiceLimited),
        (500, ServiceFaulty),
        (503, ServiceFaulty),
        (302, ServiceNonsense),
        (418, ServiceNonsense),
    ],
)
async def test_each_refusal_is_one_clear_line_of_its_kind(
    server: FaultyServer, hive: HttpHive, status: int, kind: type[ServiceError]
) -> None:
    body = json.dumps({"error": "no", "detail": f"you sent {KEY}\r\n\x1b[31m" + "x" * 9999})
    server.answers = [answer(status, body, Retry_After="7", Location=f"http://evil.test/?{KEY}")]
    with pytest.raises(kind) as caught:
        await hive.active_repositories()
    fine(caught.value, server)
    assert caught.value.status == status
    if isinstance(caught.value, ServiceLimited):
        assert caught.value.retry_after_s == 7
    assert hive.counters()["errors"] == 1


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (answer(200, "<html><h1>Welcome</h1>", "text/html"), ServiceNonsense),
        (answer(200, ""), ServiceNonsense),
        (answer(200, b"\xff\xfe\x00"), ServiceNonsense),
        (answer(200, "[" * 9_000), ServiceNonsense),
        (answer(200, "[]"), ServiceNonsense),
        (answer(200, '{"repositories": {}}'), ServiceNonsense),
        (answer(200, "x" * 10_001), ServiceNonsense),
        (answer(200, gzip.compress(b"x" * 5_000_000), Content_Encoding="gzip"), ServiceNonsense),
        (answer(500, "<html>" + "x" * 200_000, "text/html"), ServiceFaulty),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ServiceNonsense),
        (b"", ServiceUnavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", ServiceUnavailable),
    ],
    ids=["html", "empty", "binary", "deep", "list", "object", "large", "bomb", "large500", "ssh", "cut", "half"],
)
async def test_nonsense_is_one_clear_line(
    server: FaultyServer, hive: HttpHive, sent: bytes, kind: type[ServiceError]
) -> None:
    server.answers = [sent]
    with pytest.raises(kind) as caught:
        await hive.active_repositories()
    fine(caught.value, server)


async def test_an_answer_above_the_bound_is_not_read_to_its_end(server: FaultyServer, hive: HttpHive) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b" " * 4096)
            await writer.drain()

    server.answers = [endless]
    async with asyncio.timeout(5):
        with pytest.raises(ServiceNonsense, match="above 10000 bytes"):
            await hive.active_repositories()


async def test_an_answer_that_never_comes_is_unavailable(server: FaultyServer, pauses: Pauses) -> None:
    async def silent(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server.answers = [silent]
    hive = client(server, pauses, answer_timeout_s=0.3)
    with pytest.raises(ServiceUnavailable) as caught:
        await hive.active_repositories()
    fine(caught.value, server)
    await hive.close()


async def test_a_refused_connection_is_unavailable_and_says_where() -> None:
    with free_socket() as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        hive = HttpHive(url, None, RealClock())
        with pytest.raises(ServiceUnavailable, match=url):
            await hive.active_repositories()
        await hive.close()


async def test_a_report_that_is_not_confirmed_is_not_taken_for_stored(server: FaultyServer, hive: HttpHive) -> None:
    server.answers = [json_answer({"success": False})]
    with pytest.raises(ServiceConflict):
        await hive.report_status(REPOSITORY, 1, "completed", {})
    assert server.requests[0].startswith("PUT /api/bzzz/projects/4/status ")


@pytest.mark.parametrize("url", ["", "hive.lan:8740", "ftp://h", "http://", "http://u:s3cret@h", "http://h/?x=1"])
def test_an_address_that_is_none_is_a_setting_error(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        HiveLink(url, None, RealClock())
    assert "s3cret" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_a_setting_error_that_hides_it() -> None:
    with pytest.raises(SettingError) as caught:
        HiveLink("http://h", "s3cret\nX-Evil: 1", RealClock())
    assert "s3cret" not in str(caught.value)


READY = "event: ready\ndata: {}"


def change(repository: object) -> str:
    return f"event: change\ndata: {json.dumps({'repository': repository})}"


class Paced:
    """A stream that is ready at once, and goes on, and ends, once it is told to."""

    def __init__(self, *events: str) -> None:
        self.events = events
        self.told = asyncio.Event()

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(event_stream(READY))
        await self.told.wait()
        writer.write("".join(f"{event}\n\n" for event in self.events).encode())


async def test_a_cut_stream_is_opened_again_and_says_that_anything_may_have_changed(
    server: FaultyServer, hive: HttpHive, pauses: Pauses
) -> None:
    first, second = Paced(change("acme/a")), Paced(change("acme/b"))
    server.answers = [first, second]
    for stream, repository in ((first, "acme/a"), (second, "acme/b")):
        assert await hive.changes() == ""
        stream.told.set()
        assert await hive.changes() == repository
        pauses.allowed.release()
    assert hive.counters()["streams_opened"] == 2


async def test_nonsense_in_the_stream_is_counted_and_the_rest_is_heard(
    server: FaultyServer, hive: HttpHive
) -> None:
    odd = [
        "event: change\ndata: {",
        "event: change\ndata: []",
        change(3),
        change("x" * 999),
        "event: news\ndata: 1",
    ]
    stream = Paced(*odd, change("acme/a"))
    server.answers = [stream]
    assert await hive.changes() == ""
    stream.told.set()
    assert await hive.changes() == "acme/a"
    assert hive.counters()["stream_nonsense"] == 4


async def test_each_failure_is_raised_once_and_the_pauses_grow(
    server: FaultyServer, hive: HttpHive, pauses: Pauses
) -> None:
    server.answers = [answer(500, "")]
    for _ in range(4):
        with pytest.raises(ServiceFaulty):
            await hive.changes()
        pauses.allowed.release()
    assert pauses.seconds[:3] == [0.5, 1.0, 2.0]


async def test_a_stream_that_is_cut_again_and_again_is_not_opened_in_a_tight_loop(
    server: FaultyServer, hive: HttpHive, pauses: Pauses
) -> None:
    server.answers = [event_stream(READY)]
    for _ in range(5):
        assert await hive.changes() == ""
        pauses.allowed.release()
    assert pauses.seconds[:4] == [0.5, 1.0, 2.0, 4.0]


async def test_a_hive_without_an_event_stream_is_missing_or_nonsense(server: FaultyServer, hive: HttpHive) -> None:
    server.answers = [answer(404, '{"detail": "Not Found"}')]
    with pytest.raises(ServiceMissing) as caught:
        await hive.changes()
    fine(caught.value, server)


@pytest.mark.parametrize(
    "sent",
    [answer(200, "<html>", "text/html"), event_stream("data: " + "x" * 70_000)],
    ids=["html", "endless line"],
)
async def test_a_stream_that_is_none_or_never_ends_a_line_is_nonsense(
    server: FaultyServer, hive: HttpHive, sent: bytes
) -> None:
    server.answers = [sent]
    with pytest.raises(ServiceNonsense) as caught:
        await hive.changes()
    fine(caught.value, server)


async def test_a_flood_of_changes_is_folded_into_one_and_counted(
    server: FaultyServer, hive: HttpHive, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PENDING_CHANGES_MAX", 3)
    stream = Paced(*(change(f"acme/{number}") for number in range(10)))
    server.answers = [stream]
    assert await hive.changes() == ""
    stream.told.set()
    async with asyncio.timeout(5):
        await pauses.begun.wait()  # the stream has ended, and nobody has read what it said
    assert await hive.changes() == ""
    assert hive.counters()["changes_overflowed"] == 1


def test_reconnecting_waits_longer_each_time_up_to_a_bound_or_as_long_as_it_is_asked() -> None:
    assert [reconnect_s(failures, None) for failures in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert reconnect_s(50, None) == RECONNECT_S_MAX
    assert reconnect_s(1, ServiceLimited("Hive", "GET", retry_after_s=90)) == 90

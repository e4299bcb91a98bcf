"""The local API: what it answers, to whom, and that no reader holds the node up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import Running, World, gated

from bzzz.core.event import Heard
from bzzz.core.message import Availability, Capability
from bzzz.web import local_api as module
from bzzz.web.local_api import create_local_api


class Served:
    def __init__(self, running: Running) -> None:
        self.running = running
        self.app = create_local_api(running.node, running.transport, running.journal)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1:8080", trust_env=False
        )

    async def json(self, path: str) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    world = World(tmp_path)
    world.forge.add("acme/shop", make_issue(1, "half \ud83d a \x1b[31mtitle"))
    running = world.node(script_for=gated(asyncio.Event()))
    async with world.running(running):
        await running.until(lambda event: event["kind"] == "agent_started")
        made = Served(running)
        yield made
        await made.client.aclose()


async def test_status_tells_the_node_its_load_and_its_repositories(served: Served) -> None:
    status = await served.json("/status")
    assert status["name"] == "walnut"
    assert status["node_id"] == served.running.transport.peer_id
    assert (status["current_tasks"], status["max_tasks"], status["status"]) == (1, 1, "busy")
    assert status["hive"] == {"configured": True, "reachable": True, "trouble": ""}
    assert [row["repository"] for row in status["repositories"]] == ["acme/shop"]
    assert status["repositories"][0]["watcher"] == "walnut"
    assert status["uptime_s"] >= 0


async def test_peers_are_told_with_what_they_can(served: Served) -> None:
    served.running.node.feed(Heard("12D3KooWOther", Availability("acacia", 2, 0, 3)))
    served.running.node.feed(Heard("12D3KooWOther", Capability("acacia", 2, ("go",), ("qwen",), "bugs", "0.1")))
    (peer,) = (await served.json("/peers"))["peers"]
    assert (peer["name"], peer["liveness"], peer["max_tasks"]) == ("acacia", "alive", 3)
    assert (peer["capabilities"], peer["specialization"]) == (["go"], "bugs")
    assert peer["heard_s_ago"] >= 0


async def test_tasks_are_told_whatever_is_in_their_titles(served: Served) -> None:
    (task,) = (await served.json("/tasks"))["tasks"]
    assert (task["task"], task["state"], task["holder"], task["epoch"]) == ("acme/shop#1", "held", "walnut", 1)
    assert task["running"] is True
    answer = await served.client.get("/tasks")
    assert answer.content.isascii()
    assert task["title"] == "half \ud83d a \x1b[31mtitle"


async def test_history_begins_after_a_number(served: Served) -> None:
    events = (await served.json("/events/history"))["events"]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert (await served.json(f"/events/history?after={len(events) - 1}"))["events"] == events[-1:]
    for nonsense in ("-1", "x", "9" * 30, "\u0663"):
        assert len((await served.json(f"/events/history?after={nonsense}"))["events"]) == len(events)


async def test_the_stream_goes_on_after_a_number_until_the_node_ends(served: Served) -> None:
    await served.running.end()
    # Through the app itself, whose gate answers 503 by now: the stream below was there before.
    ids = [event["id"] async for event in served.running.node.events.follow(3)]
    assert ids[0] == 4
    answer = await served.client.get("/status")
    assert (answer.status_code, answer.json()["error"]) == (503, "stopping")


async def test_events_come_as_a_stream_of_server_sent_events(served: Served) -> None:
    last = len(served.running.node.events.history())
    reading = asyncio.create_task(served.client.get("/events", headers={"Last-Event-ID": str(last - 1)}))
    await asyncio.sleep(0)
    await served.running.end()
    answer = await reading
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    assert blocks[0][0] == f"id: {last}"
    events = [json.loads(block[2].removeprefix("data: ")) for block in blocks]
    assert [event["id"] for event in events] == list(range(last, last + len(events)))
    assert events[-1]["kind"] == "stopped"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("evil.example#127.0.0.1", 403),
        ("127.0.0.1:80:80", 403),
        ("192.168.1.5", 403),
        ("0.0.0.0", 403),
        ("", 403),
    ],
)
async def test_only_loopbacks_own_names_are_answered(served: Served, host: str, status: int) -> None:
    for path in ("/status", "/events/history", "/nowhere"):
        answer = await served.client.get(path, headers={"Host": host})
        assert answer.status_code == (404 if status == 200 and path == "/nowhere" else status)


async def test_a_second_host_header_is_looked_at_too(served: Served) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/status",
        "headers": [(b"host", b"evil.example"), (b"host", b"127.0.0.1")],
        "query_string": b"",
    }
    await served.app(scope, receive, send)
    assert sent[0]["status"] == 403


async def test_it_only_reads(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (await served.client.request(method, "/status")).status_code == 405


async def test_a_stream_that_nobody_reads_does_not_hold_the_node_up(served: Served) -> None:
    sent: list[Any] = []
    stuck = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            stuck.set()
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/events",
        "headers": [(b"host", b"127.0.0.1")],
        "query_string": b"",
    }
    reader = asyncio.create_task(served.app(scope, receive, send))
    await stuck.wait()
    for _ in range(10_000):
        served.running.node.events.tell("tick")
    assert (await served.json("/status"))["name"] == "walnut"
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)


async def test_streams_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STREAMS_MAX", 1)
    following = asyncio.create_task(served.client.get("/events"))
    for _ in range(20):
        await asyncio.sleep(0)
    answer = await served.client.get("/events")
    assert (answer.status_code, answer.json()["error"]) == (503, "too many streams")
    await served.running.end()
    await following

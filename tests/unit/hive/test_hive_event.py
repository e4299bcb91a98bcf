"""Changes: the hub, the event stream, webhooks that feed it, and a prompt stop."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.support.hive_server import RunningHive, running_hive
from tests.support.hive_world import issue

from bzzz.hive.change import EVERYTHING, ChangeHub
from bzzz.hive.stream import EventReader, StreamEvent

SECRET = "a webhook secret"


@asynccontextmanager
async def listening(hive: RunningHive) -> AsyncIterator[AsyncIterator[StreamEvent]]:
    """A node's end of the event stream, after ``ready``."""
    reader = EventReader()

    async def events(response: httpx.Response) -> AsyncIterator[StreamEvent]:
        async for chunk in response.aiter_bytes():
            for event in reader.feed(chunk):
                yield event

    async with hive.client() as client, client.stream("GET", "/api/bzzz/events", timeout=10) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = events(response)
        assert (await anext(stream)).name == "ready"
        yield stream


def change(event: StreamEvent) -> str:
    assert event.name == "change"
    found = json.loads(event.data)["repository"]
    assert isinstance(found, str)
    return found


async def test_every_node_hears_of_every_change(tmp_path: Path) -> None:
    async with (
        running_hive(tmp_path) as hive,
        listening(hive) as one,
        listening(hive) as two,
        hive.client() as client,
    ):
        draft = {"name": "shop", "git_url": "http://forge.test/acme/shop.git"}
        await client.post("/api/bzzz/projects", json=draft)
        assert [change(await anext(one)), change(await anext(two))] == ["acme/shop", "acme/shop"]
        hive.forge.put("acme/shop", issue(1))
        await client.post("/api/bzzz/projects/1/claim", json={"task_number": 1, "agent_id": "old"})
        assert change(await anext(one)) == "acme/shop"
        hive.parts.changes.publish("acme/other")
        assert change(await anext(one)) == "acme/other"


async def test_a_stop_does_not_wait_for_nodes_that_listen(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive, listening(hive) as stream:
        async with asyncio.timeout(2):
            await hive.stop()
        assert [event async for event in stream] == []


async def test_a_node_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive:
        async with listening(hive):
            assert hive.parts.changes.counters()["subscribers"] == 1
        async with asyncio.timeout(2):
            while hive.parts.changes.counters()["subscribers"]:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.005)


async def test_more_nodes_than_the_bound_are_sent_away_and_counted(tmp_path: Path) -> None:
    async with running_hive(tmp_path, subscribers_max=1) as hive, listening(hive), hive.client() as client:
        answer = await client.get("/api/bzzz/events")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert hive.parts.changes.counters()["subscribers_refused"] == 1


async def test_a_slow_node_hears_that_anything_may_have_changed_and_the_overflow_is_counted() -> None:
    hub = ChangeHub(subscribers_max=10, pending_max=2)
    with hub.subscribe() as slow, hub.subscribe() as quick:
        for repository in ("acme/a", "acme/b", "acme/a", "acme/c", "acme/d"):
            hub.publish(repository)
            assert await anext(aiter(quick)) == repository
        assert await anext(aiter(slow)) == EVERYTHING
        assert hub.counters()["changes_overflowed"] == 1
        hub.publish("acme/e")
        assert await anext(aiter(slow)) == "acme/e"
        hub.close()
        assert [one async for one in slow] == []


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "issues"}


@pytest.fixture
async def hooked(tmp_path: Path) -> AsyncIterator[RunningHive]:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET + "\n")
    async with running_hive(tmp_path, webhook_secret_file=secret_file, listing_ttl_s=60.0) as hive:
        hive.add_project()
        yield hive


async def test_a_signed_webhook_wakes_the_nodes_and_renews_the_listing(hooked: RunningHive) -> None:
    body = json.dumps({"action": "opened", "repository": {"full_name": "Acme/Shop"}}).encode()
    async with hooked.client() as client, listening(hooked) as stream:
        assert (await client.get("/api/bzzz/projects/1/tasks")).json() == []
        hooked.forge.put("acme/shop", issue(1))
        answer = await client.post("/api/bzzz/webhooks/github", content=body, headers=signed(body))
        assert (answer.status_code, answer.json()["repository"]) == (202, "acme/shop")
        assert change(await anext(stream)) == "acme/shop"
        assert len((await client.get("/api/bzzz/projects/1/tasks")).json()) == 1


async def test_giteas_webhook_is_taken_by_its_own_signature(hooked: RunningHive) -> None:
    body = json.dumps({"action": "opened", "repository": {"full_name": "acme/shop"}}).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    async with hooked.client() as client, listening(hooked) as stream:
        for wrong in ("", digest[:-1] + "x", f"sha256={digest}", "é"):
            headers = {b"X-Gitea-Signature": wrong.encode(), b"X-Gitea-Event": b"issues"}
            answer = await client.post("/api/bzzz/webhooks/gitea", content=body, headers=headers)
            assert answer.status_code == 403
        right = {"X-Gitea-Signature": digest, "X-Gitea-Event": "issues"}
        answer = await client.post("/api/bzzz/webhooks/gitea", content=body, headers=right)
        assert (answer.status_code, answer.json()["repository"]) == (202, "acme/shop")
        assert change(await anext(stream)) == "acme/shop"
        assert (await client.post("/api/bzzz/webhooks/gitea", content=body, headers=right)).status_code == 409


async def test_the_same_webhook_again_is_refused_whatever_its_delivery_id(hooked: RunningHive) -> None:
    body = json.dumps({"repository": {"full_name": "acme/shop"}}).encode()
    async with hooked.client() as client:
        first = {**signed(body), "X-GitHub-Delivery": "1"}
        again = {**signed(body), "X-GitHub-Delivery": "2"}
        assert (await client.post("/api/bzzz/webhooks/github", content=body, headers=first)).status_code == 202
        answer = await client.post("/api/bzzz/webhooks/github", content=body, headers=again)
        assert (answer.status_code, answer.json()["detail"]) == (409, "this delivery was taken before")
        assert hooked.parts.changes.counters()["changes_published"] == 1


async def test_a_webhook_with_a_wrong_signature_wakes_nobody(hooked: RunningHive) -> None:
    body = json.dumps({"repository": {"full_name": "acme/shop"}}).encode()
    async with hooked.client() as client:
        for headers in (signed(body, "wrong"), signed(body + b" "), {}, {"X-Hub-Signature-256": "sha256=é"}):
            encoded = {name.encode(): value.encode() for name, value in headers.items()}
            answer = await client.post("/api/bzzz/webhooks/github", content=body, headers=encoded)
            assert answer.status_code == 403
            assert SECRET not in answer.text
        assert hooked.parts.changes.counters()["changes_published"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"payload=%7B%7D"])
async def test_a_signed_webhook_that_is_no_json_is_a_400(hooked: RunningHive, body: bytes) -> None:
    async with hooked.client() as client:
        answer = await client.post("/api/bzzz/webhooks/github", content=body, headers=signed(body))
        assert answer.status_code == 400


@pytest.mark.parametrize("payload", [[], {"repository": None}, {"repository": {"full_name": 3}}, {"zen": "x"}])
async def test_a_webhook_about_nothing_we_know_is_taken_and_wakes_nobody(
    hooked: RunningHive, payload: object
) -> None:
    body = json.dumps(payload).encode()
    async with hooked.client() as client:
        answer = await client.post("/api/bzzz/webhooks/github", content=body, headers=signed(body))
        assert (answer.status_code, answer.json()["repository"]) == (202, None)


def test_events_are_read_whatever_way_the_bytes_are_cut() -> None:
    text = ': hello\r\nevent: change\r\ndata: {"é":\r\ndata:  1}\r\n\r\ndata\n\nid: 3\n\nevent: x\n\ndata: z\r\r'
    expected = [StreamEvent("change", '{"é":\n 1}'), StreamEvent("message", ""), StreamEvent("message", "z")]
    for size in (1, 2, 3, 7, 1000):
        reader, data = EventReader(), text.encode() + b"\n"
        found = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
        assert found == expected


@pytest.mark.parametrize("data", [b"x" * 70_000, b"data: x\n" * 10_000])
def test_a_line_or_an_event_without_end_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="above"):
        list(EventReader().feed(data))

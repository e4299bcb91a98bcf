"""Captured material (``bzzz.hive.capture``, ``capture_store``, ``capture_export``), over HTTP on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.hive_server import RealClock, RunningHive, running_hive
from tests.support.hive_world import issue

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId
from bzzz.hive import capture as capture_module
from bzzz.hive.capture import CaptureQuery, prepare, usage_of
from bzzz.hive.capture_export import export
from bzzz.hive.capture_schema import CaptureAnswer
from bzzz.hive.redact import Redactor
from bzzz.hive.store import HiveStore

TOKEN = "ghp_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"

WORK = {"task_number": 3, "agent_id": "walnut", "work_type": "code", "content": "done", "files": {"a.py": "x = 1"}}
PROMPT = {
    "task_number": 3,
    "agent_id": "walnut",
    "prompt_type": "task_analysis",
    "prompt_content": "think",
    "context": {"usage": {"input_tokens": 100, "output_tokens": 20, "cost_usd": 0.25}},
    "model_used": "phi4",
}
DISCUSSION = {"type": "dependency_analysis", "participants": ["a"], "messages": [], "decisions": ["wait"]}


@pytest.fixture
async def hive(tmp_path: Path, database: str) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path, database_url=database) as running:
        running.add_project()
        yield running


@pytest.fixture
async def client(hive: RunningHive) -> AsyncIterator[httpx.AsyncClient]:
    async with hive.client() as made:
        yield made


async def search(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.get("/api/bzzz/captures", params=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("path", "body", "old_fields"),
    [
        ("projects/1/submit-work", WORK, {"success", "work_id", "message"}),
        ("projects/1/coordination-discussion", DISCUSSION, {"success", "logged"}),
        ("projects/1/log-prompt", PROMPT, {"success", "logged"}),
        ("coordination-log", {"type": "session", "details": {"session_id": "s1"}}, {"success", "logged"}),
        ("chat-log", {"any": ["thing"]}, {"success", "logged"}),
        ("chat-log", ["not", "an", "object"], {"success", "logged"}),
        ("antennae-log", {"x": None}, {"success", "logged"}),
        (
            "projects/1/create-pr",
            {"task_number": 3, "agent_id": "w", "pr_url": "http://forge.test/acme/shop/pull/9"},
            {"success", "pr_number", "pr_url", "message"},
        ),
    ],
)
async def test_each_of_the_predecessors_calls_is_stored_once_and_answered_in_its_fields(
    client: httpx.AsyncClient, path: str, body: Any, old_fields: set[str]
) -> None:
    first, again = [await client.post(f"/api/bzzz/{path}", json=body) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert first.json().keys() >= old_fields
    assert (first.json()["success"], first.json()["new"], again.json()["new"]) == (True, True, False)
    assert {**first.json(), "new": False} == again.json()
    found = await search(client)
    (item,) = found["captures"]
    assert item["kind"] == path.rpartition("/")[2]
    kept = item["body"]
    assert (kept == body) if isinstance(body, list) else (kept.items() >= body.items())


async def test_the_same_item_sent_many_times_at_once_is_one(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/api/bzzz/projects/1/submit-work", json=WORK) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["new"] for answer in answers) == 1
    assert len({answer.json()["work_id"] for answer in answers}) == 1


async def test_a_clients_own_key_names_an_item_whatever_it_says(client: httpx.AsyncClient) -> None:
    for text, key in (("hello", "1"), ("hello", "2"), ("hello again", "2")):
        await client.post("/api/bzzz/chat-log", json={"text": text}, headers={"Idempotency-Key": key})
    assert [one["body"]["text"] for one in (await search(client))["captures"]] == ["hello", "hello"]


async def test_items_are_found_by_project_task_agent_model_kind_and_time_with_their_sums(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project("till", "acme/till")
    usage = {"input_tokens": 7, "output_tokens": 3}
    for path, body in (
        ("projects/1/log-prompt", PROMPT),
        ("projects/1/submit-work", WORK),
        (
            "projects/2/submit-work",
            {**WORK, "task_number": 4, "agent_id": "acacia", "usage": usage, "model": "qwen"},
        ),
        ("coordination-log", {"type": "x", "details": {"session_id": "s1"}}),
    ):
        assert (await client.post(f"/api/bzzz/{path}", json=body)).status_code == 200

    async def count(**wanted: Any) -> int:
        found = await search(client, **wanted)
        assert found["sums"]["items"] == len(found["captures"])
        return len(found["captures"])

    assert await count() == 4
    for project in ("shop", "ACME/shop", "1"):
        assert await count(project=project) == 2
    assert await count(task=3) == 2
    assert await count(task=3, kind="log-prompt") == 1
    assert await count(agent="acacia") == await count(model="qwen") == await count(session="s1") == 1
    assert await count(since="2020-01-01T00:00:00Z", until="2020-01-02") == 0
    assert await count(since="2020-01-01T00:00:00+02:00") == 4
    assert await count(since="0001-01-01T00:00:00+14:00", until="9999-12-31T23:59:59-14:00") == 4
    sums = (await search(client))["sums"]
    assert sums == {"items": 4, "tokens_in": 107, "tokens_out": 23, "tokens": 130, "cost_usd": 0.25}
    assert (await search(client, agent="walnut"))["sums"]["tokens"] == 120
    assert (await client.get("/api/bzzz/captures", params={"project": "nowhere"})).status_code == 404
    assert (await client.get("/api/bzzz/captures?agent=%00")).status_code == 422


async def test_a_search_is_read_page_by_page_in_both_directions(client: httpx.AsyncClient) -> None:
    for number in range(1, 8):
        await client.post("/api/bzzz/chat-log", json={"number": number})

    async def walk(**first: int) -> list[int]:
        name, seen, wanted = next(iter(first)), [], dict(first)
        while found := (await search(client, limit=3, **wanted))["captures"]:
            seen += [one["body"]["number"] for one in found]
            wanted = {name: found[-1]["id"]}
        return seen

    assert await walk(after=0) == [1, 2, 3, 4, 5, 6, 7]
    assert await walk(before=2**31 - 1) == [7, 6, 5, 4, 3, 2, 1]
    assert (await search(client, bodies="false"))["captures"][0]["body"] is None


async def test_secrets_are_taken_out_before_anything_is_stored(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    body = {**WORK, "content": f"used {TOKEN}", "headers": {"Authorization": "Bearer abc"}}
    assert (await client.post("/api/bzzz/projects/1/submit-work", json=body)).status_code == 200
    report = {"task_number": 1, "status": "failed", "results": {"log": f"with {TOKEN}"}}
    assert (await client.put("/api/bzzz/projects/1/status", json=report)).status_code == 200
    found = await search(client)
    assert TOKEN not in json.dumps(found)
    assert found["captures"][0]["redacted"] == 2
    assert hive.parts.store.reports.newest(1)[1].details == {"log": "with [secret]"}
    assert (await client.get("/health")).json()["counters"]["secrets_removed"] == 2


async def test_a_long_text_is_shortened_and_says_so_and_what_is_still_too_large_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "CAPTURE_TEXT_CHARACTERS_MAX", 100)
    monkeypatch.setattr(capture_module, "CAPTURE_BYTES_MAX", 2000)
    await client.post("/api/bzzz/chat-log", json={"log": "x" * 150})
    (item,) = (await search(client))["captures"]
    assert item["shortened"] == 1
    assert item["body"]["log"].endswith("x\n[50 characters left out]")
    answer = await client.post("/api/bzzz/chat-log", json=["x" * 90] * 30)
    assert (answer.status_code, "above 2000" in answer.json()["detail"]) == (413, True)


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("chat-log", b'{"x": NaN}', 422),
        ("chat-log", b"[" * 500 + b"]" * 500, 422),
        ("chat-log", b"{", 422),
        ("chat-log", rb'{"x": "\u0000 \ud800", "agent": "a\u0000b"}', 200),
        ("projects/1/submit-work", b'{"agent_id": "w"}', 400),
        ("projects/1/submit-work", b"[]", 422),
        ("projects/9/submit-work", b'{"agent_id": "w", "task_number": 1}', 404),
        ("projects/1/create-pr", b'{"agent_id": "w", "task_number": 1}', 422),
        ("projects/1/create-pr", b'{"agent_id": "w", "task_number": 1, "pr_url": "http://x/y"}', 422),
    ],
)
async def test_what_cannot_be_stored_is_a_clear_refusal(
    client: httpx.AsyncClient, path: str, content: bytes, status: int
) -> None:
    answer = await client.post(f"/api/bzzz/{path}", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json().keys() == {"error", "detail"}


async def test_json_that_is_not_said_to_be_json_is_refused_and_not_stored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/bzzz/chat-log", content=b'{"x": 1}')
    assert (answer.status_code, answer.json().keys()) == (422, {"error", "detail"})
    assert (await search(client))["sums"]["items"] == 0


async def test_a_pull_request_is_opened_for_who_holds_the_task_through_hive_and_for_nobody_else(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    forge = hive.forge
    forge.put("acme/shop", issue(3), issue(4))
    wanted = {"task_number": 3, "agent_id": "old", "title": f"Fix {TOKEN}", "branch_name": "old/fix"}
    path = "/api/bzzz/projects/1/create-pr"
    nobodys = await client.post(path, json=wanted)
    assert (nobodys.status_code, "claim it first" in nobodys.json()["detail"]) == (409, True)
    await client.post("/api/bzzz/projects/1/claim", json={"task_number": 3, "agent_id": "old"})
    strangers = await client.post(path, json={**wanted, "agent_id": "stranger"})
    assert (strangers.status_code, strangers.json()["claimed_by"]) == (409, "old")
    unpushed = await client.post(path, json=wanted)
    assert (unpushed.status_code, "no branch old/fix" in unpushed.json()["detail"]) == (409, True)
    assert not forge.pulls
    forge.branches.add("old/fix")
    first, again = [await client.post(path, json=wanted) for _ in range(2)]
    assert first.json()["pr_number"] == again.json()["pr_number"] == 7
    assert again.json()["new"] is False
    assert "Closes #3" in forge.pulls["old/fix"].title
    assert TOKEN not in forge.pulls["old/fix"].title
    repository = hive.parts.store.projects()[0].to_repository()
    held = ClaimRecord(TaskId("acme/shop", 4), 1, Holder("12D3", "walnut"), RecordState.HELD, "n")
    await hive.ledger.swap(repository, None, held)
    nodes = await client.post(path, json={**wanted, "task_number": 4, "agent_id": "walnut"})
    assert nodes.status_code == 409


def test_items_are_bounded_in_number_and_the_oldest_make_room(database: str) -> None:
    with HiveStore(database, RealClock(), captures_max=3) as store:
        for number in range(5):
            store.captures.add(prepare("chat-log", {"number": number}, Redactor()))
        kept = [one.capture.body["number"] for one in store.captures.walk(CaptureQuery())]
        assert kept == [2, 3, 4]
        assert store.captures.counters()["captures_dropped"] == 2


async def test_what_was_captured_outlives_its_project(hive: RunningHive, client: httpx.AsyncClient) -> None:
    await client.post("/api/bzzz/projects/1/submit-work", json=WORK)
    assert (await client.delete("/api/bzzz/projects/1")).status_code == 200
    assert len((await search(client, project="acme/shop"))["captures"]) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 6}}, (5, 6, 0)),
        ({"tokens_used": 9, "cost": 0.5}, (9, 0, 500_000)),
        ({"tokens_in": 1, "metadata": {"tokens_out": 2}}, (1, 2, 0)),
        ({"tokens_in": -1, "tokens_out": True, "cost_usd": float("nan")}, (0, 0, 0)),
        ({"tokens_in": "many", "cost_usd": 1e12}, (0, 0, 0)),
        ({"usage": "free"}, (0, 0, 0)),
    ],
)
def test_tokens_and_money_are_read_where_clients_write_them(
    fields: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    usage = usage_of(fields)
    assert (usage.tokens_in, usage.tokens_out, usage.cost_microusd) == expected


def test_an_export_has_the_predecessors_layout_and_is_the_same_when_repeated(tmp_path: Path, database: str) -> None:
    folder = tmp_path / "out"
    with HiveStore(database, RealClock()) as store:
        for kind, body in (
            ("submit-work", WORK),
            ("submit-work", {**WORK, "task_number": 4}),
            ("create-pr", {"task_number": 3, "pr_url": "http://x/pull/1"}),
            ("log-prompt", PROMPT),
            ("chat-log", ["free"]),
        ):
            store.captures.add(prepare(kind, body, Redactor(), project_id=1, repository="acme/shop"))  # type: ignore[arg-type]

        def once() -> dict[str, str]:
            items = (CaptureAnswer.of(one) for one in store.captures.walk(CaptureQuery()))
            counts = export(items, folder)
            assert counts == {"agent_work": 2, "pull_requests": 1, "agent_prompts": 1, "coordination": 1}
            return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

        files = once()
        assert once() == files
    by_folder = {
        name: [path for path in files if path.startswith(f"{name}/")] for name in ("agent_work", "pull_requests")
    }
    assert sorted(path.rpartition(".")[2] for path in by_folder["agent_work"]) == ["json", "json", "jsonl"]
    (day,) = [path for path in by_folder["agent_work"] if path.endswith(".jsonl")]
    lines = [json.loads(line) for line in files[day].splitlines()]
    assert [line["task_number"] for line in lines] == [3, 4]
    assert lines[0]["capture"]["repository"] == "acme/shop"
    (pull,) = [path for path in by_folder["pull_requests"] if path.endswith(".json")]
    assert json.loads(files[pull])["pr_url"] == "http://x/pull/1"

"""Hive's routes and their shapes (``bzzz.hive.schema``), over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from tests.support.hive_server import RunningHive, running_hive
from tests.support.hive_world import issue

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId
from bzzz.errors import LedgerRefused, LedgerUncertain, ServiceLimited, ServiceNonsense, ServiceUnavailable
from bzzz.hive.project import Project
from bzzz.hive.store import HiveStore

OLD_FIELDS = {
    "project_id",
    "name",
    "git_url",
    "owner",
    "repository",
    "branch",
    "bzzz_enabled",
    "ready_to_claim",
    "private_repo",
    "github_token_required",
}
OLD_TASK_FIELDS = {
    "number",
    "title",
    "description",
    "state",
    "labels",
    "created_at",
    "updated_at",
    "html_url",
    "is_claimed",
    "assignees",
    "task_type",
    "dependencies",
}


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path) as running:
        yield running


@pytest.fixture
async def client(hive: RunningHive) -> AsyncIterator[httpx.AsyncClient]:
    async with hive.client() as made:
        yield made


def record(number: int, state: RecordState = RecordState.HELD, epoch: int = 1, **fields: object) -> ClaimRecord:
    made = ClaimRecord(TaskId("acme/shop", number), epoch, Holder("12D3peer", "walnut"), state, f"nonce-{epoch}")
    return replace(made, **fields)  # type: ignore[arg-type]


async def append(hive: RunningHive, added: ClaimRecord) -> None:
    repository = hive.parts.store.projects()[0].to_repository()
    top = await hive.ledger.read(repository, added.task.number)
    assert (await hive.ledger.swap(repository, top.version if top else None, added)).won


async def test_health_answers_with_the_predecessors_fields(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"
    assert {"status", "service", "timestamp"} <= answer.json().keys()


async def test_an_active_repository_has_the_predecessors_fields_and_ours(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project()
    hive.add_project("asleep", "acme/asleep", bzzz_enabled=False)
    hive.forge.put("acme/shop", issue(1))
    (found,) = (await client.get("/api/bzzz/active-repos")).json()["repositories"]
    assert found.keys() >= OLD_FIELDS
    assert found["ready_to_claim"] is True
    assert (found["api_url"], found["forge"], found["key"]) == ("http://forge.test/api/v3", "github", "acme/shop")


async def test_a_forge_that_fails_for_one_repository_hides_none(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project()
    hive.add_project("till", "acme/till")
    hive.forge.put("acme/till", issue(1))
    hive.forge.failures["acme/shop"] = ServiceUnavailable("forge", "list")
    found = (await client.get("/api/bzzz/active-repos")).json()["repositories"]
    assert {one["name"]: one["ready_to_claim"] for one in found} == {"shop": False, "till": True}


async def test_a_forge_that_never_answers_does_not_hold_up_the_list(tmp_path: Path) -> None:
    async with running_hive(tmp_path, ready_wait_s=0.02) as hive, hive.client() as client:
        hive.add_project()
        hive.forge.gate.clear()
        answer = await client.get("/api/bzzz/active-repos")
        assert [one["ready_to_claim"] for one in answer.json()["repositories"]] == [False]


async def test_polling_nodes_share_one_listing_of_the_forge(tmp_path: Path) -> None:
    async with running_hive(tmp_path, listing_ttl_s=60.0) as hive, hive.client() as client:
        hive.add_project()
        hive.forge.put("acme/shop", issue(1))
        await asyncio.gather(*(client.get("/api/bzzz/active-repos") for _ in range(8)))
        await asyncio.gather(*(client.get("/api/bzzz/projects/1/tasks") for _ in range(8)))
        assert hive.forge.listings == 1


async def test_tasks_join_issues_with_claims_and_reports(hive: RunningHive, client: httpx.AsyncClient) -> None:
    project_id = hive.add_project()
    body = "Depends on #3 and is blocked by acme/till#9; see #4."
    hive.forge.put("acme/shop", issue(1, body=body), issue(2), issue(3), issue(4, labels=("question",)))
    await append(hive, record(1))
    await append(hive, record(2))
    await append(hive, record(2, RecordState.RELEASED))
    hive.parts.store.reports.add(project_id, 1, "in_progress", {})
    found = (await client.get(f"/api/bzzz/projects/{project_id}/tasks")).json()
    assert [one["number"] for one in found] == [1, 2, 3]
    assert found[0].keys() >= OLD_TASK_FIELDS
    assert [one["is_claimed"] for one in found] == [True, False, False]
    assert found[0]["dependencies"] == ["acme/shop#3", "acme/till#9"]
    assert found[0]["task_type"] == "bug"
    assert found[0]["status"] == "in_progress"
    assert found[0]["claim"]["claimed_by"] == "walnut"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ServiceUnavailable("forge x", "list"), 503),
        (ServiceLimited("forge x", "list", retry_after_s=17), 503),
        (ServiceNonsense("forge x", "list"), 502),
    ],
)
async def test_a_failing_forge_is_one_clear_line(
    hive: RunningHive, client: httpx.AsyncClient, failure: Exception, status: int
) -> None:
    hive.add_project()
    hive.forge.failure = failure  # type: ignore[assignment]
    answer = await client.get("/api/bzzz/projects/1/tasks")
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "detail"}
    assert answer.json()["detail"].startswith("forge x: list")
    if isinstance(failure, ServiceLimited):
        assert answer.headers["retry-after"] == "17"


@pytest.mark.parametrize(
    ("failure", "status"), [(LedgerUncertain("not known"), 503), (LedgerRefused("not a claim record"), 502)]
)
async def test_a_failing_ledger_is_one_clear_line(
    hive: RunningHive, client: httpx.AsyncClient, failure: Exception, status: int
) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(1))
    hive.ledger.failure = failure  # type: ignore[assignment]
    for answer in (
        await client.get("/api/bzzz/projects/1/tasks"),
        await client.post("/api/bzzz/projects/1/claim", json={"task_number": 1, "agent_id": "old"}),
    ):
        assert answer.status_code == status
        assert answer.json()["detail"] == str(failure)


async def test_a_database_that_fails_is_503_and_not_a_traceback(
    hive: RunningHive, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("SELECT s3cret", {}, Exception("disk I/O error"))

    for method in ("projects", "ping"):
        monkeypatch.setattr(HiveStore, method, fail)
    monkeypatch.setattr(HiveStore, "known_projects", lambda _: None)
    answer = await client.get("/api/bzzz/projects")
    assert answer.status_code == 503
    assert answer.json()["error"] == "database_unavailable"
    assert "s3cret" not in answer.text
    assert (await client.get("/health")).json()["status"] == "degraded"


async def test_a_bug_is_a_500_without_its_traceback(
    hive: RunningHive, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr(HiveStore, "known_projects", fail)
    answer = await client.get("/api/bzzz/projects")
    assert answer.status_code == 500
    assert answer.json().keys() == {"error", "detail"}
    assert "s3cret" not in answer.text


async def test_a_claim_takes_the_ref_for_the_agent(hive: RunningHive, client: httpx.AsyncClient) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(5))
    answer = await client.post(
        "/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": "old-1", "claimed_at": 1700000000}
    )
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    (standing,) = hive.ledger.chains[("acme/shop", 5)]
    assert answer.json()["claim_id"] == standing.version
    assert standing.record.holder == Holder("hive:old-1", "old-1")
    assert (standing.record.epoch, standing.record.state) == (1, RecordState.HELD)
    assert len(standing.record.nonce) >= 32


async def test_of_two_claims_at_once_one_wins_and_the_other_hears_who(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(5))
    hive.ledger.meet = asyncio.Barrier(2)  # both have read that it is free before either writes
    wanted = [{"task_number": 5, "agent_id": name} for name in ("one", "two")]
    answers = await asyncio.gather(*(client.post("/api/bzzz/projects/1/claim", json=each) for each in wanted))
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 409)
    assert lost.json().keys() >= {"error", "claimed_by", "claimed_at"}
    assert lost.json()["claimed_by"] == hive.ledger.chains[("acme/shop", 5)][0].record.holder.agent
    assert lost.json()["claimed_at"] == won.json()["claimed_at"]
    assert len(hive.ledger.chains[("acme/shop", 5)]) == 1


@pytest.mark.parametrize("state", [RecordState.HELD, RecordState.DELIVERED, RecordState.ESCALATED])
async def test_a_task_that_is_anybodys_is_refused_with_the_time_it_was_taken_and_not_renewed(
    hive: RunningHive, client: httpx.AsyncClient, state: RecordState
) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(5))
    await append(hive, record(5, noted_at="2026-01-01T00:00:00Z"))
    await append(hive, record(5, state, noted_at="2026-01-01T01:00:00Z"))
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": "old"})
    assert answer.status_code == 409
    assert answer.json()["claimed_by"] == "walnut"
    assert answer.json()["claimed_at"] == 1767225600
    assert answer.json()["state"] == state.value
    assert len(hive.ledger.chains[("acme/shop", 5)]) == 2
    hive.ledger.history_failure = ServiceUnavailable("git server", "history")
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": "old"})
    assert (answer.status_code, answer.json()["claimed_at"]) == (409, 1767229200)


async def test_a_released_task_is_claimed_in_the_next_epoch_with_its_strikes(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(5))
    await append(hive, record(5, RecordState.RELEASED, epoch=4, strikes=2))
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": "old"})
    assert answer.json()["epoch"] == 5
    assert hive.ledger.chains[("acme/shop", 5)][-1].record.strikes == 2


@pytest.mark.parametrize(
    ("number", "status"), [(1, 404), (2, 404), (3, 409), (99, 404)], ids=["no label", "pull", "closed", "absent"]
)
async def test_what_is_no_open_task_is_not_claimed(
    hive: RunningHive, client: httpx.AsyncClient, number: int, status: int
) -> None:
    hive.add_project()
    hive.forge.put("acme/shop", issue(1, labels=()), issue(2, is_pull=True), issue(3, state="closed"))
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": number, "agent_id": "old"})
    assert answer.status_code == status
    assert not hive.ledger.chains


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"agent_id": "old"}, 400, "task_number"),
        ({"task_number": 1}, 400, "agent_id"),
        ({}, 400, "task_number"),
        ({"task_number": 0, "agent_id": "old"}, 422, "task_number"),
        ({"task_number": 2**40, "agent_id": "old"}, 422, "task_number"),
        ({"task_number": "x", "agent_id": "old"}, 422, "task_number"),
        ({"task_number": 1, "agent_id": "a\nb"}, 422, "agent_id"),
        ({"task_number": 1, "agent_id": ""}, 422, "agent_id"),
    ],
)
async def test_a_wrong_claim_names_the_field(
    client: httpx.AsyncClient, body: dict[str, object], status: int, named: str
) -> None:
    answer = await client.post("/api/bzzz/projects/1/claim", json=body)
    assert answer.status_code == status
    assert answer.json()["error"] == "invalid_request"
    assert named in answer.json()["detail"]


async def test_a_report_without_task_number_is_a_clear_422(hive: RunningHive, client: httpx.AsyncClient) -> None:
    hive.add_project()
    answer = await client.put("/api/bzzz/projects/1/status", json={"status": "completed"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "body: task_number is missing: say which task, beside status or within metadata or results"
    )


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"task_number": 3, "metadata": {"a": 1}}, {"a": 1}),
        ({"task_number": 3, "results": {"b": 2}}, {"b": 2}),
        ({"task_number": 3, "metadata": {"a": 1}, "results": {"b": 2}}, {"a": 1, "results": {"b": 2}}),
        ({"results": {"task_number": 3}}, {"task_number": 3}),
    ],
)
async def test_a_report_may_carry_metadata_or_results(
    hive: RunningHive, client: httpx.AsyncClient, body: dict[str, object], details: dict[str, object]
) -> None:
    project_id = hive.add_project()
    for new in (True, False):
        answer = await client.put("/api/bzzz/projects/1/status", json={"status": "completed", **body})
        assert answer.json() == {"success": True, "new": new, "claim": None}
    assert hive.parts.store.reports.newest(project_id)[3].details == details


async def test_a_report_that_is_too_large_or_no_json_is_refused(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    hive.add_project()
    path, head = "/api/bzzz/projects/1/status", {"content-type": "application/json"}
    large = {"task_number": 1, "status": "failed", "metadata": {"log": "x" * 70_000}}
    assert (await client.put(path, json=large)).status_code == 413
    huge = b'{"task_number": 1, "status": "failed", "metadata": {"log": "' + b"x" * 5_000_000 + b'"}}'
    assert (await client.put(path, content=huge, headers=head)).status_code == 413
    nan = b'{"task_number": 1, "status": "failed", "metadata": {"x": NaN}}'
    assert (await client.put(path, content=nan, headers=head)).status_code == 422
    for body in (b"{", b"[" * 100_000, b"\xff"):
        answer = await client.put(path, content=body, headers=head)
        assert answer.status_code in {400, 422}
        assert answer.json().keys() == {"error", "detail"}


async def test_projects_are_added_listed_changed_and_removed(client: httpx.AsyncClient) -> None:
    draft = {"name": "shop", "git_url": "http://forge.test/acme/shop.git", "metadata": {"team": "till"}}
    made = await client.post("/api/bzzz/projects", json=draft)
    assert made.status_code == 201
    path = f"/api/bzzz/projects/{made.json()['id']}"
    assert (await client.get(path)).json() == made.json()
    changed = await client.patch(path, json={"bzzz_enabled": False, "branch": "dev"})
    assert (changed.json()["bzzz_enabled"], changed.json()["branch"]) == (False, "dev")
    assert changed.json()["metadata"]["team"] == "till"
    assert [one["name"] for one in (await client.get("/api/bzzz/projects")).json()["projects"]] == ["shop"]
    assert (await client.post("/api/bzzz/projects", json=draft)).status_code == 409
    assert (await client.delete(path)).json()["success"] is True
    for answer in (await client.get(path), await client.delete(path), await client.patch(path, json={})):
        assert answer.status_code == 404
        assert answer.json().keys() == {"error", "detail"}


async def test_a_project_that_is_there_or_added_is_prepared_and_a_failure_costs_only_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared: list[str] = []

    def adopt(project: Project) -> None:
        prepared.append(project.key)
        raise LookupError("no such repository there")

    async with running_hive(tmp_path) as hive:
        hive.add_project()
    async with running_hive(tmp_path, adopt=adopt) as hive, hive.client() as client:
        assert prepared == ["acme/shop"]
        draft = {"name": "till", "git_url": "http://forge.test/acme/till.git"}
        assert (await client.post("/api/bzzz/projects", json=draft)).status_code == 201
        assert prepared == ["acme/shop", "acme/till"]
    assert "'till' could not be prepared on its forge: no such repository there" in caplog.text


async def test_a_project_with_a_password_in_its_address_is_refused_and_it_is_not_repeated(
    client: httpx.AsyncClient,
) -> None:
    draft = {"name": "shop", "git_url": "https://bot:s3cret@github.com/acme/shop.git"}
    answer = await client.post("/api/bzzz/projects", json=draft)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("git_url:")
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("path", ["/api/bzzz/projects/99999999999999999999", "/api/bzzz/projects/x", "/nowhere"])
async def test_every_refusal_is_json_with_error_and_detail(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code in {404, 422}
    assert answer.json().keys() == {"error", "detail"}


async def test_the_interface_is_published(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/health", "/api/bzzz/active-repos", "/api/bzzz/projects/{project_id}/claim"} <= paths.keys()
    claim = paths["/api/bzzz/projects/{project_id}/claim"]["post"]["responses"]
    assert {"200", "400", "409", "422", "503"} <= claim.keys()


async def test_the_page_shows_strangers_text_as_text(hive: RunningHive, client: httpx.AsyncClient) -> None:
    hive.add_project("shop", description="<script>alert(1)</script>")
    hive.add_project("till", "acme/till")
    hive.forge.put("acme/shop", issue(1, "<img src=x onerror=alert(2)>", url="javascript:alert(3)"), issue(2))
    hive.forge.failures["acme/till"] = ServiceUnavailable("forge x", "list")
    await append(hive, record(2))
    answer = await client.get("/")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert "javascript:" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "walnut" in answer.text
    assert "forge x: list" in answer.text


async def test_a_body_that_is_not_sent_as_json_is_told_how_to_be_sent(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    project_id = hive.add_project()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    content = b'{"task_number": 1, "agent_id": "n8n"}'
    answer = await client.post(f"/api/bzzz/projects/{project_id}/claim", headers=form, content=content)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]

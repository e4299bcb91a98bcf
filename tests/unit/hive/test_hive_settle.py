"""A claim that Hive took for a client is moved on by what the client reports (``bzzz.hive.settle``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.hive_server import RunningHive, running_hive
from tests.support.hive_world import issue

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Pull, TaskId
from bzzz.errors import ServiceUnavailable
from bzzz.hive.settle import UNPROVED, Told, settled_record

PULL = Pull(9, "http://forge.test/acme/shop/pull/9", "open", "old/fix", "main", "Fix", head_commit="c0ffee")


@pytest.fixture
async def hive(tmp_path: Path, database: str) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path, database_url=database) as running:
        running.add_project()
        running.forge.pulls[PULL.head_branch] = PULL
        running.forge.put("acme/shop", issue(5))
        yield running


@pytest.fixture
async def client(hive: RunningHive) -> AsyncIterator[httpx.AsyncClient]:
    async with hive.client() as made:
        yield made


async def claim(client: httpx.AsyncClient, agent: str = "old") -> int:
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": agent})
    assert answer.status_code == 200, answer.text
    epoch: int = answer.json()["epoch"]
    return epoch


async def report(client: httpx.AsyncClient, status: str, **more: Any) -> dict[str, Any]:
    answer = await client.put("/api/bzzz/projects/1/status", json={"task_number": 5, "status": status, **more})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def top(hive: RunningHive) -> ClaimRecord:
    return hive.ledger.chains[("acme/shop", 5)][-1].record


async def test_a_failed_report_releases_the_claim_with_its_reason_and_a_strike(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    await claim(client)
    told = await report(client, "failed", metadata={"reason": "tests\nfail"})
    assert told == {"success": True, "new": True, "claim": "released"}
    assert (top(hive).state, top(hive).reason, top(hive).strikes) == (RecordState.RELEASED, "tests fail", 1)
    assert top(hive).epoch == 1
    # The answer was lost and the report comes again: nothing more is written.
    assert await report(client, "failed", metadata={"reason": "tests\nfail"}) == {
        **told,
        "new": False,
        "claim": None,
    }
    assert len(hive.ledger.chains[("acme/shop", 5)]) == 2


async def test_the_same_failure_of_the_next_claim_releases_that_too_and_the_third_asks_a_person(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    for attempt, state in enumerate((RecordState.RELEASED, RecordState.RELEASED, RecordState.ESCALATED), 1):
        assert await claim(client) == attempt
        await report(client, "failed")
        assert (top(hive).state, top(hive).strikes) == (state, attempt)
        assert top(hive).reason == "its client reported failed"
    answer = await client.post("/api/bzzz/projects/1/claim", json={"task_number": 5, "agent_id": "old"})
    assert (answer.status_code, answer.json()["state"]) == (409, "escalated")


@pytest.mark.parametrize("named", ["in the report", "by create-pr"])
async def test_a_completed_report_delivers_where_the_forge_has_the_pull_request(
    hive: RunningHive, client: httpx.AsyncClient, named: str
) -> None:
    await claim(client)
    if named == "by create-pr":
        item = {"task_number": 5, "agent_id": "old", "branch_name": PULL.head_branch, "pr_url": PULL.url}
        assert (await client.post("/api/bzzz/projects/1/create-pr", json=item)).status_code == 200
        told = await report(client, "completed")
    else:
        told = await report(client, "completed", results={"branch": PULL.head_branch})
    assert told["claim"] == "delivered"
    record = top(hive)
    assert (record.state, record.branch, record.commit) == (RecordState.DELIVERED, "old/fix", "c0ffee")
    assert record.pull_request == PULL.url


@pytest.mark.parametrize("pull", [None, replace(PULL, state="closed")])
async def test_a_completed_report_that_the_forge_does_not_bear_out_releases(
    hive: RunningHive, client: httpx.AsyncClient, pull: Pull | None
) -> None:
    hive.forge.pulls = {} if pull is None else {pull.head_branch: pull}
    await claim(client)
    assert (await report(client, "completed", results={"branch": "old/fix"}))["claim"] == "released"
    assert (top(hive).reason, top(hive).strikes) == (UNPROVED, 1)


async def test_progress_renews_the_claim_and_an_escalation_asks_a_person(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    await claim(client)
    before = top(hive)
    assert (await report(client, "in_progress"))["claim"] == "held"
    assert (top(hive).state, top(hive).epoch) == (RecordState.HELD, 1)
    assert top(hive).nonce != before.nonce
    assert (await report(client, "escalated", metadata={"reason": "unclear"}))["claim"] == "escalated"
    assert (top(hive).state, top(hive).strikes) == (RecordState.ESCALATED, 0)


async def test_a_nodes_own_claim_is_never_touched_and_costs_no_reading(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    repository = hive.parts.store.projects()[0].to_repository()
    held = ClaimRecord(TaskId("acme/shop", 5), 1, Holder("12D3", "walnut"), RecordState.HELD, "n")
    await hive.ledger.swap(repository, None, held)
    hive.ledger.failure = ServiceUnavailable("git server", "read")
    assert (await report(client, "failed"))["claim"] is None
    hive.ledger.failure = None
    assert top(hive) == held


async def test_another_agents_report_or_one_of_an_earlier_epoch_moves_nothing(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    await claim(client)
    assert (await report(client, "failed", agent_id="stranger"))["claim"] is None
    assert (await report(client, "failed", metadata={"epoch": 7}))["claim"] is None
    assert top(hive).state is RecordState.HELD
    assert (await report(client, "failed", metadata={"agent_id": "old", "epoch": 1}))["claim"] == "released"


async def test_a_git_server_that_is_away_makes_the_client_report_again_and_nothing_is_lost(
    hive: RunningHive, client: httpx.AsyncClient
) -> None:
    await claim(client)
    hive.ledger.failure = ServiceUnavailable("git server", "read")
    body = {"task_number": 5, "status": "failed"}
    answer = await client.put("/api/bzzz/projects/1/status", json=body)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert hive.parts.store.reports.newest(1)[5].status == "failed"
    hive.ledger.failure = None
    assert await report(client, "failed") == {"success": True, "new": False, "claim": "released"}


async def test_who_lost_the_race_for_a_claim_cannot_end_it(hive: RunningHive, client: httpx.AsyncClient) -> None:
    hive.ledger.meet = asyncio.Barrier(2)
    wanted = [{"task_number": 5, "agent_id": name} for name in ("one", "two")]
    answers = await asyncio.gather(*(client.post("/api/bzzz/projects/1/claim", json=each) for each in wanted))
    hive.ledger.meet = None
    winner = top(hive).holder.agent
    loser = "two" if winner == "one" else "one"
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert (await report(client, "failed", agent_id=loser))["claim"] is None
    assert top(hive).state is RecordState.HELD
    assert (await report(client, "failed", agent_id=winner))["claim"] == "released"


def test_what_is_written_after_each_report() -> None:
    held = ClaimRecord(TaskId("acme/shop", 5), 3, Holder("hive:old", "old"), RecordState.HELD, "n", strikes=1)

    def after(status: str, pull: Pull | None = None, **details: Any) -> ClaimRecord:
        return settled_record(held, Told(5, status, details), pull, nonce="m", noted_at="2026-01-01T00:00:00Z")

    for record in (after("in_progress"), after("completed", PULL), after("failed"), after("escalated")):
        assert (record.epoch, record.holder, record.nonce) == (3, held.holder, "m")
    assert after("failed", PULL).state is RecordState.RELEASED
    assert len(after("failed", reason="x" * 9000).reason or "") == 500

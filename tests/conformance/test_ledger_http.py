"""The ledger over smart HTTP, with a server that cuts, delays, repeats, denies and dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.support.git_server import RECEIVE_PACK, UPLOAD_PACK, WAIT_S_MAX, Fault, Trouble
from tests.support.ledger_harness import GitHttpHarness, follow, make_record, make_repository, opened

from bzzz.core.record import RecordState
from bzzz.core.task import Repository
from bzzz.errors import (
    LedgerRefused,
    LedgerUncertain,
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
)
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.ledger.link import claim_ref
from bzzz.ledger.push import PushBound
from bzzz.ledger.remote import RemoteBound
from bzzz.ports import SwapResult


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GitHttpHarness]:
    async with opened(GitHttpHarness(), tmp_path) as made:
        yield made


async def reached(fault: Fault) -> None:
    assert await asyncio.to_thread(fault.reached.wait, WAIT_S_MAX)


async def let_finish(fault: Fault) -> None:
    fault.released.set()
    assert await asyncio.to_thread(fault.finished.wait, WAIT_S_MAX)


async def test_a_claim_is_one_request_and_connections_are_kept(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    record = make_record(repository, 1)
    result = await ledger.swap(repository, None, record)
    assert [(request.method, request.path) for request in harness.server.requests] == [
        ("POST", "/acme/widgets.git/git-receive-pack")
    ]
    assert result.standing is not None
    await ledger.swap(repository, result.standing.version, follow(record))
    await ledger.list(repository)
    assert len({request.connection for request in harness.server.requests}) == 1


async def test_a_delivery_asks_once_for_what_the_server_can_do(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    for number, expected in ((1, 3), (2, 5)):
        record = make_record(repository, number)
        held = (await ledger.swap(repository, None, record)).standing
        assert held is not None
        work = harness.work(repository, f"bzzz/task-{number}")
        assert (await ledger.deliver(repository, held.version, follow(record), work)).won
        assert len(harness.server.requests) == expected


@pytest.mark.parametrize("trouble", [Trouble.CUT_AFTER, Trouble.ANSWER_AFTER, Trouble.TWICE])
async def test_a_claim_whose_answer_was_lost_is_found_won_by_reading(
    harness: GitHttpHarness, trouble: Trouble
) -> None:
    """Fact 5."""
    repository, ledger = harness.repository(), harness.client()
    harness.server.misbehave(Fault(trouble))
    result = await ledger.swap(repository, None, make_record(repository, 1))
    assert result.won
    assert harness.server.posts() == [RECEIVE_PACK, UPLOAD_PACK]
    assert len(harness.chain_ids(repository, 1)) == 1


@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.ANSWER])
async def test_a_claim_that_was_not_carried_out_is_pushed_again(harness: GitHttpHarness, trouble: Trouble) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.server.misbehave(Fault(trouble))
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won
    assert harness.server.posts() == [RECEIVE_PACK, UPLOAD_PACK, RECEIVE_PACK]


async def test_a_request_that_arrives_after_its_repetition_changes_nothing(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    fault = Fault(Trouble.CUT_THEN_CARRY_OUT)
    harness.server.misbehave(fault)
    result = await ledger.swap(repository, None, make_record(repository, 1))
    assert result.won
    await let_finish(fault)
    assert await harness.client().read(repository, 1) == result.standing
    assert len(harness.chain_ids(repository, 1)) == 1


async def test_a_request_that_arrives_after_anothers_claim_changes_nothing(harness: GitHttpHarness) -> None:
    repository, ledger, rival = harness.repository(), harness.client(), harness.client()
    late, looking = Fault(Trouble.CUT_THEN_CARRY_OUT), Fault(Trouble.DELAY, UPLOAD_PACK)
    harness.server.misbehave(late, looking)
    claiming = asyncio.create_task(ledger.swap(repository, None, make_record(repository, 1, agent="walnut")))
    await reached(looking)
    rivals = await rival.swap(repository, None, make_record(repository, 1, agent="acacia"))
    assert rivals.won
    looking.released.set()
    result = await claiming
    assert not result.won
    assert result.standing == rivals.standing
    await let_finish(late)
    assert await rival.read(repository, 1) == rivals.standing


async def test_a_write_of_which_nothing_can_be_learned_is_uncertain_and_may_stand_later(
    harness: GitHttpHarness,
) -> None:
    repository, ledger = harness.repository(), harness.client()
    late = Fault(Trouble.CUT_THEN_CARRY_OUT)
    harness.server.misbehave(late, *(Fault(Trouble.ANSWER, UPLOAD_PACK, 503) for _ in range(3)))
    record = make_record(repository, 1)
    with pytest.raises(LedgerUncertain, match="read the ref before deciding"):
        await ledger.swap(repository, None, record)
    assert ledger.counters()["swaps_uncertain"] == 1
    assert await ledger.read(repository, 1) is None
    await let_finish(late)
    standing = await ledger.read(repository, 1)
    assert standing is not None
    assert standing.record == record
    again = await ledger.swap(repository, None, record)
    assert again == SwapResult(won=True, standing=standing), "the same record again is no second claim"


async def test_a_server_that_keeps_refusing_without_a_reason_is_faulty(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client(push_bound=PushBound(pushes_max=2, first_wait_s=0.01))
    report = b"000eunpack ok\n002fng refs/bzzz/claims/1 failed to update ref\n0000"
    headers = {"Content-Type": f"application/x-{RECEIVE_PACK}-result"}
    harness.server.misbehave(*(Fault(Trouble.ANSWER, RECEIVE_PACK, 200, report, headers) for _ in range(2)))
    with pytest.raises(ServiceFaulty, match="failed to update ref"):
        await ledger.swap(repository, None, make_record(repository, 1))
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won


async def test_a_denial_after_a_lost_answer_says_nothing_of_the_first_request(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    late, denial = Fault(Trouble.CUT_THEN_CARRY_OUT), Fault(Trouble.ANSWER, RECEIVE_PACK, 401)
    harness.server.misbehave(late, denial)
    with pytest.raises(LedgerUncertain):
        await ledger.swap(repository, None, make_record(repository, 1))
    await let_finish(late)


async def test_a_delivery_whose_answer_was_lost_is_found_won_with_its_branch(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    record = make_record(repository, 1)
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None
    harness.server.misbehave(Fault(Trouble.CUT_AFTER))
    work = harness.work(repository, "bzzz/task-1")
    result = await ledger.deliver(repository, held.version, follow(record, state=RecordState.DELIVERED), work)
    assert result.won
    assert harness.refs(repository)["refs/heads/bzzz/task-1"] == work.commit


async def test_a_rescue_whose_answer_was_lost_is_saved_once(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.server.misbehave(Fault(Trouble.CUT_AFTER))
    assert await ledger.rescue(repository, 1, 1, harness.work(repository, "x")) == "refs/bzzz/rescue/1/1"
    assert [ref for ref in harness.refs(repository) if "rescue" in ref] == ["refs/bzzz/rescue/1/1"]


async def test_who_holds_it_is_left_open_if_only_that_cannot_be_read(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    assert (await harness.client().swap(repository, None, make_record(repository, 1))).won
    look, fetch = Fault(Trouble.DELAY, UPLOAD_PACK), Fault(Trouble.ANSWER, UPLOAD_PACK, 500)
    look.released.set()
    harness.server.misbehave(look, fetch)
    assert await ledger.swap(repository, None, make_record(repository, 1)) == SwapResult(won=False, standing=None)


async def test_a_server_that_is_away_is_unavailable_and_a_restarted_one_serves_on(harness: GitHttpHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    first = await ledger.swap(repository, None, make_record(repository, 1))
    harness.server.stop()
    with pytest.raises(ServiceUnavailable):
        await ledger.swap(repository, None, make_record(repository, 2))
    with pytest.raises(ServiceUnavailable):
        await ledger.list(repository)
    harness.server.start()
    assert await ledger.list(repository) == {1: first.standing}
    assert (await ledger.swap(repository, None, make_record(repository, 2))).won


async def test_a_server_killed_while_it_holds_the_lock_leaves_it_and_that_is_said(
    harness: GitHttpHarness, tmp_path: Path
) -> None:
    """Fact 7 with a real kill: git is stopped by a hook at the moment at which its locks are taken."""
    repository = harness.repository()
    ledger = harness.client(push_bound=PushBound(pushes_max=2, first_wait_s=0.01))
    gate = tmp_path / "gate"
    script = f'[ "$1" = prepared ] && [ ! -e {gate} ] && {{ touch {gate}; exec sleep 60; }}; exit 0'
    harness.bare(repository).hook("reference-transaction", script)
    claiming = asyncio.create_task(ledger.swap(repository, None, make_record(repository, 1)))
    async with asyncio.timeout(WAIT_S_MAX):
        while not gate.exists():  # noqa: ASYNC110  (a file that another program makes has no signal here)
            await asyncio.sleep(0.01)
    harness.server.kill()
    with pytest.raises(LedgerUncertain):
        await claiming
    harness.server.start()
    assert (harness.bare(repository).path / f"{claim_ref(1)}.lock").exists()
    assert await ledger.read(repository, 1) is None
    with pytest.raises(LedgerRefused, match="left a lock file"):
        await ledger.swap(repository, None, make_record(repository, 1))


ANSWERS: list[tuple[int, dict[str, str], type[ServiceError], str]] = [
    (401, {}, ServiceDenied, "401"),
    (403, {}, ServiceDenied, "403"),
    (403, {"Retry-After": "7"}, ServiceLimited, "403"),
    (403, {"X-RateLimit-Remaining": "0"}, ServiceLimited, "403"),
    (404, {}, ServiceMissing, "404"),
    (410, {}, ServiceMissing, "410"),
    (301, {"Location": "https://git.example/acme/renamed.git"}, ServiceMissing, "moved to https://git.example"),
    (429, {"Retry-After": "7"}, ServiceLimited, "429"),
    (500, {}, ServiceFaulty, "500"),
    (503, {}, ServiceFaulty, "503"),
    (200, {}, ServiceNonsense, "answered with text/html"),
]


@pytest.mark.parametrize(("status", "headers", "error", "text"), ANSWERS)
async def test_each_bad_answer_is_told_as_what_it_is(
    harness: GitHttpHarness, status: int, headers: dict[str, str], error: type[ServiceError], text: str
) -> None:
    repository, ledger = harness.repository(), harness.client()
    headers = {"Content-Type": "text/html; charset=utf-8", **headers}
    harness.server.misbehave(Fault(Trouble.ANSWER, UPLOAD_PACK, status, b"<html>hello</html>", headers))
    with pytest.raises(error, match=text) as raised:
        await ledger.read(repository, 1)
    assert type(raised.value) is error
    assert "<html>" not in str(raised.value)
    if status in {401, 404, 429, 301} or "Retry-After" in headers:
        harness.server.misbehave(Fault(Trouble.ANSWER, RECEIVE_PACK, status, b"", headers))
        with pytest.raises(error):
            await ledger.swap(repository, None, make_record(repository, 1))
        assert await ledger.read(repository, 1) is None


@pytest.mark.parametrize(("value", "expected"), [("7", 7.0), (formatdate(0, usegmt=True), 0.0), ("soon", None)])
async def test_how_long_to_wait_is_read_in_both_forms(
    harness: GitHttpHarness, value: str, expected: float | None
) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.server.misbehave(Fault(Trouble.ANSWER, UPLOAD_PACK, 429, b"", {"Retry-After": value}))
    with pytest.raises(ServiceLimited) as raised:
        await ledger.read(repository, 1)
    assert raised.value.retry_after_s == expected


async def test_a_token_reaches_the_server_and_nothing_else(
    harness: GitHttpHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    repository = harness.repository()
    secret = "planted-secret-token"
    with pytest.raises(ServiceDenied) as raised:
        await harness.client(secret).swap(repository, None, make_record(repository, 1))
    assert secret not in str(raised.value)
    assert (await harness.client().swap(repository, None, make_record(repository, 1))).won
    texts = [caplog.text, *(request.path for request in harness.server.requests)]
    for planted in (secret, harness.WRITE_TOKEN):
        assert not any(planted in text for text in texts)


@pytest.mark.parametrize(
    "address",
    ["https://user:planted-secret@git.example/a/b.git", "ssh://git@git.example/a/b", "x", "http://[::1/a"],
)
async def test_an_address_that_claims_cannot_use_is_refused_without_repeating_it(address: str) -> None:
    ledger = GitRefLedger(lambda _: None)
    repository = make_repository(address, "widgets")
    with pytest.raises(LedgerRefused, match="acme/widgets") as raised:
        await ledger.read(repository, 1)
    assert "planted-secret" not in str(raised.value)


async def test_an_answer_above_the_bound_is_not_read_to_its_end(harness: GitHttpHarness) -> None:
    repository = harness.repository()
    assert (await harness.client().swap(repository, None, make_record(repository, 1))).won
    ledger = GitRefLedger(lambda _: harness.WRITE_TOKEN, remote_bound=RemoteBound(answer_bytes_max=150))
    harness.clients.append(ledger)
    with pytest.raises(LedgerRefused, match="too large"):
        await ledger.history(repository, 1)
    with pytest.raises(LedgerRefused, match="too large"):
        await ledger.read(repository, 1)


async def test_an_answer_that_does_not_come_is_given_up_on(harness: GitHttpHarness) -> None:
    repository = harness.repository()
    ledger = GitRefLedger(lambda _: harness.WRITE_TOKEN, remote_bound=RemoteBound(exchange_timeout_s=0.5))
    harness.clients.append(ledger)
    fault = Fault(Trouble.DELAY, UPLOAD_PACK)
    harness.server.misbehave(fault)
    with pytest.raises(ServiceUnavailable, match=r"no whole answer within 0\.5 s"):
        await ledger.read(repository, 1)
    await let_finish(fault)


async def test_no_host_gets_more_connections_than_allowed(harness: GitHttpHarness) -> None:
    repository = harness.repository()
    ledger = GitRefLedger(lambda _: harness.WRITE_TOKEN, remote_bound=RemoteBound(connections_per_host_max=2))
    harness.clients.append(ledger)
    faults = [Fault(Trouble.DELAY) for _ in range(5)]
    harness.server.misbehave(*faults)
    claims = [
        asyncio.create_task(ledger.swap(repository, None, make_record(repository, number)))
        for number in range(1, 6)
    ]
    await asyncio.gather(reached(faults[0]), reached(faults[1]))
    await ledger_settles()
    assert not any(fault.reached.is_set() for fault in faults[2:])
    for fault in faults:
        fault.released.set()
    assert all([(await claim).won for claim in claims])
    assert len({request.connection for request in harness.server.requests}) == 2


async def ledger_settles() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_closed_ledger_can_be_closed_again(harness: GitHttpHarness) -> None:
    ledger = harness.client()
    repository: Repository = harness.repository()
    await ledger.read(repository, 1)
    await ledger.close()
    await ledger.close()

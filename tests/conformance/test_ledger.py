"""What every ledger promises, over every adapter; ``tests/support/ledger_harness.py`` lists them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.ledger_harness import (
    HARNESSES,
    PROTECTING_HARNESSES,
    TOKEN_HARNESSES,
    LedgerHarness,
    ProtectingHarness,
    TokenHarness,
    follow,
    make_record,
    opened,
)

from bzzz.core.record import RecordState, Version
from bzzz.errors import LedgerRefused, ServiceDenied, ServiceMissing
from bzzz.ledger.link import claim_ref

NOWHERE = Version("1" * 40)


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerHarness]:
    async with opened(HARNESSES[request.param](), tmp_path) as made:
        yield made


@pytest.fixture(params=sorted(TOKEN_HARNESSES))
async def token_harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TokenHarness]:
    async with opened(TOKEN_HARNESSES[request.param](), tmp_path) as made:
        yield made


@pytest.fixture(params=sorted(PROTECTING_HARNESSES))
async def protecting_harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ProtectingHarness]:
    async with opened(PROTECTING_HARNESSES[request.param](), tmp_path) as made:
        yield made


async def test_a_task_that_was_never_claimed_has_no_record_and_no_history(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    assert await ledger.read(repository, 1) is None
    assert await ledger.history(repository, 1) == []
    assert await ledger.list(repository) == {}


async def test_a_claim_stands_and_is_read_by_everyone(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    record = make_record(repository, 7, reason="unicode ☃ and\nlines")
    result = await ledger.swap(repository, None, record)
    assert result.won
    assert result.standing is not None
    assert result.standing.record == record
    assert await harness.client().read(repository, 7) == result.standing
    assert harness.refs(repository)[claim_ref(7)] == result.standing.version


async def test_a_second_claimer_loses_and_is_told_who_holds_the_task(harness: LedgerHarness) -> None:
    repository = harness.repository()
    first = await harness.client().swap(repository, None, make_record(repository, 1, agent="walnut"))
    ledger = harness.client()
    second = await ledger.swap(repository, None, make_record(repository, 1, agent="acacia"))
    assert not second.won
    assert second.standing == first.standing
    assert ledger.counters()["swaps_lost"] == 1


async def test_renewing_release_and_the_next_claim_form_one_chain(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    claim = make_record(repository, 3)
    records = [
        claim,
        follow(claim),
        follow(claim, state=RecordState.RELEASED, reason="check failed", strikes=1),
        make_record(repository, 3, epoch=2, agent="acacia"),
    ]
    version: Version | None = None
    for record in records:
        result = await ledger.swap(repository, version, record)
        assert result.won
        assert result.standing is not None
        version = result.standing.version
    history = await harness.client().history(repository, 3)
    assert [observation.record for observation in history] == records
    assert [observation.record.epoch for observation in history] == [1, 1, 1, 2]
    assert history[-1].version == version


async def test_a_release_keeps_the_ref_so_that_epochs_go_on(harness: LedgerHarness) -> None:
    """Deleting would let an old token in again: after it, "absent" is true a second time."""
    repository, ledger = harness.repository(), harness.client()
    claim = make_record(repository, 3)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    released = await ledger.swap(repository, held.version, follow(claim, state=RecordState.RELEASED))
    assert released.won
    assert claim_ref(3) in harness.refs(repository)
    late = await harness.client().swap(repository, None, make_record(repository, 3, agent="late"))
    assert not late.won
    assert late.standing == released.standing


async def test_a_held_claim_can_be_taken_over_by_who_names_what_it_saw(harness: LedgerHarness) -> None:
    repository, holder, observer = harness.repository(), harness.client(), harness.client()
    claim = make_record(repository, 5, agent="walnut")
    assert (await holder.swap(repository, None, claim)).won
    seen = await observer.read(repository, 5)
    assert seen is not None
    taken = await observer.swap(repository, seen.version, make_record(repository, 5, epoch=2, agent="acacia"))
    assert taken.won
    renewal = await holder.swap(repository, seen.version, follow(claim))
    assert not renewal.won
    assert renewal.standing == taken.standing


async def test_naming_a_version_that_has_moved_loses_however_fresh_ones_own_view_is(harness: LedgerHarness) -> None:
    """Fact 4: reading (a background fetch) in between must not make an old decision valid."""
    repository, slow, quick = harness.repository(), harness.client(), harness.client()
    claim = make_record(repository, 5)
    decided_on = (await slow.swap(repository, None, claim)).standing
    assert decided_on is not None
    assert (await quick.swap(repository, decided_on.version, make_record(repository, 5, epoch=2))).won
    fresh = await slow.read(repository, 5)
    assert fresh is not None
    assert fresh.version != decided_on.version
    assert not (await slow.swap(repository, decided_on.version, follow(claim))).won


async def test_a_version_that_never_was_loses(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    nothing = await ledger.swap(repository, NOWHERE, make_record(repository, 1))
    assert not nothing.won
    assert nothing.standing is None
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won
    assert not (await ledger.swap(repository, NOWHERE, make_record(repository, 1))).won


async def test_two_claimers_with_one_nonce_would_both_win(harness: LedgerHarness) -> None:
    """Fact 1, the failure: equal records are one version, and whoever finds it standing has won."""
    repository = harness.repository()
    record = make_record(repository, 1, nonce="none")
    results = [await harness.client().swap(repository, None, record) for _ in range(2)]
    assert [result.won for result in results] == [True, True]


async def test_two_claimers_with_their_own_nonces_never_both_win(harness: LedgerHarness) -> None:
    """Fact 1, the remedy: nothing differs but the nonce."""
    repository = harness.repository()
    records = [make_record(repository, 1, nonce=nonce) for nonce in ("one", "two")]
    results = [await harness.client().swap(repository, None, record) for record in records]
    assert [result.won for result in results] == [True, False]


async def test_sixteen_claimers_racing_for_five_tasks_leave_one_winner_each(harness: LedgerHarness) -> None:
    repository = harness.repository()
    clients = [harness.client() for _ in range(16)]
    numbers = range(1, 6)

    async def race(index: int, number: int) -> int | None:
        record = make_record(repository, number, agent=f"agent-{index}")
        result = await clients[index].swap(repository, None, record)
        if result.won:
            return index
        assert result.standing is not None
        return None

    for number in numbers:
        winners = [
            index for index in await asyncio.gather(*(race(i, number) for i in range(16))) if index is not None
        ]
        assert len(winners) == 1
        standing = await clients[0].read(repository, number)
        assert standing is not None
        assert standing.record.holder.agent == f"agent-{winners[0]}"


async def test_a_list_holds_every_claim_by_number_and_nothing_else(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    records = {number: make_record(repository, number) for number in (1, 4, 40, 400)}
    for record in records.values():
        assert (await ledger.swap(repository, None, record)).won
    await ledger.rescue(repository, 9, 1, harness.work(repository, "unused"))
    listed = await harness.client().list(repository)
    assert {number: observation.record for number, observation in listed.items()} == records


async def test_a_list_follows_what_others_do(harness: LedgerHarness) -> None:
    repository, watcher, worker = harness.repository(), harness.client(), harness.client()
    claim = make_record(repository, 1)
    first = await worker.swap(repository, None, claim)
    assert first.standing is not None
    assert (await watcher.list(repository))[1] == first.standing
    second = await worker.swap(repository, first.standing.version, follow(claim))
    assert await watcher.list(repository) == {1: second.standing}


async def test_repositories_do_not_share_claims(harness: LedgerHarness) -> None:
    one, other, ledger = harness.repository("one"), harness.repository("other"), harness.client()
    assert (await ledger.swap(one, None, make_record(one, 1))).won
    assert await ledger.read(other, 1) is None
    assert (await ledger.swap(other, None, make_record(other, 1))).won


async def test_a_record_of_another_repository_is_not_written(harness: LedgerHarness) -> None:
    one, other, ledger = harness.repository("one"), harness.repository("other"), harness.client()
    with pytest.raises(LedgerRefused, match="does not belong"):
        await ledger.swap(one, None, make_record(other, 1))
    assert await ledger.list(one) == {}


async def test_a_delivery_moves_the_claim_and_makes_the_branch(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    work = harness.work(repository, "bzzz/task-2-abc")
    record = follow(claim, state=RecordState.DELIVERED, branch=work.branch)
    result = await ledger.deliver(repository, held.version, record, work)
    assert result.won
    assert result.standing is not None
    refs = harness.refs(repository)
    assert refs["refs/heads/bzzz/task-2-abc"] == work.commit
    assert refs[claim_ref(2)] == result.standing.version
    assert (await harness.client().history(repository, 2))[-1].record == record


async def test_a_stale_holders_delivery_is_refused_and_its_branch_is_not_made(harness: LedgerHarness) -> None:
    """Fact 3: the fence. The old holder delivers with its own epoch after the task moved on."""
    repository, old, new = harness.repository(), harness.client(), harness.client()
    claim = make_record(repository, 2, agent="old")
    held = (await old.swap(repository, None, claim)).standing
    assert held is not None
    taken = await new.swap(repository, held.version, make_record(repository, 2, epoch=2, agent="new"))
    work = harness.work(repository, "bzzz/task-2-old")
    result = await old.deliver(repository, held.version, follow(claim, state=RecordState.DELIVERED), work)
    assert not result.won
    assert result.standing == taken.standing
    refs = harness.refs(repository)
    assert "refs/heads/bzzz/task-2-old" not in refs
    assert taken.standing is not None
    assert refs[claim_ref(2)] == taken.standing.version


async def test_of_two_deliveries_of_one_claim_one_stands_with_its_branch(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    works = [harness.work(repository, f"bzzz/task-2-{name}", name) for name in "ab"]
    results = await asyncio.gather(
        *(
            harness.client().deliver(repository, held.version, follow(claim, state=RecordState.DELIVERED), work)
            for work in works
        )
    )
    assert sorted(result.won for result in results) == [False, True]
    refs = harness.refs(repository)
    for work, result in zip(works, results, strict=True):
        assert (f"refs/heads/{work.branch}" in refs) == result.won


async def test_a_branch_named_bzzz_is_named_as_what_blocks_a_delivery(harness: LedgerHarness) -> None:
    """Fact 6."""
    repository, ledger = harness.repository(), harness.client()
    harness.set_branch(repository, "bzzz")
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None, "a branch named bzzz must not disturb claims"
    with pytest.raises(LedgerRefused, match="a branch named 'bzzz' blocks refs/heads/bzzz/task-2"):
        await ledger.deliver(repository, held.version, follow(claim), harness.work(repository, "bzzz/task-2"))
    assert await ledger.read(repository, 2) == held


async def test_a_branch_with_other_content_is_never_overwritten(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    standing = harness.set_branch(repository, "bzzz/task-2")
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    with pytest.raises(LedgerRefused, match="exists already with other content"):
        await ledger.deliver(repository, held.version, follow(claim), harness.work(repository, "bzzz/task-2"))
    assert harness.refs(repository)["refs/heads/bzzz/task-2"] == standing
    assert await ledger.read(repository, 2) == held


async def test_a_branch_that_has_this_very_commit_is_delivered(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    work = harness.work(repository, "bzzz/task-2")
    harness.upload(repository, work)
    result = await ledger.deliver(repository, held.version, follow(claim, state=RecordState.DELIVERED), work)
    assert result.won
    assert harness.refs(repository)["refs/heads/bzzz/task-2"] == work.commit


async def test_a_protected_branch_refuses_the_delivery_and_keeps_the_claim(
    protecting_harness: ProtectingHarness,
) -> None:
    harness = protecting_harness
    repository, ledger = harness.repository(), harness.client()
    harness.protect(repository, "release")
    claim = make_record(repository, 2)
    held = (await ledger.swap(repository, None, claim)).standing
    assert held is not None
    with pytest.raises(LedgerRefused, match="rules forbid it"):
        await ledger.deliver(repository, held.version, follow(claim), harness.work(repository, "release"))
    assert "refs/heads/release" not in harness.refs(repository)
    assert await ledger.read(repository, 2) == held


@pytest.mark.parametrize("branch", ["../main", "a b", "x\ny", "-x", "x.lock", "", "a//b", "x\x00 atomic"])
async def test_a_branch_name_that_git_forbids_is_refused_before_anything_is_sent(
    harness: LedgerHarness, branch: str
) -> None:
    repository, ledger = harness.repository(), harness.client()
    work = harness.work(repository, branch)
    with pytest.raises(LedgerRefused, match="not a ref name"):
        await ledger.deliver(repository, NOWHERE, make_record(repository, 2), work)


async def test_rescued_work_is_saved_beside_what_was_saved_before(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    works = [harness.work(repository, "unused", content) for content in ("one", "two", "three")]
    refs = [await ledger.rescue(repository, 4, 2, work) for work in works]
    assert refs == ["refs/bzzz/rescue/4/2", "refs/bzzz/rescue/4/2-2", "refs/bzzz/rescue/4/2-3"]
    assert [harness.refs(repository)[ref] for ref in refs] == [work.commit for work in works]


async def test_the_same_work_is_rescued_once(harness: LedgerHarness) -> None:
    repository = harness.repository()
    work = harness.work(repository, "unused")
    assert await harness.client().rescue(repository, 4, 2, work) == await harness.client().rescue(
        repository, 4, 2, work
    )
    assert [ref for ref in harness.refs(repository) if "rescue" in ref] == ["refs/bzzz/rescue/4/2"]


async def test_rescues_that_race_for_one_name_are_all_saved(harness: LedgerHarness) -> None:
    repository = harness.repository()
    works = [harness.work(repository, "unused", f"content {index}") for index in range(4)]
    refs = await asyncio.gather(*(harness.client().rescue(repository, 4, 2, work) for work in works))
    assert len(set(refs)) == len(works)
    assert [harness.refs(repository)[ref] for ref in refs] == [work.commit for work in works]


HOSTILE = {
    "no claim.json": {"README": b"x"},
    "nonsense JSON": {"claim.json": b"{"},
    "deep JSON": {"claim.json": b"[" * 60_000},
    "not an object": {"claim.json": b"[]"},
    "a megabyte": {"claim.json": b" " * 2**20},
    "a lone surrogate": {
        "claim.json": b'{"version":1,"task":"acme/widgets#1","epoch":1,"state":"held","nonce":"\\ud800",'
        b'"holder":{"peer":"p","agent":"a"}}'
    },
}


@pytest.mark.parametrize("hostile", sorted(HOSTILE))
async def test_a_ref_that_holds_no_record_is_refused_and_left_out_of_lists(
    harness: LedgerHarness, hostile: str
) -> None:
    repository, ledger = harness.repository(), harness.client()
    good = await ledger.swap(repository, None, make_record(repository, 2))
    commit = harness.plant(repository, claim_ref(1), HOSTILE[hostile])
    with pytest.raises(LedgerRefused, match=f"refs/bzzz/claims/1 of acme/widgets at {commit}"):
        await ledger.read(repository, 1)
    with pytest.raises(LedgerRefused, match=commit):
        await ledger.history(repository, 1)
    reader = harness.client()
    assert await reader.list(repository) == {2: good.standing}
    assert await reader.list(repository) == {2: good.standing}
    assert reader.counters()["records_unreadable"] == 1
    lost = await ledger.swap(repository, None, make_record(repository, 1))
    assert not lost.won
    assert lost.standing is None


async def test_a_ref_that_points_at_no_commit_is_refused(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    blob = harness.plant_blob(repository, claim_ref(1))
    with pytest.raises(LedgerRefused, match=f"{blob} is not a claim record: it is a blob"):
        await ledger.read(repository, 1)
    assert await ledger.list(repository) == {}


async def test_a_record_of_another_task_is_unreadable(harness: LedgerHarness) -> None:
    """Otherwise a claim could be copied from one task, or one repository, to another."""
    repository, ledger = harness.repository(), harness.client()
    for number, task in ((1, "acme/widgets#2"), (2, "acme/other#2")):
        data = make_record(repository, 1).to_bytes().replace(b"acme/widgets#1", task.encode())
        harness.plant(repository, claim_ref(number), {"claim.json": data})
        with pytest.raises(LedgerRefused, match=f"of another task, '{task}'"):
            await ledger.read(repository, number)
    assert await ledger.list(repository) == {}


@pytest.mark.parametrize("name", ["01", "0", "x", "7/8"])
async def test_refs_beside_the_claims_are_no_claims(harness: LedgerHarness, name: str) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.plant(repository, f"refs/bzzz/claims/{name}", {"claim.json": make_record(repository, 1).to_bytes()})
    assert await ledger.list(repository) == {}
    assert ledger.counters()["records_unreadable"] == 1


async def test_an_unreadable_record_can_be_followed_by_who_names_its_version(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    commit = Version(harness.plant(repository, claim_ref(1), {"README": b"x"}))
    result = await ledger.swap(repository, commit, make_record(repository, 1))
    assert result.won
    assert await harness.client().read(repository, 1) == result.standing


async def test_a_record_above_the_bound_is_not_sent(harness: LedgerHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    with pytest.raises(LedgerRefused, match="above 65536"):
        await ledger.swap(repository, None, make_record(repository, 1, reason="x" * 70_000))


async def test_a_repository_that_is_missing_is_said_to_be(harness: LedgerHarness) -> None:
    harness.repository()
    missing, ledger = harness.missing_repository(), harness.client()
    with pytest.raises(ServiceMissing):
        await ledger.read(missing, 1)
    with pytest.raises(ServiceMissing):
        await ledger.list(missing)
    with pytest.raises(ServiceMissing):
        await ledger.swap(missing, None, make_record(missing, 1))


async def test_a_client_that_may_only_read_reads_and_is_refused_the_rest(token_harness: TokenHarness) -> None:
    repository = token_harness.repository()
    claim = make_record(repository, 1)
    held = (await token_harness.client().swap(repository, None, claim)).standing
    assert held is not None
    reader = token_harness.read_only_client()
    assert await reader.read(repository, 1) == held
    assert await reader.list(repository) == {1: held}
    with pytest.raises(ServiceDenied):
        await reader.swap(repository, held.version, follow(claim))
    with pytest.raises(LedgerRefused):
        await reader.deliver(repository, held.version, follow(claim), token_harness.work(repository, "bzzz/task-1"))
    assert await reader.read(repository, 1) == held

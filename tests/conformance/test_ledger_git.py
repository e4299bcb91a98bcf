"""What a ledger over git promises beyond every ledger: the facts about git servers that decide safety."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.bare_repository import git, try_git
from tests.support.ledger_harness import GIT_HARNESSES, GitHarness, GitHttpHarness, follow, make_record, opened

from bzzz.core.record import ClaimRecord, Observation, RecordState, Version
from bzzz.core.task import Repository
from bzzz.errors import LedgerRefused, ServiceError
from bzzz.gitformat.pack import build_pack
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.ledger.link import Link, claim_ref, make_link
from bzzz.ledger.push import PushBound
from bzzz.ledger.receive_pack import RefUpdate, push_request, read_report
from bzzz.ledger.remote import AnswerLost, Remote
from bzzz.ledger.work_pack import pack_work


@pytest.fixture(params=sorted(GIT_HARNESSES))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GitHarness]:
    async with opened(GIT_HARNESSES[request.param](), tmp_path) as made:
        yield made


async def claim(ledger: GitRefLedger, repository: Repository, number: int) -> tuple[ClaimRecord, Observation]:
    record = make_record(repository, number)
    standing = (await ledger.swap(repository, None, record)).standing
    assert standing is not None
    return record, standing


async def raw_push(repository: Repository, updates: list[RefUpdate], pack: bytes, *, atomic: bool) -> set[str]:
    """Push as a client without the ledger's rules would; returns the refs that the server took."""
    remote = Remote(lambda _: GitHttpHarness.WRITE_TOKEN)
    answer = await remote.write(repository, push_request(updates, pack, agent="test", atomic=atomic), "test")
    await remote.close()
    assert not isinstance(answer, AnswerLost)
    return set(read_report(answer).accepted)


async def stale_delivery(harness: GitHarness, *, with_claim: bool, atomic: bool) -> bool:
    """A holder delivers after the claim moved; returns whether its branch was made."""
    repository, ledger = harness.repository(), harness.client()
    record, held = await claim(ledger, repository, 1)
    assert (await ledger.swap(repository, held.version, make_record(repository, 1, epoch=2))).won
    work = harness.work(repository, "bzzz/task-1")
    version, objects = make_link(Link(follow(record), held.version))
    updates = [RefUpdate(claim_ref(1), held.version, version)] if with_claim else []
    updates.append(RefUpdate("refs/heads/bzzz/task-1", None, work.commit))
    pack = await pack_work(work, thin=True, by_offset=True, pack_bytes_max=2**20, timeout_s=30)
    await raw_push(repository, updates, build_pack(objects if with_claim else (), pack), atomic=atomic)
    return "refs/heads/bzzz/task-1" in harness.refs(repository)


async def test_a_push_without_the_claim_or_without_atomic_fences_nothing(harness: GitHarness) -> None:
    """Fact 3, the failures; the suite shows the remedy."""
    assert await stale_delivery(harness, with_claim=False, atomic=True)


async def test_a_push_of_claim_and_branch_that_is_not_atomic_makes_a_stale_branch(harness: GitHarness) -> None:
    assert await stale_delivery(harness, with_claim=True, atomic=False)


async def test_an_atomic_push_of_claim_and_branch_fences(harness: GitHarness) -> None:
    assert not await stale_delivery(harness, with_claim=True, atomic=True)


async def test_a_server_without_atomic_push_is_refused_before_anything_is_pushed(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.bare(repository).configure("receive.advertiseAtomic", "false")
    record, held = await claim(ledger, repository, 1)
    with pytest.raises(LedgerRefused, match=r"receive\.advertiseAtomic"):
        await ledger.deliver(repository, held.version, follow(record), harness.work(repository, "bzzz/task-1"))
    assert "refs/heads/bzzz/task-1" not in harness.refs(repository)
    assert await ledger.read(repository, 1) == held


async def test_a_server_that_stops_pushing_atomically_is_found_out(harness: GitHarness) -> None:
    """It ignores the word without an error, so a half of the push shows it."""
    repository, ledger = harness.repository(), harness.client()
    record, held = await claim(ledger, repository, 1)
    other, other_held = await claim(ledger, repository, 2)
    first = await ledger.deliver(repository, other_held.version, follow(other), harness.work(repository, "bzzz/t2"))
    assert first.won, "the server's capabilities are known from now on"
    harness.bare(repository).configure("receive.advertiseAtomic", "false")
    assert (await harness.client().swap(repository, held.version, make_record(repository, 1, epoch=2))).won
    with pytest.raises(LedgerRefused, match="does not push atomically"):
        await ledger.deliver(repository, held.version, follow(record), harness.work(repository, "bzzz/t1"))


async def test_deleting_the_ref_lets_a_late_claimer_begin_again_at_epoch_one(harness: GitHarness) -> None:
    """Fact 2, the failure: an empty source deletes, and "absent" is true a second time."""
    repository, ledger = harness.repository(), harness.client()
    await claim(ledger, repository, 1)
    bare = harness.bare(repository)
    git(bare.path, "push", "--quiet", str(bare.path), f":{claim_ref(1)}")
    late = await harness.client().swap(repository, None, make_record(repository, 1, epoch=1, agent="late"))
    assert late.won, "with the ref gone nothing remembers the first epoch"


async def test_a_bare_lease_trusts_what_a_background_fetch_brought(harness: GitHarness, tmp_path: Path) -> None:
    """Fact 4, the failure, with the git program's own lease; naming the value is the remedy."""
    repository, ledger = harness.repository(), harness.client()
    _, held = await claim(ledger, repository, 1)
    bare, ref = harness.bare(repository), claim_ref(1)
    clone = tmp_path / "clone.git"
    git(clone, "init", "-q", "--bare", str(clone))
    git(clone, "remote", "add", "origin", str(bare.path))
    git(clone, "config", "remote.origin.fetch", "+refs/bzzz/*:refs/remotes/origin/bzzz/*")
    moved = (await ledger.swap(repository, held.version, make_record(repository, 1, epoch=2))).standing
    assert moved is not None
    git(clone, "fetch", "-q", "origin")
    stale = bare.commit("refs/heads/elsewhere", {"claim.json": b"{}"}, into=clone)
    named, bare_lease = f"--force-with-lease={ref}:{held.version}", f"--force-with-lease={ref}"
    assert try_git(clone, "push", "-q", named, "origin", f"{stale}:{ref}").returncode != 0
    assert bare.refs()[ref] == moved.version
    git(clone, "push", "-q", bare_lease, "origin", f"{stale}:{ref}")
    assert bare.refs()[ref] == stale, "the bare lease let an old decision overwrite epoch 2"


async def test_a_leftover_lock_is_named_and_the_task_is_free_once_it_is_gone(harness: GitHarness) -> None:
    """Fact 7."""
    repository, ledger = harness.repository(), harness.client(push_bound=PushBound(pushes_max=2, first_wait_s=0.01))
    lock = harness.bare(repository).leave_lock(claim_ref(1))
    with pytest.raises(LedgerRefused, match=r"killed probably left a lock file; delete refs/bzzz/claims/1\.lock"):
        await ledger.swap(repository, None, make_record(repository, 1))
    assert (await ledger.swap(repository, None, make_record(repository, 2))).won, "other tasks are free"
    lock.unlink()
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won


async def test_a_lock_that_goes_away_costs_a_repeated_push_only(harness: GitHarness) -> None:
    repository = harness.repository()
    lock = harness.bare(repository).leave_lock(claim_ref(1))

    async def writer_finishes(_: float) -> None:
        lock.unlink(missing_ok=True)

    ledger = GitRefLedger(lambda _: GitHttpHarness.WRITE_TOKEN, sleep=writer_finishes)
    harness.clients.append(ledger)
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won
    assert ledger.counters()["pushes_repeated"] == 1


@pytest.mark.parametrize(
    ("hook", "said"),
    [("pre-receive", "no claims here"), ("update", "no claims here")],
)
async def test_a_hook_that_declines_is_refused_in_its_own_words(harness: GitHarness, hook: str, said: str) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.bare(repository).hook(hook, f"echo '{said}' >&2; exit 1")
    with pytest.raises(LedgerRefused, match=said):
        await ledger.swap(repository, None, make_record(repository, 1))
    assert await ledger.read(repository, 1) is None


async def test_hidden_refs_are_refused(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.bare(repository).configure("transfer.hideRefs", "refs/bzzz")
    with pytest.raises(LedgerRefused, match="hidden ref"):
        await ledger.swap(repository, None, make_record(repository, 1))


async def test_hidden_work_branches_break_gits_atomic_push_and_that_is_said(harness: GitHarness) -> None:
    """Git (2.39) carries out what is left of an atomic push once it has struck out updates of hidden refs."""
    repository, ledger = harness.repository(), harness.client(push_bound=PushBound(pushes_max=2, first_wait_s=0.01))
    harness.bare(repository).configure("receive.hideRefs", "refs/heads/bzzz")
    record, held = await claim(ledger, repository, 1)
    delivered = follow(record, state=RecordState.DELIVERED)
    with pytest.raises(LedgerRefused, match=r"moved the claim to delivered and refused the branch.*hideRefs"):
        await ledger.deliver(repository, held.version, delivered, harness.work(repository, "bzzz/task-1"))
    assert "refs/heads/bzzz/task-1" not in harness.refs(repository)


async def test_a_ref_in_the_way_of_the_claims_is_named(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    harness.plant(repository, "refs/bzzz/claims", {"README": b"x"})
    with pytest.raises(LedgerRefused, match="refs/bzzz/claims' exists"):
        await ledger.swap(repository, None, make_record(repository, 1))


async def test_a_delivery_cut_in_half_by_a_killed_server_is_finished(harness: GitHarness) -> None:
    """Git moves the refs of an atomic push one after the other; a kill in between leaves the claim alone."""
    repository, ledger = harness.repository(), harness.client()
    record, held = await claim(ledger, repository, 1)
    delivered = follow(record, state=RecordState.DELIVERED)
    assert (await ledger.swap(repository, held.version, delivered)).won
    work = harness.work(repository, "bzzz/task-1")
    assert (await ledger.deliver(repository, held.version, delivered, work)).won
    assert harness.refs(repository)["refs/heads/bzzz/task-1"] == work.commit
    assert len(harness.chain_ids(repository, 1)) == 2


async def test_the_chain_is_sound_for_git_and_tells_a_person_who_held_it(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    bare = harness.bare(repository)
    bare.configure("receive.fsckObjects", "true")
    record = make_record(repository, 1, agent="wal<nut>\n", reason="line\nbreak")
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None
    assert (await ledger.swap(repository, held.version, follow(record, state=RecordState.RELEASED))).won
    git(bare.path, "fsck", "--strict")
    log = git(bare.path, "log", "--format=%an %ai %s", claim_ref(1)).splitlines()
    assert log[1] == "walnut 2026-01-01 00:00:00 +0000 acme/widgets#1: held by wal<nut> , epoch 1: line break"
    assert log[0].startswith("walnut 2026-01-01 00:00:00 +0000 acme/widgets#1: released by")


async def test_long_chains_and_many_claims_are_read_from_packs_with_deltas(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    record, standing = await claim(ledger, repository, 1)
    versions = [standing.version]
    for _ in range(20):
        result = await ledger.swap(repository, versions[-1], follow(record, reason="long words " * 40))
        assert result.standing is not None
        versions.append(result.standing.version)
    for number in range(2, 12):
        assert (await ledger.swap(repository, None, make_record(repository, number, reason="long words " * 40))).won
    git(harness.bare(repository).path, "repack", "-adfq", "--depth=50")
    reader = harness.client()
    assert [observation.version for observation in await reader.history(repository, 1)] == versions
    assert sorted(await harness.client().list(repository)) == list(range(1, 12))


async def test_one_huge_object_does_not_hide_the_other_claims(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    for number in range(1, 8):
        await claim(ledger, repository, number)
    noise = random.Random(1).randbytes(3_000_000)
    harness.plant(repository, claim_ref(8), {"claim.json": b"{}", "noise": noise})
    reader = harness.client()
    assert sorted(await reader.list(repository)) == list(range(1, 8))
    assert reader.counters()["fetches_halved"] >= 1
    requests = reader.counters()["requests"]
    assert sorted(await reader.list(repository)) == list(range(1, 8))
    assert reader.counters()["requests"] == requests + 1, "what is unreadable is not fetched again"


async def test_a_listing_costs_one_request_and_one_more_where_something_is_new(harness: GitHarness) -> None:
    repository, worker, watcher = harness.repository(), harness.client(), harness.client()
    for number in range(1, 6):
        await claim(worker, repository, number)
    for expected in (2, 3):
        assert len(await watcher.list(repository)) == 5
        assert watcher.counters()["requests"] == expected
    await claim(worker, repository, 6)
    assert len(await watcher.list(repository)) == 6
    assert watcher.counters()["requests"] == 5


async def test_work_above_the_bound_or_missing_is_refused(harness: GitHarness) -> None:
    repository = harness.repository()
    ledger = harness.client(push_bound=PushBound(pack_bytes_max=1000))
    record, held = await claim(ledger, repository, 1)
    noise = "".join(str(index) for index in range(20_000))
    with pytest.raises(LedgerRefused, match="above 1000 bytes"):
        await ledger.deliver(
            repository, held.version, follow(record), harness.work(repository, "bzzz/task-1", noise)
        )
    work = harness.work(repository, "bzzz/task-1")
    missing = type(work)(work.git_dir, "1" * 40, work.base, work.branch)
    with pytest.raises(LedgerRefused, match="packing 1111"):
        await ledger.deliver(repository, held.version, follow(record), missing)
    with pytest.raises(LedgerRefused, match="full ids"):
        await ledger.rescue(repository, 1, 1, type(work)(work.git_dir, "HEAD", work.base, work.branch))


async def test_work_without_new_objects_can_be_delivered_and_rescued(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    record, held = await claim(ledger, repository, 1)
    work = harness.work(repository, "bzzz/task-1")
    nothing_new = type(work)(work.git_dir, work.base, work.base, work.branch)
    assert await ledger.rescue(repository, 1, 1, nothing_new) == "refs/bzzz/rescue/1/1"
    assert (await ledger.deliver(repository, held.version, follow(record), nothing_new)).won


async def test_a_repository_with_sha256_names_is_refused_clearly(harness: GitHarness) -> None:
    repository, ledger = harness.repository(), harness.client()
    bare = harness.bare(repository)
    path = bare.path.with_name("modern.git")
    git(path, "init", "-q", "--bare", "--object-format=sha256", str(path))
    (path / "config").open("a").write("[http]\n\treceivepack = true\n")
    modern = Repository(2, "modern", "acme", "modern", harness.git_url("acme/modern"), "")
    with pytest.raises(ServiceError, match=r"(?i)sha-?256"):
        await ledger.list(modern)
    version = Version("1" * 40)
    with pytest.raises(LedgerRefused, match="SHA-256"):
        await ledger.deliver(modern, version, make_record(modern, 1), harness.work(repository, "bzzz/task-1"))

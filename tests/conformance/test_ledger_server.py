"""What befalls a git server, of every kind: fifty processes at once, a repository gone, rules in the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.bare_repository import git
from tests.support.ledger_harness import (
    GIT_HARNESSES,
    LOCK_AGE_S,
    SERVER_HARNESSES,
    SWEEP_PERIOD_S,
    GitForgeHarness,
    GitHarness,
    GitHttpHarness,
    follow,
    make_record,
    opened,
)

from bzzz.core.record import RecordState
from bzzz.errors import LedgerRefused, LedgerUncertain, ServiceFaulty, ServiceMissing
from bzzz.ledger.push import PushBound
from bzzz.ports import Work

ROOT = Path(__file__).parents[2]
RACERS = 50
ISSUES = 3
RACE_S_MAX = 100


@pytest.fixture(params=sorted(SERVER_HARNESSES))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GitHarness]:
    async with opened(SERVER_HARNESSES[request.param](), tmp_path) as made:
        yield made


@pytest.fixture(params=sorted(GIT_HARNESSES))
async def plain(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GitHarness]:
    async with opened(GIT_HARNESSES[request.param](), tmp_path) as made:
        yield made


@pytest.fixture
async def forge(tmp_path: Path) -> AsyncIterator[GitForgeHarness]:
    async with opened(GitForgeHarness(), tmp_path) as made:
        yield made


@pytest.mark.serial
@pytest.mark.timeout(RACE_S_MAX + 20)
async def test_of_fifty_processes_that_race_for_a_task_one_has_it(plain: GitHarness) -> None:
    """Field note 1, on a plain repository by path and by smart HTTP."""
    await race(plain, GitHttpHarness.WRITE_TOKEN)


@pytest.mark.chaos
@pytest.mark.timeout(RACE_S_MAX + 20)
async def test_of_fifty_processes_that_race_on_the_forge_one_has_it(forge: GitForgeHarness) -> None:
    """Field note 1."""
    await race(forge, forge.write_token)


async def race(harness: GitHarness, token: str) -> None:
    """Fifty processes claim the same tasks; each of these is won once, and by who stands there."""
    repository = harness.repository()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.ledger_racer"),
        *(repository.git_url, repository.key, str(ISSUES), str(RACERS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(RACE_S_MAX):
            said, _ = await process.communicate(f"{token}\n".encode())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    won: dict[str, list[int]] = json.loads(said)
    assert len(won) == RACERS
    winners: dict[int, list[str]] = {}
    for name, numbers in won.items():
        for number in numbers:
            winners.setdefault(number, []).append(name)
    standing = await harness.client().list(repository)
    assert {number: [seen.record.holder.agent] for number, seen in standing.items()} == winners
    assert sorted(winners) == list(range(1, ISSUES + 1))
    for number in winners:
        assert len(harness.chain_ids(repository, number)) == 1


def keep_whole(work: Work) -> None:
    """Make the holder's repository independent of the server's disk, as it is on another machine."""
    git(work.git_dir, "repack", "-a", "-d", "-q")
    (work.git_dir / "objects" / "info" / "alternates").unlink()


async def test_a_repository_that_vanishes_is_said_to_and_its_claims_go_on_where_they_stood(
    harness: GitHarness,
) -> None:
    """Field note 2: also for a client that has spoken with it before, and knows what it can do."""
    repository, ledger = harness.repository(), harness.client()
    record = make_record(repository, 1)
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None
    work = harness.work(repository, "bzzz/task-1")
    other = (await ledger.swap(repository, None, make_record(repository, 2))).standing
    assert other is not None
    spare = harness.work(repository, "bzzz/task-2")
    assert (await ledger.deliver(repository, other.version, follow(other.record), spare)).won
    keep_whole(work)
    delivered = follow(record, state=RecordState.DELIVERED)
    place = harness.bare(repository).path
    place.rename(place.with_name("elsewhere"))
    tries: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: ledger.read(repository, 1),
        lambda: ledger.list(repository),
        lambda: ledger.history(repository, 1),
        lambda: ledger.swap(repository, held.version, follow(record)),
        lambda: ledger.deliver(repository, held.version, delivered, work),
        lambda: ledger.rescue(repository, 1, 1, work),
    ]
    # The forge still knows of it, and says that it is the server's fault, which may pass.
    said = (ServiceFaulty, LedgerUncertain) if isinstance(harness, GitForgeHarness) else ServiceMissing
    for attempt in tries:
        with pytest.raises(said, match=repository.key):
            await attempt()
    place.with_name("elsewhere").rename(place)
    assert await ledger.read(repository, 1) == held
    assert (await ledger.deliver(repository, held.version, delivered, work)).won
    assert harness.refs(repository)["refs/heads/bzzz/task-1"] == work.commit


async def test_a_repository_deleted_on_the_forge_takes_its_claims_with_it(forge: GitForgeHarness) -> None:
    """Its successor of the same name begins anew, and no word of the old one counts there."""
    repository, ledger = forge.repository(), forge.client()
    record = make_record(repository, 1)
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None
    forge.server.forge.delete_repository(repository.owner, repository.repository)
    with pytest.raises(ServiceMissing):
        await ledger.read(repository, 1)
    forge.repository()
    assert await ledger.read(repository, 1) is None
    assert not (await ledger.swap(repository, held.version, follow(record))).won
    assert (await ledger.swap(repository, None, make_record(repository, 1))).won


async def test_a_lock_that_a_killed_git_left_is_swept_by_the_forge_and_the_task_is_free(
    forge: GitForgeHarness,
) -> None:
    """Fact 7, and field note 2: nobody has to log in and delete a file."""
    repository = forge.repository()
    hasty = forge.client(push_bound=PushBound(pushes_max=2, first_wait_s=0.01))
    lock = forge.bare(repository).leave_lock("refs/bzzz/claims/1")
    with pytest.raises(LedgerRefused, match="left a lock file"):
        await hasty.swap(repository, None, make_record(repository, 1))
    assert lock.exists()
    old = time.time() - LOCK_AGE_S
    os.utime(lock, (old, old))
    patient = forge.client(push_bound=PushBound(pushes_max=8, first_wait_s=SWEEP_PERIOD_S))
    assert (await patient.swap(repository, None, make_record(repository, 1))).won
    assert not lock.exists()
    assert forge.server.forge.counters()["locks_swept"] == 1


async def test_nothing_in_a_repository_can_make_the_forge_push_without_atomicity(forge: GitForgeHarness) -> None:
    """Fact 3: its settings are the forge's own, whatever the repository's configuration says."""
    repository, ledger = forge.repository(), forge.client()
    forge.bare(repository).configure("receive.advertiseAtomic", "false")
    forge.bare(repository).hook("update", "exit 1")
    record = make_record(repository, 1)
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None
    assert (await ledger.swap(repository, held.version, make_record(repository, 1, epoch=2))).won
    stale = await ledger.deliver(repository, held.version, follow(record), forge.work(repository, "bzzz/task-1"))
    assert not stale.won
    assert "refs/heads/bzzz/task-1" not in forge.refs(repository)


async def test_work_branches_that_a_server_forbids_are_refused_in_its_words_and_the_claim_stays(
    plain: GitHarness,
) -> None:
    repository, ledger = plain.repository(), plain.client()
    script = 'while read old new ref; do case $ref in refs/heads/bzzz/*) echo "no robots" >&2; exit 1;; esac; done'
    plain.bare(repository).hook("pre-receive", script)
    record = make_record(repository, 1)
    held = (await ledger.swap(repository, None, record)).standing
    assert held is not None, "claims are no branches"
    work = plain.work(repository, "bzzz/task-1")
    with pytest.raises(LedgerRefused, match="no robots"):
        await ledger.deliver(repository, held.version, follow(record, state=RecordState.DELIVERED), work)
    assert await ledger.read(repository, 1) == held
    assert await ledger.rescue(repository, 1, 1, work) == "refs/bzzz/rescue/1/1", "the work is safe all the same"

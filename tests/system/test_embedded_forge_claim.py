"""One claim on the embedded forge: git moves the ref and nothing else; what cannot be done is git's to answer.

It speaks for bzzz.forge.embedded.smart, claim_push and loose; the ledger's conformance suite runs over them too.
"""

from __future__ import annotations

import errno
import itertools
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.git_client import git, run_git
from tests.support.ledger_harness import follow, make_record
from tests.support.waiting import wait_for

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord, Version
from bzzz.core.task import Repository
from bzzz.forge.embedded import loose
from bzzz.gitformat.pack import build_pack
from bzzz.ledger.link import Link, claim_ref, make_link
from bzzz.ledger.receive_pack import RefUpdate, push_request, read_report

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with running_forge(tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
def repo(server: ForgeServer) -> Repository:
    return server.repository("hive", f"repository-{next(_numbers)}")


def folder(server: ForgeServer, repo: Repository) -> Path:
    return server.forge.folder(server.forge.row(repo.owner, repo.repository))


def body_of(record: ClaimRecord, parent: Version | None = None) -> tuple[Version, bytes]:
    version, objects = make_link(Link(record, parent))
    update = RefUpdate(claim_ref(record.task.number), parent, version)
    return version, push_request([update], build_pack(objects), agent="test", atomic=False)


def post(server: ForgeServer, repo: Repository, body: bytes, token: str = "") -> httpx.Response:
    return httpx.post(
        f"{server.base_url}/{repo.key}.git/git-receive-pack",
        content=body,
        headers={
            "authorization": f"Bearer {token or server.token}",
            "content-type": "application/x-git-receive-pack-request",
        },
    )


def counted(server: ForgeServer) -> tuple[int, int]:
    """Claims that the forge took, and processes of git that it needed."""
    counters = server.forge.counters()
    return counters.get("claims_taken", 0), counters["git_started"]


def standing(server: ForgeServer, repo: Repository, number: int = 1) -> str:
    return run_git(folder(server, repo), "rev-parse", "--verify", "--quiet", claim_ref(number)).stdout.strip()


def test_a_claim_and_its_renewal_take_one_short_git_each_and_are_sound(
    server: ForgeServer, repo: Repository, tmp_path: Path
) -> None:
    record = make_record(repo, 1)
    taken, started = counted(server)
    first, body = body_of(record)
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    second, body = body_of(follow(record), first)
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    assert counted(server) == (taken + 2, started + 2)
    assert standing(server, repo) == second
    checked = run_git(folder(server, repo), "fsck", "--strict", "--full", "--no-dangling")
    assert (checked.returncode, checked.stdout) == (0, "")
    git(tmp_path, "clone", "--quiet", "--mirror", server.git_url(repo.owner, repo.repository), str(tmp_path / "m"))
    assert json.loads(git(tmp_path / "m", "show", f"{first}:claim.json"))["nonce"] == record.nonce


def test_the_largest_record_is_taken_so_too(server: ForgeServer, repo: Repository) -> None:
    letters = random.Random(7).choices("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", k=10**5)
    record = make_record(repo, 1)
    text = "".join(letters)[: RECORD_BYTES_MAX - len(follow(record, reason="").to_bytes()) - 100]
    taken, _ = counted(server)
    version, body = body_of(follow(record, reason=text))
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    assert standing(server, repo) == version
    assert counted(server)[0] == taken + 1


@pytest.mark.parametrize("wanted", ["an absent ref", "another value"])
def test_a_claim_that_comes_too_late_is_refused_in_gits_own_words(
    server: ForgeServer, repo: Repository, wanted: str
) -> None:
    record = make_record(repo, 1)
    first, body = body_of(record)
    assert post(server, repo, body).status_code == 200
    second, body = body_of(follow(record), first)
    assert post(server, repo, body).status_code == 200
    taken, _ = counted(server)
    _, late = body_of(make_record(repo, 1, agent="acacia"), first if wanted == "another value" else None)
    report = read_report(post(server, repo, late).content)
    assert set(report.refusals) == {claim_ref(1)}
    assert (
        "already exists" if wanted == "an absent ref" else f"is at {second} but expected {first}"
    ) in report.messages
    assert standing(server, repo) == second
    assert counted(server)[0] == taken


def test_a_claim_behind_a_lock_is_refused_in_gits_own_words(server: ForgeServer, repo: Repository) -> None:
    lock = folder(server, repo) / f"{claim_ref(1)}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    report = read_report(post(server, repo, body_of(make_record(repo, 1))[1]).content)
    assert "File exists" in report.messages
    lock.unlink()
    assert read_report(post(server, repo, body_of(make_record(repo, 1))[1]).content).accepted == {claim_ref(1)}


def test_a_claim_that_the_forge_cannot_store_is_left_to_git(
    server: ForgeServer, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loose, "store", full)
    taken, _ = counted(server)
    version, body = body_of(make_record(repo, 1))
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    assert standing(server, repo) == version
    assert counted(server)[0] == taken


def test_the_same_claim_pushed_twice_stands_once_and_its_writer_can_tell(
    server: ForgeServer, repo: Repository
) -> None:
    """The answer to the first may be lost; the second is refused, and the ref shows that it is the writer's."""
    version, body = body_of(make_record(repo, 1))
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    assert set(read_report(post(server, repo, body).content).refusals) == {claim_ref(1)}
    assert standing(server, repo) == version


def test_a_claim_is_seen_by_who_asks_when_a_repository_was_last_pushed_to(
    server: ForgeServer, repo: Repository
) -> None:
    with server.forge.store.write() as db:
        db.execute("UPDATE repository SET pushed_at = NULL")
    post(server, repo, body_of(make_record(repo, 1))[1])
    assert server.forge.row(repo.owner, repo.repository)["pushed_at"] is not None


def test_a_claim_does_not_build_on_what_is_no_commit(server: ForgeServer, repo: Repository) -> None:
    """Who may push can point a claim's ref at anything; a commit on top of it could not be cloned or packed."""
    where = folder(server, repo)
    blob = git(where, "hash-object", "-w", "HEAD").strip()
    git(where, "update-ref", claim_ref(1), blob)
    _, body = body_of(make_record(repo, 1), Version(blob))
    report = read_report(post(server, repo, body).content)
    assert not report.accepted
    assert standing(server, repo) == blob


def test_a_renewal_of_a_claim_that_was_packed_is_taken_by_git(server: ForgeServer, repo: Repository) -> None:
    record = make_record(repo, 1)
    first, body = body_of(record)
    post(server, repo, body)
    git(folder(server, repo), "repack", "-a", "-d", "-q")
    taken, _ = counted(server)
    second, body = body_of(follow(record), first)
    assert read_report(post(server, repo, body).content).accepted == {claim_ref(1)}
    assert standing(server, repo) == second
    assert counted(server)[0] == taken


def test_nobody_claims_without_the_right_to_push(server: ForgeServer, repo: Repository) -> None:
    _, body = body_of(make_record(repo, 1))
    assert post(server, repo, body, server.forge.create_token("visitor", scope="read")).status_code == 403
    assert post(server, repo, body, "no-token-of-ours").status_code == 401
    assert standing(server, repo) == ""


def test_a_client_that_goes_in_the_middle_of_its_claim_leaves_nothing(
    server: ForgeServer, repo: Repository
) -> None:
    _, body = body_of(make_record(repo, 1))
    gone = server.forge.counters().get("git_clients_gone", 0)
    host, _, port = server.base_url.rpartition("://")[2].partition(":")
    head = (
        f"POST /{repo.key}.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[:-1])
    assert wait_for(lambda: server.forge.counters().get("git_clients_gone", 0) == gone + 1)
    assert standing(server, repo) == ""


def test_a_small_push_of_something_else_reaches_git_whole(server: ForgeServer, repo: Repository) -> None:
    """It was read to see whether it is a claim, and goes to git as if it were not."""
    record = make_record(repo, 1)
    version, objects = make_link(Link(record, None))
    branch = RefUpdate("refs/heads/branch", None, version)
    body = push_request([branch], build_pack(objects), agent="test", atomic=False)
    taken, _ = counted(server)
    assert read_report(post(server, repo, body).content).accepted == {"refs/heads/branch"}
    assert counted(server)[0] == taken

"""Git through the embedded forge, by the git program: clone, parallel pushes, compare-and-swap, atomicity.

It speaks for bzzz.forge.embedded.smart and bzzz.forge.embedded.follow.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.git_client import commit_file, git, git_environment, run_git
from tests.support.waiting import wait_for

from bzzz.core.task import Repository
from bzzz.forge.embedded.pktline import ZERO_ID, pkt

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with running_forge(tmp_path_factory.mktemp("forge"), git_processes_max=4) as running:
        yield running


@pytest.fixture
def repo(server: ForgeServer) -> Repository:
    return server.repository("hive", f"repository-{next(_numbers)}")


@pytest.fixture
def clone(server: ForgeServer, repo: Repository, tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", server.git_url(repo.owner, repo.repository), str(folder))
    return folder


def standing(server: ForgeServer, repo: Repository, ref: str) -> str:
    folder = server.forge.folder(server.forge.row(repo.owner, repo.repository))
    return run_git(folder, "rev-parse", "--verify", "--quiet", ref).stdout.strip()


def test_twenty_parallel_pushes_all_arrive(server: ForgeServer, repo: Repository, clone: Path) -> None:
    commits = {n: commit_file(clone, f"f{n}.txt", str(n)) for n in range(20)}

    def push(n: int) -> int:
        return run_git(clone, "push", "--quiet", "origin", f"{commits[n]}:refs/heads/branch-{n}").returncode

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(push, commits)) == [0] * 20
    for n, commit in commits.items():
        assert standing(server, repo, f"refs/heads/branch-{n}") == commit
    assert server.forge.counters()["git_running"] == 0


def test_a_push_shows_its_user_nothing_of_the_servers_own_doings(
    server: ForgeServer, repo: Repository, clone: Path
) -> None:
    commit = commit_file(clone, "a.txt", "a")
    pushed = run_git(clone, "push", "origin", f"{commit}:refs/heads/branch")
    assert pushed.returncode == 0
    assert "remote:" not in pushed.stderr


def test_of_racing_creations_of_one_claim_ref_one_wins(server: ForgeServer, repo: Repository, clone: Path) -> None:
    commits = [commit_file(clone, "claim.json", f"nonce {n}") for n in range(12)]

    def claim(commit: str) -> bool:
        ref = "refs/bzzz/claims/42"
        return (
            run_git(clone, "push", "--quiet", f"--force-with-lease={ref}:", "origin", f"{commit}:{ref}").returncode
            == 0
        )

    with ThreadPoolExecutor(12) as pool:
        won = [commit for commit, ok in zip(commits, pool.map(claim, commits), strict=True) if ok]
    assert len(won) == 1
    assert standing(server, repo, "refs/bzzz/claims/42") == won[0]


def test_a_claim_moves_only_from_the_value_that_was_named(
    server: ForgeServer, repo: Repository, clone: Path
) -> None:
    first, second, third = (commit_file(clone, "claim.json", f"{n}") for n in range(3))
    ref = "refs/bzzz/claims/7"
    git(clone, "push", "--quiet", "origin", f"{first}:{ref}")
    git(clone, "push", "--quiet", f"--force-with-lease={ref}:{first}", "origin", f"{second}:{ref}")
    stale = run_git(clone, "push", "--quiet", f"--force-with-lease={ref}:{first}", "origin", f"{third}:{ref}")
    assert stale.returncode != 0
    assert standing(server, repo, ref) == second


def raw_push(
    server: ForgeServer, repo: Repository, updates: list[tuple[str, str, str]], pack: bytes, *caps: str
) -> bytes:
    lines = []
    for n, (old, new, ref) in enumerate(updates):
        tail = b"\0 " + " ".join(("report-status", *caps)).encode() if n == 0 else b""
        lines.append(pkt(f"{old} {new} {ref}".encode() + tail))
    answer = httpx.post(
        f"{server.base_url}/{repo.key}.git/git-receive-pack",
        content=b"".join(lines) + b"0000" + pack,
        headers={"content-type": "application/x-git-receive-pack-request"},
        auth=("x", server.token),
    )
    assert answer.status_code == 200, answer.text
    return answer.content


def test_an_atomic_push_moves_all_refs_or_none(server: ForgeServer, repo: Repository, clone: Path) -> None:
    held, moved, work = (commit_file(clone, "x", f"{n}") for n in range(3))
    ref = "refs/bzzz/claims/5"
    git(clone, "push", "--quiet", "origin", f"{held}:{ref}")
    git(clone, "push", "--quiet", "origin", f"{work}:refs/heads/objects-are-there")
    git(clone, "push", "--quiet", f"--force-with-lease={ref}:{held}", "origin", f"{moved}:{ref}")

    updates = [(held, work, ref), (ZERO_ID, work, "refs/heads/delivered")]
    empty = subprocess.run(
        ["git", "pack-objects", "--stdout"],
        cwd=clone,
        input=b"",
        capture_output=True,
        check=True,
        env=git_environment(),
    ).stdout
    report = raw_push(server, repo, updates, empty, "atomic")

    assert b"ng refs/heads/delivered" in report
    assert standing(server, repo, "refs/heads/delivered") == ""
    assert standing(server, repo, ref) == moved

    git(clone, "push", "--quiet", "--atomic", f"--force-with-lease={ref}:{moved}", "origin", f"{work}:{ref}",
        f"{work}:refs/heads/delivered")  # fmt: skip
    assert standing(server, repo, "refs/heads/delivered") == standing(server, repo, ref) == work


def test_atomic_and_protocol_version_2_are_offered(server: ForgeServer, repo: Repository) -> None:
    url = f"{server.base_url}/{repo.key}.git/info/refs"
    receive = httpx.get(url, params={"service": "git-receive-pack"}, auth=("x", server.token))
    assert b" atomic" in receive.content
    assert receive.headers["content-type"] == "application/x-git-receive-pack-advertisement"
    upload = httpx.get(url, params={"service": "git-upload-pack"}, headers={"git-protocol": "version=2"})
    assert upload.content.startswith(b"000eversion 2\n")
    assert upload.headers["cache-control"].startswith("no-cache")


def test_a_default_clone_fetches_no_claims(
    server: ForgeServer, repo: Repository, clone: Path, tmp_path: Path
) -> None:
    git(clone, "push", "--quiet", "origin", f"{commit_file(clone, 'claim.json', '1')}:refs/bzzz/claims/1")
    git(tmp_path, "clone", "--quiet", server.git_url(repo.owner, repo.repository), "again")
    assert "bzzz" not in git(tmp_path / "again", "for-each-ref")
    assert "refs/bzzz/claims/1" in git(tmp_path / "again", "ls-remote", "origin", "refs/bzzz/claims/*")


def test_pushing_needs_a_token_that_may_write(server: ForgeServer, repo: Repository, clone: Path) -> None:
    plain = f"{server.base_url}/{repo.key}.git"
    reader = server.forge.create_token("reader", scope="read")
    for url in (plain, plain.replace("://", "://x:wrong@"), plain.replace("://", f"://x:{reader}@")):
        refused = run_git(clone, "push", "--quiet", url, "HEAD:refs/heads/nope")
        assert refused.returncode != 0
        assert reader not in refused.stderr.replace(url, "")
    assert standing(server, repo, "refs/heads/nope") == ""


def test_a_private_repository_is_cloned_with_a_token_alone(server: ForgeServer, tmp_path: Path) -> None:
    server.forge.create_repository("hive", "secret", private=True, files={"a": "b"})
    plain = f"{server.base_url}/hive/secret.git"
    assert run_git(tmp_path, "clone", "--quiet", plain, "no").returncode != 0
    git(tmp_path, "clone", "--quiet", server.git_url("hive", "secret"), "yes")
    assert (tmp_path / "yes" / "a").read_text() == "b"


def test_a_gzip_body_is_understood_and_a_false_one_is_refused(server: ForgeServer, repo: Repository) -> None:
    body = pkt(b"command=ls-refs\n") + b"0001" + pkt(b"ref-prefix refs/heads/\n") + b"0000"
    url = f"{server.base_url}/{repo.key}.git/git-upload-pack"
    headers = {
        "content-type": "application/x-git-upload-pack-request", "git-protocol": "version=2",
        "content-encoding": "gzip",
    }  # fmt: skip
    good = httpx.post(url, content=gzip.compress(body), headers=headers)
    assert b"refs/heads/main" in good.content
    assert httpx.post(url, content=b"not gzip", headers=headers).status_code == 400
    assert httpx.post(url, content=body, headers={**headers, "content-encoding": "br"}).status_code == 415


def test_what_git_is_asked_by_name_is_never_an_option(server: ForgeServer, repo: Repository) -> None:
    for path in (
        f"{repo.key}.git/info/refs?service=--upload-pack=touch",
        f"{repo.key}.git/info/refs?service=git-upload-archive",
        "../../etc.git/info/refs?service=git-upload-pack",
        f"{repo.owner}/--upload-pack=x.git/info/refs?service=git-upload-pack",
    ):
        assert httpx.get(f"{server.base_url}/{path}").status_code in (401, 403, 404)


def test_a_body_above_the_bound_is_refused(tmp_path: Path) -> None:
    with running_forge(tmp_path / "data", git_body_bytes_max=200_000) as server:
        repo = server.repository("hive", "small")
        git(tmp_path, "clone", "--quiet", server.git_url("hive", "small"), "w")
        (tmp_path / "w" / "big").write_bytes(os.urandom(600_000))
        git(tmp_path / "w", "add", "big")
        git(tmp_path / "w", "commit", "--quiet", "-m", "big")
        assert run_git(tmp_path / "w", "push", "--quiet", "origin", "HEAD:refs/heads/big").returncode != 0
        assert standing(server, repo, "refs/heads/big") == ""


def test_git_is_ended_when_its_client_goes(server: ForgeServer, repo: Repository) -> None:
    basic = base64.b64encode(f"x:{server.token}".encode()).decode()
    host, _, port = server.base_url.rpartition("://")[2].partition(":")
    head = (
        f"POST /{repo.key}.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n"
        "Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 1000000\r\n\r\n"
    )
    gone = server.forge.counters().get("git_clients_gone", 0)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"00")
        assert wait_for(lambda: server.forge.counters()["git_running"] == 1)
    assert wait_for(lambda: server.forge.counters()["git_running"] == 0)
    assert server.forge.counters()["git_clients_gone"] == gone + 1


def test_a_git_that_does_not_heed_its_client_is_ended_with_its_children(
    server: ForgeServer, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "git"
    deaf.write_text("#!/bin/sh\ntrap '' PIPE\nsleep 300 &\nwait\n")
    deaf.chmod(0o755)
    monkeypatch.setattr(server.forge.git, "program", str(deaf))
    host, _, port = server.base_url.rpartition("://")[2].partition(":")

    def children() -> list[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        return [child for child in found if child.pid not in before and child.status() != "zombie"]

    # What other tests started here is not this one's; a helper of multiprocessing lives as long as its parent.
    before: set[int] = set()
    before = {child.pid for child in children()}
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"GET /{repo.key}.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert wait_for(lambda: any("sleep" in child.name() for child in children()))
        mine = children()
    assert len(mine) >= 2
    assert wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in mine))


def test_a_small_body_that_inflates_above_the_bound_is_refused(tmp_path: Path) -> None:
    with running_forge(tmp_path, git_body_bytes_max=200_000) as server:
        repo = server.repository("hive", "bomb")
        body = pkt(f"want {standing(server, repo, 'refs/heads/main')}\n".encode()) * 20_000
        headers = {"content-type": "application/x-git-upload-pack-request", "content-encoding": "gzip"}
        packed = gzip.compress(body)
        assert len(packed) < 10_000
        bomb = httpx.post(f"{server.base_url}/{repo.key}.git/git-upload-pack", content=packed, headers=headers)
        assert bomb.status_code == 413


def test_a_client_that_stalls_is_let_go_and_too_many_are_turned_away(tmp_path: Path) -> None:
    with running_forge(tmp_path, git_idle_s=0.5, git_processes_max=1, git_waiting_max=0) as server:
        repo = server.repository("hive", "slow")
        host, _, port = server.base_url.rpartition("://")[2].partition(":")
        head = (
            f"POST /{repo.key}.git/git-upload-pack HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 1000000\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            assert wait_for(lambda: server.forge.counters()["git_running"] == 1)
            url = f"{server.base_url}/{repo.key}.git/info/refs?service=git-upload-pack"
            away = httpx.get(url)
            assert (away.status_code, away.headers["retry-after"]) == (503, "1")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        assert wait_for(lambda: server.forge.counters()["git_running"] == 0)
        assert server.forge.counters()["git_stalled"] == 1
        assert server.forge.counters()["git_turned_away"] == 1
        assert httpx.get(url).status_code == 200


def test_a_repository_takes_its_first_pushed_branch_as_default(server: ForgeServer, tmp_path: Path) -> None:
    server.forge.create_repository("hive", "fresh")
    git(tmp_path, "init", "--quiet", "-b", "trunk", "w")
    commit_file(tmp_path / "w", "a", "b")
    git(tmp_path / "w", "push", "--quiet", server.git_url("hive", "fresh"), "trunk")
    assert server.forge.repository("hive", "fresh").default_branch == "trunk"
    git(tmp_path, "clone", "--quiet", server.git_url("hive", "fresh"), "again")
    assert git(tmp_path / "again", "branch", "--show-current") == "trunk"


def test_the_forges_own_refs_cannot_be_pushed(server: ForgeServer, repo: Repository, clone: Path) -> None:
    assert run_git(clone, "push", "--quiet", "origin", "HEAD:refs/pull/1/head").returncode != 0
    assert standing(server, repo, "refs/pull/1/head") == ""

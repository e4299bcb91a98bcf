"""How long a claim takes, beside a raw round trip and git's own push, and whether a race has one winner each.

The servers are a plain ``git http-backend`` and the embedded forge, each in a process of its own; the
repositories are real. Each claim is measured between a raw request and, every few, a push by the git program, so
that all see the same machine.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.bare_repository import BareRepository, git
from tests.support.forge_server import running_forge

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.gitformat.pack import build_pack
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.ledger.link import Link, claim_ref, make_link
from bzzz.ledger.receive_pack import RefUpdate, push_request

KEY = "acme/widgets"
CLAIMS = 60
WARM_UPS = 5
GIT_PUSH_EVERY = 4
RAW_NUMBERS = 1_000_000
RACERS = 16
RACE_ISSUES = 50
RACE_TIMEOUT_S = 55.0


def run() -> list[dict[str, Any]]:
    """All results; well under a minute and a half."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as url:
        BareRepository.create(Path(folder) / f"{KEY}.git")
        results = asyncio.run(_alone(url, Path(folder)))
        results += asyncio.run(_on_the_embedded_forge(Path(folder)))
        results += _race(url)
    return results


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    with _process("-m", "tests.support.git_server", str(folder)) as line:
        yield line


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[str]:
    """A Python process that ends with its input; gives its first line."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


def _repository(url: str) -> Repository:
    return Repository(1, "widgets", "acme", "widgets", f"{url}/{KEY}.git", "")


def _record(number: int, agent: str, epoch: int = 1) -> ClaimRecord:
    nonce = f"{agent}-{number}-{time.monotonic_ns()}"
    return ClaimRecord(TaskId(KEY, number), epoch, Holder("peer", agent), RecordState.HELD, nonce)


async def _alone(url: str, folder: Path, token: str | None = None, *, late: bool = True) -> list[dict[str, Any]]:
    """``late``: the raw request claims what is claimed already, so that no ref moves; else a task of its own."""
    repository = _repository(url)
    ledger = GitRefLedger(lambda _: token)
    clone = folder / "clone.git"
    BareRepository.create(clone)
    raw = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    headers = {"Content-Type": "application/x-git-receive-pack-request"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    for number in range(1, CLAIMS + WARM_UPS + 1):
        begun = time.perf_counter()
        result = await ledger.swap(repository, None, _record(number, "walnut"))
        claimed = time.perf_counter()
        assert result.won
        assert result.standing is not None
        body = _raw_body(number if late else number + RAW_NUMBERS)
        raw_begun = time.perf_counter()
        raw.request("POST", f"/{KEY}.git/git-receive-pack", body, headers)
        assert (b"ng " if late else b"ok ") in raw.getresponse().read()
        raw_ended = time.perf_counter()
        if number <= WARM_UPS:
            continue
        seconds["claim"].append(claimed - begun)
        seconds["raw"].append(raw_ended - raw_begun)
        if number % GIT_PUSH_EVERY == 0:
            seconds["git"].append(_git_push(clone, repository.git_url, 100_000 + number, token))
    raw.close()
    await ledger.close()
    p50 = {name: statistics.median(values) * 1000 for name, values in seconds.items()}
    return [
        _beside(
            "claim_p50_ms", p50["claim"], f"raw smart-HTTP POST of the same size{', refused' * late}", p50["raw"]
        ),
        _beside("claim_p50_ms_beside_git", p50["claim"], "git push --force-with-lease", p50["git"]),
        {"name": "claim_p99_ms", "value": _round(_p99(seconds["claim"]) * 1000), "unit": "ms"},
        {
            "name": "claim_requests",
            "value": ledger.counters()["requests"] / (CLAIMS + WARM_UPS),
            "unit": "requests",
        },
    ]


async def _on_the_embedded_forge(folder: Path) -> list[dict[str, Any]]:
    """The same, on the server that Bzzz brings with it, which asks for a token.

    It has a way of its own for a claim that succeeds, and takes git's for one that does not.
    """
    with _process("-m", "benchmarks.ledger", "forge", str(folder / "forge")) as line:
        url, token = line.split()
        results = await _alone(url, folder / "beside", token, late=False)
    return [{**result, "name": f"{result['name']}_embedded_forge"} for result in results]


def _raw_body(number: int) -> bytes:
    """The bytes of another's claim: where it comes too late, all the server's work but the move of the ref."""
    version, objects = make_link(Link(_record(number, "acacia"), None))
    update = RefUpdate(claim_ref(number), None, version)
    return push_request([update], build_pack(objects), agent="bench", atomic=False)


def _git_push(clone: Path, git_url: str, number: int, token: str | None) -> float:
    files = {"claim.json": _record(number, "git").to_bytes()}
    commit = BareRepository(clone).commit(f"refs/heads/claim-{number}", files)
    ref = claim_ref(number)
    begun = time.perf_counter()
    signed_in = ["-c", f"http.extraHeader=Authorization: Bearer {token}"] if token else []
    git(clone, *signed_in, "push", "-q", f"--force-with-lease={ref}:", git_url, f"{commit}:{ref}")
    return time.perf_counter() - begun


def _race(url: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.ledger", "race", url]
    racers = [
        subprocess.Popen([*command, f"agent-{index}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for index in range(RACERS)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            racer.stdout.readline()
        begun = time.perf_counter()
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [number for racer in racers for number in json.loads(racer.communicate(timeout=RACE_TIMEOUT_S)[0])]
        elapsed_s = time.perf_counter() - begun
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    double = sum(count - 1 for count in collections.Counter(won).values())
    return [
        {"name": "race_double_claims", "value": double, "unit": "claims"},
        {"name": "race_claims_won", "value": len(won), "unit": "claims"},
        {"name": "race_processes", "value": RACERS, "unit": "processes"},
        {"name": "race_elapsed_s", "value": _round(elapsed_s), "unit": "s"},
    ]


async def race_alone(url: str, agent: str) -> list[int]:
    """One racer: tries every issue once, in the order that all others have; returns what it won."""
    ledger, repository = GitRefLedger(lambda _: None), _repository(url)
    won = [
        number
        for number in range(500_000, 500_000 + RACE_ISSUES)
        if (await ledger.swap(repository, None, _record(number, agent))).won
    ]
    await ledger.close()
    return won


def _beside(name: str, value: float, peer: str, peer_value: float) -> dict[str, Any]:
    ratio = round(value / peer_value, 3)
    return {
        "name": name,
        "value": _round(value),
        "unit": "ms",
        "peer": peer,
        "peer_value": _round(peer_value),
        "ratio": ratio,
    }


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def _round(value: float) -> float:
    return round(value, 3)


def _serve_forge(folder: str) -> None:
    """An embedded forge with the repository, until the input ends; its first line is where it is and a token."""
    with running_forge(Path(folder)) as forge:
        forge.repository(*KEY.split("/"))
        token = forge.forge.create_token(scope="write")
        sys.stdout.write(f"{forge.base_url} {token}\n")
        sys.stdout.flush()
        sys.stdin.read()


def main() -> None:
    match sys.argv[1:]:
        case ["forge", folder]:
            _serve_forge(folder)
        case ["race", url, agent]:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
            print(json.dumps(asyncio.run(race_alone(url, agent))))
        case _:
            print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()

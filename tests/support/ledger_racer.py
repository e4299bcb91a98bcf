"""Processes that race for claims: ``python -m tests.support.ledger_racer GIT_URL KEY ISSUES RACERS``.

It reads a token from its input (or an empty line), and becomes that many processes, so that Python and what a claim
needs are loaded once and not by each. They begin together, and claim every issue in order. What it prints is an
object of each racer's name and the numbers that it won; its status is 1 if any of them failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.ledger.git_ref import GitRefLedger


async def race(git_url: str, key: str, name: str, issues: int, token: str) -> list[int]:
    owner, _, repository_name = key.partition("/")
    repository = Repository(1, repository_name, owner, repository_name, git_url, "")
    ledger = GitRefLedger(lambda _: token or None)
    won = []
    for number in range(1, issues + 1):
        record = ClaimRecord(TaskId(key, number), 1, Holder(name, name), RecordState.HELD, f"{name}-{number}")
        if (await ledger.swap(repository, None, record)).won:
            won.append(number)
    await ledger.close()
    return won


def main() -> int:
    git_url, key, issues, racers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    token = sys.stdin.readline().strip()
    gate, opener = os.pipe()
    children: dict[str, tuple[int, int]] = {}
    for place in range(racers):
        name = f"racer-{place}"
        result, answer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(opener)
            os.read(gate, 1)  # ends when the gate is opened for all
            status = 1
            try:
                os.write(answer, json.dumps(asyncio.run(race(git_url, key, name, issues, token))).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(answer)
        children[name] = pid, result
    os.close(opener)
    won, good = {}, True
    for name, (pid, result) in children.items():
        with os.fdopen(result, "rb") as pipe:
            said = pipe.read()
        good = os.waitpid(pid, 0)[1] == 0 and good
        won[name] = json.loads(said or "[]")
    sys.stdout.write(json.dumps(won) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

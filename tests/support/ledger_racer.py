"""One process that races for claims: ``python -m tests.support.ledger_racer GIT_URL KEY NAME ISSUES``.

It says ``ready``, waits for a line on its input (a token, or nothing), claims every issue in order, and prints the
numbers that it won as JSON.
"""

from __future__ import annotations

import asyncio
import json
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


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    secret = sys.stdin.readline().strip()
    found = asyncio.run(race(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), secret))
    sys.stdout.write(json.dumps(found) + "\n")

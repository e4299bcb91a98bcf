"""What is true at the end of the demo, read from the git server and the forge and not from the nodes.

Each delivered branch is cloned and its check is run once more, so that the table shows what a maintainer
would find.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bzzz.core.record import RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.demo.stage import OWNER, Stage
from bzzz.ports import Ledger

CHECKS_AT_ONCE = 2
CHECK_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class TaskVerdict:
    """One task's end."""

    task: TaskId
    deliveries: int
    pull_requests: int
    pull_request: str
    node: str
    epoch: int
    reclaimed: bool
    check_passed: bool


async def judge(stage: Stage, ledger: Ledger, tasks: Sequence[TaskId], scratch: Path) -> list[TaskVerdict]:
    """Look at every task."""
    slots = asyncio.Semaphore(CHECKS_AT_ONCE)
    names = sorted({task.repository for task in tasks})
    pulls: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        pulls[name] = await stage.forge_api("GET", f"/repos/{name}/pulls?state=all&per_page=100")

    async def one(task: TaskId) -> TaskVerdict:
        name = task.repository.partition("/")[2]
        git_url = f"{stage.forge_url}/{OWNER}/{name}.git"
        repository = Repository(0, name, OWNER, name, git_url, "")
        chain = [seen.record for seen in await ledger.history(repository, task.number)]
        delivered = [record for record in chain if record.state is RecordState.DELIVERED]
        branches = {record.branch for record in chain if record.branch}
        found = [pull for pull in pulls[task.repository] if pull["head"]["ref"] in branches]
        passed = False
        if len(delivered) == 1 and delivered[0].branch:
            async with slots:
                passed = await asyncio.to_thread(
                    _check, git_url, delivered[0].branch, task.number, scratch / f"{name}-{task.number}"
                )
        last = chain[-1] if chain else None
        return TaskVerdict(
            task=task,
            deliveries=len(delivered),
            pull_requests=len(found),
            pull_request=found[0]["html_url"] if found else "",
            node=last.holder.agent if last else "",
            epoch=last.epoch if last else 0,
            reclaimed=any((record.reason or "").startswith("taken over") for record in chain),
            check_passed=passed,
        )

    return list(await asyncio.gather(*(one(task) for task in tasks)))


def _check(git_url: str, branch: str, number: int, folder: Path) -> bool:
    """Clone a delivered branch and run the repository's own check there."""
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "HOME", "TMPDIR")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", branch, git_url, str(folder)]
    try:
        done = subprocess.run(clone, env=environment, capture_output=True, check=False, timeout=CHECK_TIMEOUT_S)
        if done.returncode != 0:
            return False
        return passes(folder, number, environment)
    except (OSError, subprocess.TimeoutExpired):
        return False


def passes(folder: Path, number: int, environment: Mapping[str, str]) -> bool:
    """Whether the check that ``.bzzz.toml`` of a work tree names passes there for an issue; no check is no pass.

    Raises:
        OSError, subprocess.TimeoutExpired: a program could not be run, or took longer than ``CHECK_TIMEOUT_S``.
    """
    try:
        commands = tomllib.loads((folder / ".bzzz.toml").read_text())["check"]["command"]
    except (ValueError, KeyError, TypeError):
        return False
    for command in commands:
        arguments = [str(part).replace("{number}", str(number)) for part in command]
        if arguments[0] == "python3":
            arguments[0] = sys.executable
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, check=False, timeout=CHECK_TIMEOUT_S
        )
        if done.returncode != 0:
            return False
    return bool(commands)

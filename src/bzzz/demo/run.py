"""The main job, end to end: three nodes, two repositories, nine issues, one node killed on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bzzz.core.task import TaskId
from bzzz.demo.board import Board
from bzzz.demo.repository import demo_repositories
from bzzz.demo.show import Show
from bzzz.demo.stage import OWNER, START_S_MAX, NodeSpec, Stage
from bzzz.demo.verdict import TaskVerdict, judge
from bzzz.errors import BzzzError
from bzzz.ports import Ledger

NODES = (
    NodeSpec("walnut", ("code-generation", "python", "bug", "feature"), "code-generation"),
    NodeSpec("ironwood", ("reasoning", "documentation", "security"), "reasoning"),
    NodeSpec("acacia", ("code-analysis", "testing", "refactor"), "code-analysis"),
)
WORK_S_MAX = 75.0
DELIVERED_BEFORE_KILL = 2


@dataclass(frozen=True, slots=True)
class Result:
    """What ``bzzz demo --json`` prints as its last line."""

    nodes: int
    tasks: int
    delivered: int
    pull_requests: int
    checks_passed: int
    double_claims: int
    reclaimed: int
    start_latency_p50_s: float | None
    elapsed_s: float
    killed: str
    killed_holding: str
    good: bool
    """Every task was delivered once, with one pull request and a passing check; no claim was held twice."""


def result_of(
    verdicts: Sequence[TaskVerdict], board: Board, *, nodes: int, elapsed_s: float, killed: tuple[str, str]
) -> Result:
    """Sum up; ``killed`` is the node that was killed and the task it held."""
    each_once = all(v.deliveries == v.pull_requests == 1 and v.check_passed for v in verdicts)
    double_claims = board.double_claims()
    return Result(
        nodes=nodes,
        tasks=len(verdicts),
        delivered=sum(verdict.deliveries == 1 for verdict in verdicts),
        pull_requests=sum(verdict.pull_requests for verdict in verdicts),
        checks_passed=sum(verdict.check_passed for verdict in verdicts),
        double_claims=double_claims,
        reclaimed=sum(verdict.reclaimed for verdict in verdicts),
        start_latency_p50_s=board.start_latency_p50_s(),
        elapsed_s=round(elapsed_s, 1),
        killed=killed[0],
        killed_holding=killed[1],
        good=bool(verdicts) and each_once and double_claims == 0,
    )


class Demo:
    """One run in one folder.

    Args:
        folder: an empty folder.
        ledger: reads claims at the end.
        sandbox: how agents are contained.
        quiet: show nothing.
    """

    def __init__(self, folder: Path, ledger: Ledger, *, sandbox: str, quiet: bool) -> None:
        self.board = Board()
        self.show = Show(self.board, quiet=quiet)
        self._folder = folder
        self._ledger = ledger
        self._moved = asyncio.Event()
        self.stage = Stage(folder, self._event, sandbox)
        self._claimed: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._killed = ""
        self._killed_holding = ""
        self._began_s = time.monotonic()

    def _event(self, name: str, event: Mapping[str, Any]) -> None:
        self.board.take(name, event)
        self.show.changed()
        self._moved.set()
        if event["kind"] == "report" and event["report"] == "claimed":
            self._claimed.put_nowait((name, event["task"]))

    async def run(self) -> tuple[Result, list[TaskVerdict]]:
        """Play it to the end.

        Raises:
            BzzzError: something could not be started, or not every task was delivered in time.
        """
        self._began_s = time.monotonic()
        repositories = demo_repositories()
        for spec in NODES:
            self.board.node(spec.name, "starting")
        self.show.step("starting Hive with the embedded forge")
        await self.stage.open(repositories)
        self.show.step("starting three nodes; they find each other by mDNS")
        await asyncio.gather(*(self.stage.start_node(spec) for spec in NODES))
        await self.stage.meshed()
        for spec in NODES:
            self.board.node(spec.name, "ready")
        count = sum(len(repository.issues) for repository in repositories)
        self.show.step(f"opening {count} issues in {len(repositories)} repositories")
        reaper = asyncio.create_task(self._kill_one_on_the_way(count))
        try:
            for repository in repositories:
                for issue in repository.issues:
                    key = f"{OWNER}/{repository.name}#{issue.number}"
                    self.board.opened(key, issue.title, time.time())
                    await self.stage.open_issue(repository.name, issue)
            await self._all_delivered()
            await self._reaped(reaper)
        finally:
            reaper.cancel()
        self.show.step("reading claims and pull requests, running every check once more")
        tasks = [TaskId.parse(key) for key in self.board.tasks]
        verdicts = await judge(self.stage, self._ledger, tasks, self._folder / "verdict")
        elapsed_s = time.monotonic() - self._began_s
        killed = (self._killed, self._killed_holding)
        return result_of(verdicts, self.board, nodes=len(NODES), elapsed_s=elapsed_s, killed=killed), verdicts

    async def _kill_one_on_the_way(self, count: int) -> None:
        """SIGKILL a node right after it claimed; it comes back once another one has its task."""
        while True:
            name, key = await self._claimed.get()
            delivered = sum(task.state == "delivered" for task in self.board.tasks.values())
            if delivered >= DELIVERED_BEFORE_KILL and self.board.tasks[key].state != "delivered":
                break
            if delivered >= count:
                return
        self._killed, self._killed_holding = name, key
        await self.stage.kill_node(name)
        self.board.node(name, "killed")
        self.board.log.append(f"{name} was killed while it held {key}")
        self.show.step(f"killed {name} (SIGKILL) while it held {key}")
        row = self.board.tasks[key]
        while row.node == name and row.state != "delivered":
            self._moved.clear()
            await self._moved.wait()
        spec = next(spec for spec in NODES if spec.name == name)
        self.board.node(name, "starting")
        self.show.step(f"{row.node} has {key} now; {name} comes back")
        await self.stage.start_node(spec)
        self.board.node(name, "ready")

    async def _reaped(self, reaper: asyncio.Task[None]) -> None:
        """Wait for the killed node to be back; where none was killed, none will be any more."""
        if not self._killed:
            reaper.cancel()
            await asyncio.gather(reaper, return_exceptions=True)
            return
        async with asyncio.timeout(START_S_MAX):
            await reaper

    async def _all_delivered(self) -> None:
        try:
            async with asyncio.timeout(WORK_S_MAX):
                while not self.board.all_delivered():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            open_tasks = [
                f"{task.key} ({task.state})" for task in self.board.tasks.values() if not task.pull_request
            ]
            raise BzzzError(f"not delivered within {WORK_S_MAX:.0f} s: {', '.join(open_tasks)}") from None

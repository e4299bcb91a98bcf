"""How soon another node has the task of a killed one, and whether a paused holder ever loses its own.

Three real nodes with a Hive and the embedded forge. The agent waits for a file, so that a holder surely holds.
First each holder is killed (SIGKILL, no last word) once its agent runs, and the time is taken from the kill to
the claim of the next node, which is the next to be killed; whoever was killed is started again after that. Then
two holders at a time are stopped (SIGSTOP) for three times as long as a refused connection needs to lose a
claim, and go on. In the end the file is made: each task must be delivered once, by the holder and with the
epoch that it had before it was stopped. Times are by the wall clock that all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bzzz.core.profile import Policy
from bzzz.demo.repository import DemoIssue, DemoRepository
from bzzz.demo.stage import OWNER, NodeSpec, Stage

KILLS = 8
PAUSES = 2
PAUSE_S = 3 * Policy().refused_reclaim_ms / 1000
WAIT_S_MAX = 60.0
REPOSITORY = "waiting"

Event = tuple[str, Mapping[str, Any]]


class Holders:
    """The stage, and who holds which task as the nodes' events tell it."""

    def __init__(self, folder: Path) -> None:
        self.go = folder / "go"
        self.stage = Stage(folder, self._take, "none")
        waiting = f"while [ ! -e {self.go} ]; do sleep 0.05; done; echo done > done.txt"
        agent = {"kind": "command", "command": ["sh", "-c", waiting]}
        self.specs = {name: NodeSpec(name, extra={"agent": agent}) for name in ("one", "two", "three")}
        self.claims: dict[int, list[tuple[str, int, float]]] = {}
        self.delivered: dict[int, list[tuple[str, int]]] = {}
        self._running: set[tuple[int, int]] = set()
        self._moved = asyncio.Event()

    def _take(self, name: str, event: Mapping[str, Any]) -> None:
        kind, task = event["kind"], str(event.get("task", ""))
        number = int(task.rpartition("#")[2] or 0)
        if kind == "report" and event["report"] == "claimed":
            self.claims.setdefault(number, []).append((name, event["epoch"], event["at"]))
        elif kind == "report" and event["report"] == "delivered":
            self.delivered.setdefault(number, []).append((name, event["epoch"]))
        elif kind == "agent_started":
            self._running.add((number, event["epoch"]))
        self._moved.set()

    async def until_running(self, number: int, epoch: int) -> tuple[str, float]:
        """Wait for the agent of a claim; tells whose it is and when it was claimed."""
        async with asyncio.timeout(WAIT_S_MAX):
            while (number, epoch) not in self._running:
                self._moved.clear()
                await self._moved.wait()
        ((name, at_s),) = [(name, at_s) for name, seen, at_s in self.claims[number] if seen == epoch]
        return name, at_s

    async def until_delivered(self, number: int) -> None:
        """Wait for the pull request."""
        async with asyncio.timeout(WAIT_S_MAX):
            while number not in self.delivered:
                self._moved.clear()
                await self._moved.wait()

    async def open_issue(self) -> int:
        """One more task."""
        return await self.stage.open_issue(
            REPOSITORY, DemoIssue(0, "Wait for the file", "Wait.", ("bzzz-task",), "")
        )


def run() -> list[dict[str, Any]]:
    """All results; about a minute and a half."""
    folder = Path(tempfile.mkdtemp(prefix="bzzz-bench-"))
    try:
        return asyncio.run(_measure(Holders(folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(holders: Holders) -> list[dict[str, Any]]:
    stage = holders.stage
    files = {"README.md": b"# Waiting\n", ".bzzz.toml": b'[check]\ncommand = [["python3", "-c", "pass"]]\n'}
    try:
        await stage.open([DemoRepository(REPOSITORY, "tasks that wait for a file", files, ())])
        await asyncio.gather(*(stage.start_node(spec) for spec in holders.specs.values()))
        await stage.meshed()
        reclaims = await _kill_holders(holders)
        paused, moved = await _pause_holders(holders)
    finally:
        await stage.close()
    evidence_s = Policy().refused_reclaim_ms / 1000
    rule = {"peer": "what the reclaim rule itself waits", "peer_value": evidence_s}
    slowest = {"name": "process death to reclaim, slowest", "value": round(max(reclaims), 3), "unit": "s"}
    return [
        {"name": "process death to reclaim p50", "value": round(median(reclaims), 3), "unit": "s", **rule},
        {**slowest, "rounds": len(reclaims)},
        {"name": "paused holders", "value": paused, "unit": "holders", "paused_s": PAUSE_S},
        {"name": "false reclaims of paused holders", "value": moved, "unit": "claims", "paused_s": PAUSE_S},
    ]


async def _kill_holders(holders: Holders) -> list[float]:
    number = await holders.open_issue()
    name, _ = await holders.until_running(number, 1)
    seconds = []
    for epoch in range(2, KILLS + 2):
        killed, killed_s = name, time.time()
        await holders.stage.kill_node(killed)
        name, claimed_s = await holders.until_running(number, epoch)
        seconds.append(claimed_s - killed_s)
        await holders.stage.start_node(holders.specs[killed])
    return seconds


async def _pause_holders(holders: Holders) -> tuple[int, int]:
    """How many holders were paused, and how many claims moved that should not have."""
    first, second = 1, await holders.open_issue()
    epochs = {first: KILLS + 1, second: 1}
    names = {number: (await holders.until_running(number, epoch))[0] for number, epoch in epochs.items()}
    nodes = [holders.stage.nodes[name].process for name in names.values()]
    for _ in range(PAUSES):
        for node in nodes:
            node.send_signal(signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)
        for node in nodes:
            node.send_signal(signal.SIGCONT)
        await asyncio.sleep(1.0)
    moved = sum(epoch > epochs[number] for number in epochs for _, epoch, _ in holders.claims[number])
    holders.go.touch()
    for number, epoch in epochs.items():
        await holders.until_delivered(number)
        if holders.delivered[number] != [(names[number], epoch)]:
            raise RuntimeError(f"{OWNER}/{REPOSITORY}#{number} was delivered as {holders.delivered[number]}")
    return PAUSES * len(nodes), moved

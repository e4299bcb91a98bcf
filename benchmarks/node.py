"""What users wait for, and what an idle node costs: three real nodes, a Hive, the embedded forge, webhooks on.

The start latency is from just before an issue is created (the forge's own time counts) to the moment its
agent runs, by the wall clock that all processes of one machine share. Its peer is the time that the forge
takes to create an issue at all, measured in the same run.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from bzzz.demo.board import Board
from bzzz.demo.repository import DemoIssue, DemoRepository
from bzzz.demo.stage import OWNER, NodeSpec, Stage

ISSUES = 60
IDLE_S = 60.0
TASK_S_MAX = 30.0
NODES = tuple(NodeSpec(name) for name in ("one", "two", "three"))


def run() -> list[dict[str, Any]]:
    """Figures of start latency and of idle nodes."""
    folder = Path(tempfile.mkdtemp(prefix="bzzz-bench-"))
    try:
        return asyncio.run(_measure(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path) -> list[dict[str, Any]]:
    board = Board()
    events: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue()

    def taken(name: str, event: Mapping[str, Any]) -> None:
        events.put_nowait((name, event))

    stage = Stage(folder, taken, "bubblewrap" if shutil.which("bwrap") else "none")
    try:
        repository = _repository()
        await stage.open([repository])
        began = time.monotonic()
        await asyncio.gather(*(stage.start_node(spec) for spec in NODES))
        await stage.meshed(ready=False)
        meshed_s = time.monotonic() - began
        await stage.meshed()
        ready_s = time.monotonic() - began
        created: list[float] = []
        for issue in repository.issues:
            opened_s, before = time.time(), time.monotonic()
            number = await stage.open_issue(repository.name, issue)
            created.append(time.monotonic() - before)
            key = f"{OWNER}/{repository.name}#{number}"
            board.opened(key, issue.title, opened_s)
            async with asyncio.timeout(TASK_S_MAX):
                while board.tasks[key].state != "delivered":
                    board.take(*await events.get())
        idle = await _idle(stage)
    finally:
        await stage.close()
    started = board.start_latencies_s()
    delivered = sorted(task.seconds for task in board.tasks.values() if task.seconds is not None)
    create = median(created)
    return [
        _row("start_latency_p50", median(started), "s", "creating the issue at the forge, p50", create),
        _row(
            "start_latency_p99", quantiles(started, n=100)[98], "s", "creating the issue at the forge, p50", create
        ),
        _row("issue_to_pull_request_p50", median(delivered), "s"),
        _row("spawn_to_full_mesh_of_3", meshed_s, "s"),
        _row("spawn_to_ready_for_tasks_of_3", ready_s, "s"),
        *idle,
    ]


async def _idle(stage: Stage) -> list[dict[str, Any]]:
    processes = [psutil.Process(node.process.pid) for node in stage.nodes.values()]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    began = time.monotonic()
    await asyncio.sleep(IDLE_S)
    seconds = time.monotonic() - began
    used = [sum(process.cpu_times()[:2]) - start for process, start in zip(processes, before, strict=True)]
    memory = [process.memory_info().rss / 2**20 for process in processes]
    return [
        _row("idle_node_cpu", 100 * max(used) / seconds, "% of a core"),
        _row("idle_node_memory", max(memory), "MiB"),
    ]


def _row(name: str, value: float, unit: str, peer: str = "", peer_value: float = 0.0) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "value": round(value, 4), "unit": unit}
    if peer:
        row |= {"peer": peer, "peer_value": round(peer_value, 4), "ratio": round(value / peer_value, 2)}
    return row


def _repository() -> DemoRepository:
    files = {
        "README.md": b"# Counting\n\nA repository whose tasks each add one file.\n",
        ".bzzz.toml": b'[check]\ncommand = [["python3", "-c", "pass"]]\n',
    }
    issues = tuple(_issue(number) for number in range(1, ISSUES + 1))
    return DemoRepository("counting", "tasks that each add one file", files, issues)


def _issue(number: int) -> DemoIssue:
    patch = (
        f"diff --git a/count/{number}.txt b/count/{number}.txt\nnew file mode 100644\n--- /dev/null\n"
        f"+++ b/count/{number}.txt\n@@ -0,0 +1 @@\n+{number}\n"
    )
    body = f"Add the file.\n\n```diff\n{patch}```\n"
    return DemoIssue(number, f"Add count {number}", body, ("bzzz-task",), patch)

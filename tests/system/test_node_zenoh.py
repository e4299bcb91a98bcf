"""Nodes as real processes on a Zenoh mesh: they find each other, finish an issue, and notice a death."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bzzz.demo.board import Board
from bzzz.demo.repository import DemoIssue, DemoRepository
from bzzz.demo.stage import OWNER, NodeSpec, Stage

WAIT_S = 60.0
ZENOH = {"mesh": {"engine": "zenoh"}}
PATCH = "--- a/state.txt\n+++ b/state.txt\n@@ -1 +1 @@\n-open\n+done\n"
ISSUE = DemoIssue(1, "State the state", f"The file says open.\n\n```diff\n{PATCH}```\n", ("bzzz-task",), PATCH)
FILES = {"state.txt": b"open\n", ".bzzz.toml": b'[check]\ncommand = [["grep", "-q", "done", "state.txt"]]\n'}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Stage, asyncio.Queue[tuple[str, Mapping[str, Any]]]]]:
    events: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue()

    def taken(name: str, event: Mapping[str, Any]) -> None:
        events.put_nowait((name, event))

    stage = Stage(tmp_path, taken, "bubblewrap" if shutil.which("bwrap") else "none")
    yield stage, events
    await stage.close()


async def test_two_nodes_over_zenoh_find_each_other_deliver_an_issue_once_and_notice_a_death(
    stage: tuple[Stage, asyncio.Queue[tuple[str, Mapping[str, Any]]]],
) -> None:
    on, events = stage
    await on.open([DemoRepository("thing", "One file.", FILES, (ISSUE,))])
    await asyncio.gather(*(on.start_node(NodeSpec(name, extra=ZENOH)) for name in ("walnut", "ironwood")))
    await on.meshed()
    board = Board()
    number = await on.open_issue("thing", ISSUE)
    key = f"{OWNER}/thing#{number}"
    board.opened(key, ISSUE.title, 0.0)
    async with asyncio.timeout(WAIT_S):
        while board.tasks[key].state != "delivered":
            board.take(*await events.get())
    pulls = await on.forge_api("GET", f"/repos/{OWNER}/thing/pulls?state=all")
    assert len(pulls) == 1

    survivor = on.nodes["ironwood"]
    gone = (await on.ask(survivor, "/peers"))["peers"][0]["node_id"]
    await on.kill_node("walnut")
    async with asyncio.timeout(WAIT_S):
        while True:
            name, event = await events.get()
            if name == "ironwood" and event["kind"] == "peer_disconnected":
                assert event["peer"] == gone
                break

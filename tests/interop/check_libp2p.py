"""Nodes beside libp2p programs that nobody here wrote, over real mDNS and gossip: ``make interop`` runs this.

``BZZZ_INTEROP_PEERS`` holds a JSON object of names and commands; each command is a program of this folder that
finds peers, speaks on both topics and writes what it sees as JSON lines. Not named as a test, so that the suite
that needs neither Node nor Go leaves it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mesh_node import Node, until

from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.settings import MeshSettings
from bzzz.wire import decode

COORDINATION = "bzzz/coordination/v1"
DISCUSSION = "antennae/meta-discussion/v1"
PEERS: dict[str, list[str]] = json.loads(os.environ.get("BZZZ_INTEROP_PEERS", "{}"))
WAIT_S = 30.0
POLL_S = 0.05
LISTEN = "/ip4/0.0.0.0/tcp/0"


class Foreign:
    """A running foreign program and what it told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.told: list[dict[str, Any]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.told.append(json.loads(line))

    @property
    def peer_id(self) -> str:
        return str(self.told[0]["peer"])

    def of(self, event: str, peer: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["event"] == event and one.get("peer") == peer]

    def heard(self, peer: str, topic: str) -> list[str]:
        return [one["text"] for one in self.of("message", peer) if one["topic"] == topic]

    async def tells(self, event: str, peer: str) -> dict[str, Any]:
        await until(lambda: bool(self.of(event, peer)), f"{event} was not told: {self.told[-5:]}", WAIT_S)
        return self.of(event, peer)[0]

    async def end(self) -> None:
        """Its input ends, and so must it; if it does not, it is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader


@pytest.fixture(params=PEERS)
async def foreign(request: pytest.FixtureRequest) -> AsyncIterator[Foreign]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*PEERS[request.param], stdin=pipe, stdout=pipe)
    foreign = Foreign(process)
    await until(lambda: bool(foreign.told), "the foreign program told nothing", WAIT_S)
    yield foreign
    await foreign.end()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(Libp2pTransport(MeshSettings(tmp_path / "node.key", listen=(LISTEN,))))
    await node.start(COORDINATION, DISCUSSION)
    yield node
    await node.stop()


async def test_it_is_found_by_mdns_identifies_us_and_its_pings_are_answered(node: Node, foreign: Foreign) -> None:
    await until(lambda: foreign.peer_id in node.transport.peers(), "it was not found", WAIT_S)
    await foreign.tells("connected", node.peer_id)
    protocols = (await foreign.tells("identified", node.peer_id))["protocols"]
    assert "/ipfs/ping/1.0.0" in protocols
    assert any(protocol.startswith("/meshsub/") for protocol in protocols)
    assert (await foreign.tells("pinged", node.peer_id))["ms"] >= 0


async def test_gossip_goes_both_ways_on_both_topics(node: Node, foreign: Foreign) -> None:
    await until(lambda: foreign.peer_id in node.transport.peers(), "it was not found", WAIT_S)
    for topic in (COORDINATION, DISCUSSION):
        text = json.dumps({"said on": topic})

        async def said(topic: str = topic, text: str = text) -> None:
            # Said again until it is heard, for its subscription may come after the connection.
            while text not in foreign.heard(node.peer_id, topic):
                await node.transport.publish(topic, text.encode())
                await asyncio.sleep(POLL_S)

        await asyncio.wait_for(said(), WAIT_S)
        await until(lambda t=topic: bool(node.payloads(t)), f"{topic} was not heard", WAIT_S)  # type: ignore[misc]
        envelope, _ = decode(node.payloads(topic)[0], foreign.peer_id)
        assert envelope.peer == foreign.peer_id


async def run_bzzz(*arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "bzzz", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()


async def test_its_availability_is_shown_by_bzzz_peers_and_it_hears_that_of_the_node(
    tmp_path: Path, foreign: Foreign
) -> None:
    settings = {"node": {"name": "walnut", "data_dir": str(tmp_path)}, "mesh": {"listen": [LISTEN]}}
    config = tmp_path / "bzzz.yaml"
    config.write_text(json.dumps(settings))
    log = (tmp_path / "node.log").open("wb")
    with log, contextlib.closing(log):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bzzz", "up", "-c", str(config), stdout=log, stderr=log
        )
    try:
        await until(lambda: (tmp_path / "api.json").exists(), "the node did not start", WAIT_S)
        shown: dict[str, Any] = {}
        async with asyncio.timeout(WAIT_S):
            while shown.get("max_tasks") != 7:
                found = json.loads(await run_bzzz("peers", "--json", "--data-dir", str(tmp_path)))
                shown = next((one for one in found["peers"] if one["node_id"] == foreign.peer_id), {})
        assert shown["current_tasks"] == 1
        assert shown["liveness"] == "alive"
        me = json.loads(await run_bzzz("status", "--json", "--data-dir", str(tmp_path)))["node_id"]
        await until(
            lambda: any('"availability_broadcast"' in text for text in foreign.heard(me, COORDINATION)),
            "the node's availability was not heard",
            WAIT_S,
        )
    finally:
        process.terminate()
        await process.wait()

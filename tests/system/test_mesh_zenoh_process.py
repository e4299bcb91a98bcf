"""Nodes on Zenoh as real processes: killed, stopped, continued, and started again with the same identity."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.mesh_node import Node, free_port, until, zenoh_node
from tests.support.zenoh_process import SILENCE_S_MAX

from bzzz.ports import Probe

TOPIC = "bzzz/coordination/v1"
ROOT = Path(__file__).parents[2]

Spawn = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def survivor(tmp_path: Path) -> AsyncIterator[Node]:
    node = zenoh_node(tmp_path, "survivor", silence_s_max=SILENCE_S_MAX)
    await node.start(TOPIC)
    yield node
    await node.stop()


@pytest.fixture
async def spawn(tmp_path: Path, survivor: Node) -> AsyncIterator[Spawn]:
    """Starts a node that dials the survivor; gives the process and the address it told."""
    started: list[asyncio.subprocess.Process] = []

    async def spawn(name: str, listen: str) -> tuple[asyncio.subprocess.Process, str]:
        command = (sys.executable, "-m", "tests.support.zenoh_process", str(tmp_path), name, listen, TOPIC)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        process = await asyncio.create_subprocess_exec(
            *command, *survivor.transport.addresses, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=environment
        )
        started.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(30):
            addresses: list[str] = json.loads(await process.stdout.readline())
        return process, addresses[0]

    yield spawn
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def hears_more(node: Node) -> None:
    before = len(node.payloads(TOPIC))
    await until(lambda: len(node.payloads(TOPIC)) > before, "nothing more was heard")


async def test_a_killed_peer_is_noticed_and_heard_again_when_it_is_back(spawn: Spawn, survivor: Node) -> None:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    process, address = await spawn("victim", listen)
    peer = address.rsplit("/", 1)[1]
    await hears_more(survivor)
    assert dict(survivor.transport.peers()) == {peer: (address,)}
    assert await survivor.transport.probe(address, 2.0) is Probe.ANSWERED

    process.kill()
    await survivor.loses(peer)
    assert await survivor.transport.probe(address, 2.0) is Probe.REFUSED

    await spawn("victim", listen)
    await hears_more(survivor)
    assert survivor.connected() == [peer, peer]


async def test_a_stopped_peer_answers_probes_is_disconnected_and_comes_back(spawn: Spawn, survivor: Node) -> None:
    process, address = await spawn("paused", "/ip4/127.0.0.1/tcp/0")
    peer = address.rsplit("/", 1)[1]
    await hears_more(survivor)

    process.send_signal(signal.SIGSTOP)
    assert "silent" in (await survivor.loses(peer)).reason
    assert await survivor.transport.probe(address, 2.0) is Probe.ANSWERED

    process.send_signal(signal.SIGCONT)
    await until(lambda: peer in survivor.transport.peers(), "the peer did not come back")
    await hears_more(survivor)

"""Nodes as real processes: killed, stopped, continued and started again with the same identity."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.mesh_node import Node, free_port, libp2p_node, until

from bzzz.ports import Probe

TOPIC = "bzzz/coordination/v1"
ROOT = Path(__file__).parents[2]


class Processes:
    """Starts node processes and kills what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[asyncio.subprocess.Process] = []

    async def start(self, name: str, listen: str, *static_peers: str) -> tuple[asyncio.subprocess.Process, str]:
        """The process, and the address it told."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.mesh_process", str(self._folder), name, listen, TOPIC),
            *static_peers,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment,
        )
        self._started.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        addresses: list[str] = json.loads(line)
        return process, addresses[0]

    async def end(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    await processes.end()


@pytest.fixture
async def survivor(tmp_path: Path) -> AsyncIterator[Node]:
    """It pings too seldom for that to be how it notices anything."""
    node = libp2p_node(tmp_path, "survivor", ping_interval_s=600.0)
    await node.start(TOPIC)
    yield node
    await node.stop()


@pytest.fixture
async def pinging(tmp_path: Path) -> AsyncIterator[Node]:
    node = libp2p_node(tmp_path, "survivor", ping_interval_s=0.3, ping_timeout_s=0.7, mdns=True)
    await node.start(TOPIC)
    yield node
    await node.stop()


def heard_since(node: Node, start: int) -> bool:
    return len(node.payloads(TOPIC)) > start


async def test_a_killed_peer_is_noticed_at_once_and_heard_again_when_it_is_back(
    processes: Processes, survivor: Node
) -> None:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    process, address = await processes.start("victim", listen, *survivor.transport.addresses)
    peer = address.rsplit("/", 1)[1]
    await until(lambda: heard_since(survivor, 0), "the peer was not heard")
    assert dict(survivor.transport.peers()) == {peer: (address,)}
    assert await survivor.transport.probe(address, 2.0) is Probe.ANSWERED

    process.send_signal(signal.SIGKILL)
    await survivor.loses(peer)
    assert await survivor.transport.probe(address, 2.0) is Probe.REFUSED

    before = len(survivor.payloads(TOPIC))
    await processes.start("victim", listen, *survivor.transport.addresses)
    await until(lambda: heard_since(survivor, before), "the peer was not heard after its restart")
    assert survivor.connected() == [peer, peer]


async def test_a_stopped_peer_answers_probes_is_disconnected_and_comes_back(
    processes: Processes, pinging: Node
) -> None:
    process, address = await processes.start("paused", "/ip4/127.0.0.1/tcp/0")
    peer = address.rsplit("/", 1)[1]
    await until(lambda: heard_since(pinging, 0), "the peer was not found by mDNS and heard")

    process.send_signal(signal.SIGSTOP)
    assert (await pinging.loses(peer)).reason == "no answer to pings"
    assert await pinging.transport.probe(address, 2.0) is Probe.ANSWERED

    before = len(pinging.payloads(TOPIC))
    process.send_signal(signal.SIGCONT)
    await until(lambda: heard_since(pinging, before), "the peer was not heard after it went on")

"""Probes of a host whose process is stopped: its kernel answers for it, for ever, and is not used up."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.mesh_engine import Nodes, nodes
from tests.support.mesh_node import Node

from bzzz.ports import Probe

PLACES = 2


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with nodes(tmp_path) as started:
        yield started


@pytest.fixture
def stopped() -> Iterator[socket.socket]:
    """Listens, accepts nobody, and has room for few."""
    with socket.create_server(("127.0.0.1", 0), backlog=PLACES) as listening:
        listening.setblocking(False)
        yield listening


async def probes(node: Node, stopped: socket.socket, peer: str, times: int) -> list[Probe]:
    address = f"/ip4/127.0.0.1/tcp/{stopped.getsockname()[1]}/p2p/{peer}"
    return [await node.transport.probe(address, 0.2) for _ in range(times)]


def waiting(stopped: socket.socket) -> int:
    """How many connections its kernel keeps for it; they are closed."""
    count = 0
    while True:
        try:
            stopped.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


async def test_a_stopped_holders_host_answers_however_often_it_is_probed(
    mesh: Nodes, stopped: socket.socket
) -> None:
    a, b = await mesh.node("a"), await mesh.node("b")
    assert set(await probes(a, stopped, b.peer_id, 10 * PLACES)) == {Probe.ANSWERED}
    assert waiting(stopped) == 1, "one connection for all probes"


async def test_a_stopped_holder_that_goes_on_or_ends_is_asked_anew(mesh: Nodes, stopped: socket.socket) -> None:
    a, b = await mesh.node("a"), await mesh.node("b")
    assert await probes(a, stopped, b.peer_id, 2) == [Probe.ANSWERED] * 2
    assert waiting(stopped) == 1
    assert await probes(a, stopped, b.peer_id, 2) == [Probe.ANSWERED] * 2
    assert waiting(stopped) == 1, "the first was ended by who accepted it"
    assert await probes(a, stopped, b.peer_id, 1) == [Probe.ANSWERED]
    port = stopped.getsockname()[1]
    stopped.close()
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{b.peer_id}"
    assert await a.transport.probe(address, 0.2) is Probe.REFUSED, "its end is noticed at once"

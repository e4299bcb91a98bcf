"""Nodes on hosts of their own, network namespaces, with nothing but a route between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.mesh_child import TOPIC, Child, children
from tests.support.mesh_namespace import POSSIBLE, RoutedNetwork

PORT = 4001
SERVICE = "tasks.bzzz"
SEEDS = {
    "static": f"/ip4/10.83.0.2/tcp/{PORT}",
    "dns": f"/dns4/{SERVICE}/tcp/{PORT}",
}


@pytest.fixture
def network() -> Iterator[RoutedNetwork]:
    # The service's name stands for the first host, and for one that is not there.
    names = {SERVICE: ["10.83.0.2", "10.83.9.2"]}
    with RoutedNetwork(str(os.getpid() % 100_000), 3, names) as network:
        yield network


@pytest.mark.parametrize("seed", sorted(SEEDS) if POSSIBLE else ())
async def test_one_seed_and_gossip_alone_make_a_full_mesh_where_no_multicast_passes(
    network: RoutedNetwork, tmp_path: Path, seed: str
) -> None:
    async with children() as start:
        nodes: list[Child] = await asyncio.gather(
            *(
                start(
                    tmp_path,
                    f"n{number}",
                    prefix=network.prefix(number),
                    listen=[f"/ip4/0.0.0.0/tcp/{PORT}"],
                    static_peers=[SEEDS[seed]] if number else [],
                    # On, to show that it finds nobody here.
                    mdns=True,
                )
                for number in range(3)
            )
        )
        for node in nodes:
            await node.meets(*(other for other in nodes if other is not node))
        await nodes[1].ask(publish=[TOPIC, "across"])
        for node in (nodes[0], nodes[2]):
            await node.until(lambda n=node: (TOPIC, nodes[1].peer_id, "across") in n.heard, "it was not heard")  # type: ignore[misc]
        for node in nodes:
            counts = await node.ask(counters=True)
            assert counts.get("mdns_heard", 0) == 0
            assert counts["addresses_heard"] > 0
        where = nodes[2].peers[nodes[1].peer_id]
        assert where == [f"/ip4/{network.address(1)}/tcp/{PORT}/p2p/{nodes[1].peer_id}"]

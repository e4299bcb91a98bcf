"""A node of its own process: prints its address as one JSON line, then publishes a number five times a second.

Run as ``python -m tests.support.mesh_process FOLDER NAME LISTEN TOPIC [PEER_ADDRESS]``. Without a peer's
address it finds its peers by mDNS; the folder's name is the mesh's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.mesh_node import libp2p_settings

from bzzz.mesh.libp2p_transport import Libp2pTransport

PUBLISH_INTERVAL_S = 0.2


async def main(folder: str, name: str, listen: str, topic: str, *static_peers: str) -> None:
    settings = libp2p_settings(
        Path(folder), name, listen=(listen,), static_peers=static_peers, mdns=not static_peers
    )
    transport = Libp2pTransport(settings)
    await transport.start()
    await transport.join(topic)
    print(json.dumps(transport.addresses), flush=True)  # noqa: T201
    number = 0
    while True:
        await transport.publish(topic, f"{name} {number}".encode())
        number += 1
        await asyncio.sleep(PUBLISH_INTERVAL_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

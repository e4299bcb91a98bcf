"""A node on Zenoh in a process of its own: prints its address as one JSON line, then publishes on and on.

Run as ``python -m tests.support.zenoh_process FOLDER NAME LISTEN TOPIC PEER_ADDRESS``. The folder names the mesh.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.mesh_node import zenoh_settings

from bzzz.mesh.zenoh_transport import ZenohTransport

INTERVAL_S = 0.05
SILENCE_S_MAX = 1.0


async def main(folder: str, name: str, listen: str, topic: str, *static_peers: str) -> None:
    settings = zenoh_settings(
        Path(folder), name, listen=(listen,), static_peers=static_peers, silence_s_max=SILENCE_S_MAX
    )
    transport = ZenohTransport(settings)
    await transport.start()
    await transport.join(topic)
    print(json.dumps(transport.addresses), flush=True)  # noqa: T201
    number = 0
    while True:
        await transport.publish(topic, f"{name} {number}".encode())
        number += 1
        await asyncio.sleep(INTERVAL_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

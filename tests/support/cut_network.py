"""Two nodes and a Hive, each in a network of its own, and a cable that can be cut: run inside a fresh network.

``unshare --net python -m tests.support.cut_network FOLDER KIND`` plays one scene and prints what is true in the end
as one JSON object. This process and Hive live in the network it was started in; each node has its own, joined to it
by a pair of virtual interfaces at a bridge. A node's local API is out of reach from here, so its events are read
from its log. Nothing is left of the networks when their processes have ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.attempt_step import Held, landed, proved
from tests.support.chaos_stage import ChaosStage, chaos_stage

import bzzz

HUB = "10.77.0.1"
ADDRESSES = {"walnut": "10.77.0.2", "acacia": "10.77.0.3"}
TTL_S = 60
MEET_S_MAX = 40.0
RETRY_S_MAX = 100.0
"""The longest pause between two tries to reach a server that was away for long, with one try's own time."""


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Network:
    """The bridge, and a network for each name."""

    def __init__(self) -> None:
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "hub", "type", "bridge")
        run("ip", "address", "add", f"{HUB}/24", "dev", "hub")
        run("ip", "link", "set", "hub", "up")

    def add(self, name: str) -> None:
        """A network that lasts as long as its keeper, which ends with this process."""
        keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert keeper.stdout is not None
        keeper.stdout.readline()
        self._keepers[name] = keeper
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "cable")
        run("ip", "link", "set", "cable", "netns", str(keeper.pid))
        run("ip", "link", "set", f"to-{name}", "master", "hub", "up")
        for words in ("link set lo up", f"address add {ADDRESSES[name]}/24 dev cable", "link set cable up"):
            run(*self.inside(name), "ip", *words.split())

    def inside(self, name: str) -> tuple[str, ...]:
        """What to put before a command line."""
        return ("nsenter", f"--net=/proc/{self._keepers[name].pid}/ns/net")

    def cut(self, name: str, *, refused: bool) -> None:
        """Take the cable out; where ``refused``, another host has its address now, on which nobody listens."""
        run("ip", "link", "set", f"to-{name}", "down")
        if refused:
            run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", "hub")
            self._forget_neighbours()

    def heal(self, name: str, *, refused: bool) -> None:
        if refused:
            run("ip", "address", "del", f"{ADDRESSES[name]}/24", "dev", "hub")
        run("ip", "link", "set", f"to-{name}", "up")
        self._forget_neighbours()

    def _forget_neighbours(self) -> None:
        run("ip", "neighbour", "flush", "all")
        for name in self._keepers:
            run(*self.inside(name), "ip", "neighbour", "flush", "all")

    def close(self) -> None:
        for keeper in self._keepers.values():
            keeper.communicate(b"\n")


@dataclass
class Node:
    """A node's process; ``reading`` follows its events."""

    process: asyncio.subprocess.Process
    reading: asyncio.Task[None]

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()
        await self.reading


async def start(chaos: ChaosStage, network: Network, name: str, peers: list[str]) -> Node:
    """Start a node in its network."""
    mesh = {"listen": [f"/ip4/{ADDRESSES[name]}/tcp/4001"], "mdns": False, "peers": peers}
    spec = chaos.spec(name, 4, (), {"mesh": mesh, "tasks": {"claim_ttl_s": TTL_S}})
    folder = chaos.stage.folder / name
    folder.mkdir()
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps(chaos.stage.node_settings(spec, folder)))
    process = await asyncio.create_subprocess_exec(
        *network.inside(name),
        *(sys.executable, "-m", "bzzz", "up", "-c", str(settings), "--log-json"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
        env={**os.environ, "PYTHONPATH": str(Path(bzzz.__file__).parents[1])},
    )
    return Node(process, asyncio.create_task(follow(chaos, name, process)))


async def introduced(chaos: ChaosStage, network: Network, name: str, other: str) -> None:
    """Wait until a node has heard another say who it is.

    A connection alone tells no incarnation. Whoever is lost before its first word is known by nothing that
    speaks of its claim, and is waited for in silence.
    """
    url = (await chaos.event(name, "api"))["url"]
    program = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1]).read().decode())"
    words = (*network.inside(name), sys.executable, "-I", "-c", program, f"{url}/peers")
    try:
        async with asyncio.timeout(MEET_S_MAX):
            while True:
                asking = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
                answer, _ = await asking.communicate()
                if any(peer["name"] == other and peer["incarnation"] for peer in json.loads(answer)["peers"]):
                    return
    except TimeoutError:
        raise AssertionError(f"{name} does not hear of {other}\n{chaos.tell()}") from None


async def follow(chaos: ChaosStage, name: str, process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        try:
            chaos.take(name, json.loads(line))
        except ValueError:
            chaos.take(name, {"kind": "said", "text": line.decode(errors="replace")})


async def play(folder: Path, *, refused: bool) -> dict[str, object]:
    """Cut a holder off in the middle of two deliveries, have its peer act on that, and join them again."""
    network = Network()
    nodes = []
    try:
        async with chaos_stage(folder, host=HUB) as chaos:
            network.add("walnut")
            network.add("acacia")
            try:
                nodes.append(await start(chaos, network, "walnut", []))
                address = (await chaos.event("walnut", "started"))["addresses"][0]
                held = [await proved(chaos), await landed(chaos)]
                for task in held:
                    await task.reached(chaos)
                nodes.append(await start(chaos, network, "acacia", [address]))
                await introduced(chaos, network, "acacia", "walnut")
                return await cut_and_heal(chaos, network, held, refused=refused)
            finally:
                await asyncio.gather(*(node.end() for node in nodes))
    finally:
        network.close()


async def cut_and_heal(
    chaos: ChaosStage, network: Network, held: list[Held], *, refused: bool
) -> dict[str, object]:
    sent, stands = held
    assert sent.hold is not None
    assert stands.hold is not None
    network.cut("walnut", refused=refused)
    sent.hold.pass_others()
    wait_s = 40.0 if refused else TTL_S + 60.0
    await chaos.event("acacia", "notice", text="walnut is suspected", timeout_s=wait_s)
    await chaos.event("acacia", "report", report="delivered", task=f"/work#{sent.number}", timeout_s=wait_s)
    network.heal("walnut", refused=refused)
    # The delivery that was in the air arrives at the server; of the one that had arrived, the answer is lost.
    sent.hold.release()
    stands.hold.cut()
    await chaos.event("walnut", "notice", text="work saved to", task=f"/work#{sent.number}", timeout_s=RETRY_S_MAX)
    await chaos.event("walnut", "report", report="delivered", task=f"/work#{stands.number}", timeout_s=RETRY_S_MAX)
    return {"sent": await fact(chaos, sent.number), "stands": await fact(chaos, stands.number)}


async def fact(chaos: ChaosStage, number: int) -> dict[str, object]:
    outcome = await chaos.delivered_once(number)
    return {
        "deliveries": [[record.epoch, record.holder.agent] for record in outcome.deliveries],
        "pulls": len(outcome.pulls),
        "branches": len(outcome.branches),
        "rescued": [chaos.work_at(commit, number) for commit in outcome.rescued.values()],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(play(Path(sys.argv[1]), refused=sys.argv[2] == "refused"))) + "\n")

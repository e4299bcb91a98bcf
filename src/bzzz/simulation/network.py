"""The simulated mesh: who reaches whom, connections that follow with a delay, and messages that may not arrive.

A connection is noticed to be gone at once when a process dies on a living host, after a silence when the
host, the way or the process's attention is gone. Messages go directly or by one relay, as gossip does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bzzz.core.event import Heard, PeerDown, PeerUp, Probed
from bzzz.core.message import Message

if TYPE_CHECKING:
    from bzzz.simulation.shell import Shell
    from bzzz.simulation.world import World

NOTICE_SILENCE_MS = 9_000
REDIAL_MS_MAX = 3_000
DIAL_MS_MAX = 800
"""Discovery at the start of a process is quick; measured with mDNS: a tenth of a second."""
PROBE_TIMEOUT_MS = 3_000
CROWD = 20
"""From this many nodes on, one publish arrives everywhere at the same moment, to save time."""


@dataclass(slots=True)
class Weather:
    """How bad the network is now; all shares are of one."""

    loss: float = 0.0
    duplication: float = 0.0
    reorder_ms: int = 0


class Network:
    """Links between the hosts of the world's shells, by their place."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self._cuts = [[0] * count for _ in range(count)]
        self._forge_cuts = [0] * count
        self._connected = [[False] * count for _ in range(count)]
        self._changed_ms = [[0] * count for _ in range(count)]
        self.weather = Weather()
        self.published = 0
        self.delivered = 0
        self.lost = 0

    # --- ways -------------------------------------------------------------------------------------------

    def cut(self, a: int, b: int, by: int) -> None:
        """Cut (``by`` 1) or mend (``by`` -1) the way from ``a`` to ``b``; cuts add up."""
        self._cuts[a][b] += by
        self.touch(a, b)

    def cut_forge(self, a: int, by: int) -> None:
        """Cut or mend a host's way to the forge."""
        self._forge_cuts[a] += by

    def reaches_forge(self, a: int) -> bool:
        """Whether the host has a way to forge, git server and Hive."""
        return not self._forge_cuts[a]

    def way(self, a: int, b: int) -> bool:
        """Whether both hosts are up and reach each other both ways."""
        shells = self._world.shells
        return not self._cuts[a][b] and not self._cuts[b][a] and shells[a].host_up and shells[b].host_up

    def way_since_ms(self, a: int, b: int) -> int:
        """Since when the way between two hosts is as it is now."""
        return max(self._changed_ms[a][b], self._changed_ms[b][a])

    def touch(self, a: int, b: int) -> None:
        """Something about this pair changed: the connection will follow."""
        world = self._world
        self._changed_ms[a][b] = world.now_ms
        low, high = min(a, b), max(a, b)
        if self._connected[low][high]:
            world.after(NOTICE_SILENCE_MS, self._check, low, high)
        else:
            world.after(world.rng.randint(20, REDIAL_MS_MAX), self._check, low, high)

    def touch_all(self, a: int) -> None:
        """As ``touch``, for every pair that this host is in."""
        for b in range(len(self._cuts)):
            if b != a:
                self.touch(a, b)

    def attention_changed(self, a: int, redial_ms_max: int = REDIAL_MS_MAX) -> None:
        """A process starts, was paused or goes on: its connections will follow, the ways are as they were."""
        world = self._world
        for b in range(len(self._cuts)):
            if b != a:
                low, high = min(a, b), max(a, b)
                delay = NOTICE_SILENCE_MS if self._connected[low][high] else world.rng.randint(20, redial_ms_max)
                world.after(delay, self._check, low, high)

    def process_died(self, a: int) -> None:
        """A process ended: on a living host its peers are told at once."""
        for b in range(len(self._cuts)):
            low, high = min(a, b), max(a, b)
            if b == a or not self._connected[low][high]:
                continue
            if self.way(a, b):
                self._connected[low][high] = False
                self._world.after(5, self._world.shells[b].receive, PeerDown(self._world.shells[a].peer))
            else:
                self._world.after(NOTICE_SILENCE_MS, self._check, low, high)

    def _check(self, a: int, b: int) -> None:
        one, other = self._world.shells[a], self._world.shells[b]
        good = one.attentive and other.attentive and self.way(a, b)
        if good == self._connected[a][b]:
            return
        self._connected[a][b] = good
        for here, there in ((one, other), (other, one)):
            here.receive(PeerUp(there.peer, there.addresses) if good else PeerDown(there.peer))

    # --- messages ---------------------------------------------------------------------------------------

    def publish(self, sender: Shell, message: Message) -> None:
        """Send to all others that can be reached now, as well as the weather lets it."""
        world, weather = self._world, self.weather
        self.published += 1
        heard = Heard(sender.peer, message)
        if len(world.shells) >= CROWD:
            world.after(world.rng.randint(2, 40), self._arrive_all, sender.place, heard)
            return
        rng = world.rng
        for shell in world.shells:
            if shell is sender:
                continue
            if not self._path(sender.place, shell.place) or (weather.loss and rng.random() < weather.loss):
                self.lost += 1
                continue
            delay = 2 + int(29 * rng.random())
            if weather.reorder_ms and rng.random() < 0.3:
                delay += rng.randint(0, weather.reorder_ms)
            world.after(delay, self._arrive, shell, heard)
            if weather.duplication and rng.random() < weather.duplication:
                world.after(delay + rng.randint(1, 5_000), self._arrive, shell, heard)

    def _arrive(self, shell: Shell, heard: Heard) -> None:
        self.delivered += 1
        shell.receive(heard)

    def _arrive_all(self, sender: int, heard: Heard) -> None:
        for shell in self._world.shells:
            if shell.place != sender and self._linked(sender, shell.place):
                self.delivered += 1
                shell.receive(heard)

    def _linked(self, a: int, b: int) -> bool:
        return self._connected[min(a, b)][max(a, b)] and not self._cuts[a][b]

    def _path(self, a: int, b: int) -> bool:
        if self._linked(a, b):
            return True
        return any(
            shell.attentive and self._linked(a, shell.place) and self._linked(shell.place, b)
            for shell in self._world.shells
            if shell.place not in (a, b)
        )

    # --- probes -----------------------------------------------------------------------------------------

    def probe(self, a: int, b: int) -> tuple[Probed, int]:
        """What a plain connection attempt from ``a`` to ``b`` finds, and after how many milliseconds."""
        if not self.way(a, b):
            return Probed.SILENT, PROBE_TIMEOUT_MS
        found = Probed.ANSWERED if self._world.shells[b].alive else Probed.REFUSED
        return found, self._world.rng.randint(1, 30)

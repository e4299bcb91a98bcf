"""Keeps connections to the peers one wants: dials, waits with growing pauses, dials again when one is lost.

Runs in the trio program. The library forgets a lost peer, and for a minute refuses to dial one that failed;
so it is only asked for single tries at single addresses.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from bzzz.mesh.address import PEER_ADDRESSES_MAX, Address
from bzzz.mesh.redial import first_dial_delay_s, redial_delay_s

DIALS_AT_ONCE_MAX = 16
DEFERENCE_S = 0.4
_FORGET_AFTER_ATTEMPTS = 40


@dataclass
class _Target:
    """One wanted peer. A lasting one was named by the operator, and is never forgotten."""

    addresses: tuple[Address, ...]
    lasting: bool
    news: trio.Event = field(default_factory=trio.Event)


class Dialler:
    """The wanted peers and a task for each.

    Args:
        own_peer: never dialled.
        dial: one try at one address; raises any exception when it fails.
        is_connected: whether there is a connection to a peer.
        timeout_s: for one try.
        discovered_max: how many discovered peers to remember.
        counts: where dials are counted.
    """

    def __init__(
        self,
        own_peer: str,
        dial: Callable[[Address], Awaitable[None]],
        is_connected: Callable[[str], bool],
        *,
        timeout_s: float,
        discovered_max: int,
        counts: Counter[str],
    ) -> None:
        self._own_peer = own_peer
        self._dial = dial
        self._is_connected = is_connected
        self._timeout_s = timeout_s
        self._discovered_max = discovered_max
        self._counts = counts
        self._targets: dict[str, _Target] = {}
        self._limit = trio.CapacityLimiter(DIALS_AT_ONCE_MAX)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Dial until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    def want(self, addresses: tuple[Address, ...], *, lasting: bool) -> None:
        """Keep a connection to the peer that ``addresses`` name; tell it anew to be tried at once."""
        peer = str(addresses[0].peer)
        if peer == self._own_peer or self._nursery is None:
            return
        target = self._targets.get(peer)
        if target is not None:
            # What was heard last stands first; a lasting peer also keeps the addresses it was named with.
            older = [known for known in target.addresses if known not in addresses]
            target.addresses = (addresses + tuple(older))[:PEER_ADDRESSES_MAX]
            target.lasting = target.lasting or lasting
            self.nudge(peer)
            return
        if not lasting and sum(not known.lasting for known in self._targets.values()) >= self._discovered_max:
            self._counts["dropped_discovered"] += 1
            return
        self._targets[peer] = _Target(addresses[:PEER_ADDRESSES_MAX], lasting)
        self._nursery.start_soon(self._keep, peer)

    def nudge(self, peer: str) -> None:
        """Something changed about ``peer``: it was connected, lost, or heard of again."""
        target = self._targets.get(peer)
        if target is not None:
            target.news.set()
            target.news = trio.Event()

    async def _keep(self, peer: str) -> None:
        target = self._targets[peer]
        if not target.lasting:
            await self._pause(target, first_dial_delay_s(self._own_peer, peer, DEFERENCE_S), peer)
        attempt = 0
        while target.lasting or attempt < _FORGET_AFTER_ATTEMPTS:
            if self._is_connected(peer):
                attempt = 0
                await target.news.wait()
                if not self._is_connected(peer):
                    # Both ends have lost it at this moment.
                    await trio.sleep(redial_delay_s(0, random.random()))  # noqa: S311 - spreads load, hides nothing
            elif await self._try_all(target):
                continue
            else:
                attempt += 1
                before = target.addresses
                await self._pause(target, redial_delay_s(attempt, random.random()), peer)  # noqa: S311
                if target.addresses != before:
                    attempt = 0
        del self._targets[peer]

    async def _try_all(self, target: _Target) -> bool:
        async with self._limit:
            for address in target.addresses:
                self._counts["dials"] += 1
                is_up = False
                with trio.move_on_after(self._timeout_s), contextlib.suppress(Exception):
                    await self._dial(address)
                    is_up = True
                if is_up:
                    return True
                self._counts["dials_failed"] += 1
        return False

    async def _pause(self, target: _Target, delay_s: float, peer: str) -> None:
        with trio.move_on_after(delay_s):
            await target.news.wait()
        if self._is_connected(peer):
            await trio.lowlevel.checkpoint()

"""Keeps connections to the peers one wants: dials, waits with growing pauses, dials again when one is lost.

Two kinds of wishes. A *target* is a peer, with the addresses where it is said to be. A *seed* is an address, with
whoever answers there: its peer id is learnt by the handshake. Runs in the trio program. The library forgets a lost
peer, and for a minute refuses to dial one that failed; so it is only asked for single tries at single addresses.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from bzzz.errors import PeerError
from bzzz.mesh.address import PEER_ADDRESSES_MAX, Address
from bzzz.mesh.redial import REFUSED_BASE_S, REFUSED_MAX_S, first_dial_delay_s, redial_delay_s

DIALS_AT_ONCE_MAX = 16
SEEDS_MAX = 512
DEFERENCE_S = 0.4
OWN_SEED_PAUSE_S = 60.0
STEADY_S = 5.0
FLAPS_FREE = 2
_FORGET_AFTER_ATTEMPTS = 40


@dataclass
class _Wish:
    """What is waited on: news is that its peer was connected, lost, or heard of again."""

    addresses: tuple[Address, ...]
    news: trio.Event = field(default_factory=trio.Event)
    attempts: int = 0
    refusals: int = 0

    def wake(self) -> None:
        self.news.set()
        self.news = trio.Event()


@dataclass
class _Target(_Wish):
    """One wanted peer. A lasting one was named by the operator, and is never forgotten."""

    lasting: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass
class _Seed(_Wish):
    """One wanted address; ``peer`` is who answered there last."""

    peer: str | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Dialler:
    """The wanted peers and addresses, and a task for each.

    Args:
        own_peer: never dialled.
        dial: one try at one address; gives the peer that answered, which may be this node or connected already.
            Raises ``PeerError`` where either side refuses the other, any other exception when it fails.
        is_connected: whether there is a connection to a peer.
        timeout_s: for one try.
        discovered_max: how many discovered peers to remember.
        counts: where dials are counted.
    """

    def __init__(
        self,
        own_peer: str,
        dial: Callable[[Address], Awaitable[str]],
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
        self._seeds: dict[str, dict[Address, _Seed]] = {}
        self._limit = trio.CapacityLimiter(DIALS_AT_ONCE_MAX)
        self._nursery: trio.Nursery | None = None

    @property
    def wishes(self) -> int:
        """How many targets and seeds there are."""
        return len(self._targets) + sum(map(len, self._seeds.values()))

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
        if not lasting and not self._has_room():
            self._counts["dropped_discovered"] += 1
            return
        target = _Target(addresses[:PEER_ADDRESSES_MAX], lasting=lasting)
        self._targets[peer] = target
        self._nursery.start_soon(self._keep, peer, target)

    def want_seeds(self, source: str, addresses: Iterable[Address]) -> None:
        """Keep a connection to whoever is at each of these addresses, in place of those ``source`` named before."""
        if self._nursery is None:
            return
        seeds = self._seeds.setdefault(source, {})
        wanted = dict.fromkeys(addresses)
        for gone in [address for address in seeds if address not in wanted]:
            seeds.pop(gone).scope.cancel()
        for address in wanted:
            if address in seeds:
                continue
            if sum(map(len, self._seeds.values())) >= SEEDS_MAX:
                self._counts["dropped_discovered"] += 1
                continue
            seeds[address] = _Seed((address,))
            self._nursery.start_soon(self._keep_seed, seeds[address])

    def nudge(self, peer: str) -> None:
        """Something changed about ``peer``: it was connected, lost, or heard of again."""
        target = self._targets.get(peer)
        if target is not None:
            target.wake()
        for seeds in self._seeds.values():
            for seed in seeds.values():
                if seed.peer == peer:
                    seed.wake()

    def _has_room(self) -> bool:
        """Whether one more discovered peer can be remembered; for it, the one that failed most is forgotten."""
        found = {
            peer: target
            for peer, target in self._targets.items()
            if not target.lasting and not self._is_connected(peer)
        }
        if sum(not target.lasting for target in self._targets.values()) < self._discovered_max:
            return True
        worst = max(found, key=lambda peer: found[peer].attempts, default=None)
        if worst is None or found[worst].attempts == 0:
            return False
        self._targets.pop(worst).scope.cancel()
        return True

    async def _keep(self, peer: str, target: _Target) -> None:
        with target.scope:
            if not target.lasting:
                await self._pause(target, first_dial_delay_s(self._own_peer, peer, DEFERENCE_S))
            while target.lasting or target.attempts < _FORGET_AFTER_ATTEMPTS:
                if self._is_connected(peer):
                    await self._rest(target, peer)
                    continue
                before = target.addresses
                if await self._try_all(target) is not None and self._is_connected(peer):
                    await trio.lowlevel.checkpoint()
                elif target.refusals:
                    await self._pause_refused(target)
                else:
                    await self._pause(target, redial_delay_s(target.attempts, random.random()))  # noqa: S311
                    if target.addresses != before:
                        target.attempts = 0
            del self._targets[peer]

    async def _keep_seed(self, seed: _Seed) -> None:
        with seed.scope:
            while True:
                if seed.peer is not None and self._is_connected(seed.peer):
                    await self._rest(seed, seed.peer)
                    continue
                seed.peer = await self._try_all(seed)
                if seed.peer == self._own_peer:
                    # It may be somebody else's one day.
                    await trio.sleep(OWN_SEED_PAUSE_S)
                elif seed.peer is None and seed.refusals:
                    await self._pause_refused(seed)
                elif seed.peer is None or not self._is_connected(seed.peer):
                    await self._pause(seed, redial_delay_s(seed.attempts, random.random()))  # noqa: S311

    async def _rest(self, wish: _Wish, peer: str) -> None:
        """Wait while the peer is connected, and a moment longer: both ends have lost it then.

        One that is lost again and again as soon as it is connected is waited for longer and longer.
        """
        began = trio.current_time()
        while self._is_connected(peer):
            await wish.news.wait()
        steady = trio.current_time() - began >= STEADY_S
        wish.attempts = 0 if steady else wish.attempts + 1
        wish.refusals = 0
        attempts = max(0, wish.attempts - FLAPS_FREE)
        await trio.sleep(redial_delay_s(attempts, random.random()))  # noqa: S311 - spreads load, hides nothing

    async def _try_all(self, wish: _Wish) -> str | None:
        """Try each address once; gives the peer that answered."""
        refused = False
        async with self._limit:
            for address in wish.addresses:
                self._counts["dials"] += 1
                try:
                    with trio.fail_after(self._timeout_s):
                        return await self._dial(address)
                except PeerError:
                    refused = True
                except Exception:
                    self._counts["dials_failed"] += 1
        wish.attempts += 1
        wish.refusals = wish.refusals + 1 if refused else 0
        return None

    async def _pause(self, wish: _Wish, delay_s: float) -> None:
        with trio.move_on_after(delay_s):
            await wish.news.wait()

    async def _pause_refused(self, wish: _Wish) -> None:
        """Whoever refuses will not have changed its mind because it was heard of again."""
        await trio.sleep(redial_delay_s(wish.refusals, random.random(), REFUSED_BASE_S, REFUSED_MAX_S))  # noqa: S311

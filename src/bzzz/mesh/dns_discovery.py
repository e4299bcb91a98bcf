"""Find peers by DNS, where there is no multicast: names are looked up again as what they stand for changes.

One name may have many addresses, each a node of its own: Docker Swarm's ``tasks.<service>``, a headless service of
Kubernetes. ``/dnsaddr/NAME`` reads whole multiaddresses from the texts of ``_dnsaddr.NAME``, as libp2p does
(https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md), through other names too, to a limit.
A name that cannot be looked up keeps what it stood for last, and is tried again after growing pauses. Who answers
at an address is proved by the handshake; dialling is left to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable

from bzzz.mesh.address import DNSADDR, Address, address_of_ip, parse_wanted
from bzzz.mesh.name_resolver import Resolver
from bzzz.mesh.redial import redial_delay_s

NAME_ADDRESSES_MAX = 256
DNSADDR_DEPTH_MAX = 4
DNSADDR_LOOKUPS_MAX = 32
_PREFIX = "dnsaddr="
_log = logging.getLogger("bzzz.mesh")

OnResolved = Callable[[Address, tuple[Address, ...]], None]


async def look_up(wanted: Address, resolver: Resolver) -> tuple[Address, ...]:
    """The IP addresses that a name stands for, with the peer ids known of them.

    Returns:
        at most ``NAME_ADDRESSES_MAX``; of a ``dnsaddr`` that names a peer, those of that peer alone.

    Raises:
        OSError: there is no such name, or nobody answers.
    """
    found: dict[Address, None] = {}
    todo = [(wanted, 0)]
    seen = set()
    lookups = 0
    while todo and len(found) < NAME_ADDRESSES_MAX and lookups < DNSADDR_LOOKUPS_MAX:
        name, depth = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if name.is_ip:
            found[name] = None
            continue
        lookups += 1
        try:
            fresh = await _step(name, resolver)
        except OSError:
            if name == wanted:
                raise
            # One of several names that a record points to.
            continue
        todo.extend((address, depth + 1) for address in fresh if depth < DNSADDR_DEPTH_MAX)
    fitting = [a for a in found if not a.is_wildcard and a.port and (wanted.peer is None or a.peer == wanted.peer)]
    return tuple(fitting[:NAME_ADDRESSES_MAX])


async def _step(name: Address, resolver: Resolver) -> list[Address]:
    if name.kind != DNSADDR:
        return [address_of_ip(ip, name.port, name.peer) for ip in await resolver.addresses(name.kind, name.host)]
    found = []
    for text in (await resolver.texts(f"_dnsaddr.{name.host}"))[:NAME_ADDRESSES_MAX]:
        if text.startswith(_PREFIX):
            # What is of another form (QUIC, a relay) is for other programs.
            with contextlib.suppress(ValueError):
                found.append(parse_wanted(text.removeprefix(_PREFIX)))
    return found


class DnsDiscovery:
    """Looks names up until stopped.

    Args:
        resolver: asked for addresses and texts.
        on_resolved: called in the event loop after each look-up, with the name and all it stands for now.
        counts: where look-ups are counted.
        interval_s: between two look-ups of one name.
        timeout_s: for one look-up.
    """

    def __init__(
        self,
        resolver: Resolver,
        on_resolved: OnResolved,
        counts: Counter[str],
        *,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        self._resolver = resolver
        self._on_resolved = on_resolved
        self._counts = counts
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._tasks: dict[Address, asyncio.Task[None]] = {}

    def watch(self, name: Address) -> None:
        """Look ``name`` up from now on; watching twice is watching once."""
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._watch(name), name=f"dns {name.host}")

    async def stop(self) -> None:
        """Look nothing up any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def _watch(self, name: Address) -> None:
        failures = 0
        while True:
            self._counts["dns_lookups"] += 1
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await look_up(name, self._resolver)
            except (TimeoutError, OSError) as error:
                self._counts["dns_failures"] += 1
                if failures == 0:
                    reason = str(error) or f"no answer in {self._timeout_s:g} s"
                    _log.warning("%s cannot be looked up (%s); trying again and again", name, reason)
                failures += 1
            else:
                if failures > 0:
                    _log.warning("%s could be looked up again: %d addresses", name, len(found))
                failures = 0
                self._on_resolved(name, found)
            # Not all nodes of a fleet at the same moment.
            chance = random.random()  # noqa: S311 - spreads load
            pause_s = self._interval_s * (0.75 + chance / 2)
            await asyncio.sleep(redial_delay_s(failures, chance, max_s=pause_s) if failures else pause_s)

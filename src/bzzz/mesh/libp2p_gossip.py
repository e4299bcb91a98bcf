"""Tells the mesh where this node listens, and hands on where others do; in the trio program.

At once when a peer comes (twice, for the first telling may be before the peer has said what it listens to), and
every now and then otherwise.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import trio

from bzzz.errors import PeerError
from bzzz.mesh.address import Address
from bzzz.mesh.address_gossip import ADDRESS_TOPIC, AddressBook, write_addresses

TELL_GAP_S = 1.0
_FIRST_TELL_S = 0.2
_TELLINGS_A_PEER = 2
_log = logging.getLogger("bzzz.mesh")


class AddressGossip:
    """Addresses out and in.

    Args:
        own: where this node listens.
        publish: sends a message to a topic.
        want: takes the addresses of one peer to dial.
        interval_s: between two tellings when nobody comes.
        counts: where what is heard is counted.
    """

    def __init__(
        self,
        own: Iterable[Address],
        publish: Callable[[str, bytes], Awaitable[None]],
        want: Callable[[tuple[Address, ...]], None],
        *,
        interval_s: float,
        counts: Counter[str],
    ) -> None:
        known = tuple(own)
        self._payload = write_addresses(known)
        self._book = AddressBook(known)
        self._publish = publish
        self._want = want
        self._interval_s = interval_s
        self._counts = counts
        self._due = 0
        self._came = trio.Event()

    def peer_came(self) -> None:
        """A peer was connected, and may know others who should hear of this node."""
        self._due = _TELLINGS_A_PEER
        self._came.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            with trio.move_on_after(self._interval_s * (0.75 + random.random() / 2)):  # noqa: S311 - spreads load
                await self._came.wait()
            self._came = trio.Event()
            await trio.sleep(_FIRST_TELL_S)
            await self._tell()
            while self._due > 0:
                await self._tell()

    async def _tell(self) -> None:
        self._due -= 1
        self._counts["addresses_told"] += 1
        await self._publish(ADDRESS_TOPIC, self._payload)
        await trio.sleep(TELL_GAP_S)

    def heard(self, author: str, payload: bytes) -> None:
        """Take what a peer tells of itself."""
        try:
            addresses = self._book.read(payload, author, trio.current_time())
        except PeerError as error:
            self._counts[f"dropped_{error.reason}"] += 1
            _log.debug("addresses of %s are not taken: %s", author, error)
            return
        self._counts["addresses_heard"] += 1
        if addresses:
            self._want(addresses)

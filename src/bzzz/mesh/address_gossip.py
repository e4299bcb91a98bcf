"""What nodes tell each other over the mesh about where they listen, so that a star becomes a mesh. Pure.

Each node tells of itself alone, in a message that it signs like every other; who forwards it cannot change it.
What is heard only says where to dial: who answers there has to prove that it is that peer. It is never used to
probe a peer. The message is JSON, ``{"addresses": ["/ip4/192.0.2.7/tcp/4001", ...]}``, on a topic of its own.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable

from bzzz.errors import PeerError
from bzzz.mesh.address import PEER_ADDRESSES_MAX, Address, dialable_addresses
from bzzz.mesh.bucket import Bucket

ADDRESS_TOPIC = "bzzz/addresses/v1"
ADDRESS_MESSAGE_BYTES_MAX = 8_192
ADDRESS_MESSAGES_PER_S = 0.5
ADDRESS_MESSAGES_BURST = 8
AUTHORS_MAX = 4_096


def write_addresses(addresses: Iterable[Address]) -> bytes:
    """The message that tells where this node listens; loopback only where there is nothing else."""
    known = [address.bare() for address in addresses]
    told = [address for address in known if not address.is_loopback] or known
    return json.dumps({"addresses": [str(address) for address in told[:PEER_ADDRESSES_MAX]]}).encode()


class AddressBook:
    """Reads what others tell, so much a peer as is worth reading.

    Args:
        own: where this node listens.
    """

    def __init__(self, own: Collection[Address]) -> None:
        self._own = tuple(own)
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def read(self, payload: bytes, author: str, now_s: float) -> tuple[Address, ...]:
        """Where ``author`` can be dialled, as far as its message is of any use here.

        Raises:
            PeerError: the message is too large, not of this form (``addresses``), or one too many
                (``addresses_flood``).
        """
        bucket = self._buckets.pop(author, None) or Bucket(ADDRESS_MESSAGES_PER_S, ADDRESS_MESSAGES_BURST, now_s)
        # Whose bucket is full again is as one that was never heard.
        while self._buckets and next(iter(self._buckets.values())).is_full(now_s):
            self._buckets.popitem(last=False)
        self._buckets[author] = bucket
        if len(self._buckets) > AUTHORS_MAX:
            self._buckets.popitem(last=False)
        if not bucket.take(1, now_s):
            raise PeerError("addresses_flood", author)
        if len(payload) > ADDRESS_MESSAGE_BYTES_MAX:
            raise PeerError("addresses", f"{len(payload)} bytes")
        try:
            told = json.loads(payload)["addresses"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise PeerError("addresses", "not of the form that is known") from None
        if not isinstance(told, list) or not all(isinstance(text, str) for text in told):
            raise PeerError("addresses", "not of the form that is known")
        return dialable_addresses(told, author, self._own)

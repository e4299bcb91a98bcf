"""How much a peer may send, and when it has sent too much that it must not. Pure; time is given.

Two bounds on messages. One for what a *neighbour* sends on its connection, its own or forwarded: whoever goes above
it offends. One for what an *author* wrote, whoever forwards it: what is above it is dropped and not forwarded, so
honest nodes between a flood and the others do not become part of it; it offends only where the author itself sent
it. Offences use up a bucket; when it is empty, the peer is to be disconnected and kept out for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from bzzz.mesh.bucket import Bucket

OFFENCES_BURST = 50.0
OFFENCES_PER_S = 0.5
PEERS_MAX = 4_096
NEIGHBOUR_FACTOR = 4
BURST_S = 4.0


@dataclass(slots=True)
class _Record:
    """What is remembered of a peer."""

    sent: Bucket
    sent_bytes: Bucket
    wrote: Bucket
    offences: Bucket


class Conduct:
    """Measures peers.

    Args:
        messages_per_s_max: of one author, over a long time; ``BURST_S`` times as many at once. A neighbour may send
            ``NEIGHBOUR_FACTOR`` times as many.
        bytes_per_s_max: of one neighbour; ``BURST_S`` times as many at once.
    """

    def __init__(self, *, messages_per_s_max: float, bytes_per_s_max: float) -> None:
        self._messages_per_s_max = messages_per_s_max
        self._bytes_per_s_max = bytes_per_s_max
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def may_send(self, neighbour: str, messages: float, size_bytes: int, now_s: float) -> bool:
        """Whether a neighbour may send so many messages, of so many bytes together."""
        record = self._of(neighbour, now_s)
        return record.sent_bytes.take(size_bytes, now_s) and record.sent.take(messages, now_s)

    def may_write(self, author: str, now_s: float) -> bool:
        """Whether an author may have written one more message."""
        return self._of(author, now_s).wrote.take(1, now_s)

    def offends(self, peer: str, weight: float, now_s: float) -> bool:
        """Note an offence; whether it was one too many."""
        record = self._of(peer, now_s)
        if record.offences.take(weight, now_s):
            return False
        # What follows until it is disconnected is the same offence.
        record.offences = Bucket(OFFENCES_PER_S, OFFENCES_BURST, now_s)
        return True

    def _of(self, peer: str, now_s: float) -> _Record:
        record = self._records.get(peer)
        if record is None:
            self._forget_idle(now_s)
            rate, size = self._messages_per_s_max, self._bytes_per_s_max
            record = _Record(
                sent=Bucket(rate * NEIGHBOUR_FACTOR, rate * NEIGHBOUR_FACTOR * BURST_S, now_s),
                sent_bytes=Bucket(size, size * BURST_S, now_s),
                wrote=Bucket(rate, rate * BURST_S, now_s),
                offences=Bucket(OFFENCES_PER_S, OFFENCES_BURST, now_s),
            )
            self._records[peer] = record
            if len(self._records) > PEERS_MAX:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(peer)
        return record

    def _forget_idle(self, now_s: float) -> None:
        """Forget whom a new record would say the same of: so peers that come once do not add up to the bound."""
        while self._records:
            oldest = next(iter(self._records.values()))
            if not all(
                bucket.is_full(now_s) for bucket in (oldest.sent, oldest.sent_bytes, oldest.wrote, oldest.offences)
            ):
                return
            self._records.popitem(last=False)

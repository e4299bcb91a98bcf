"""Which of a peer's messages may reach the decisions: fresh, not seen before, and not too many.

Gossip forgets what it has seen after a while, so a replayed message can come again much later. Here each
sender's (incarnation, sequence) is remembered within a window, and everything is bounded and counted.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

WINDOW_MESSAGES_MAX = 1_024
SENDERS_MAX = 4_096


@dataclass(slots=True)
class _Sender:
    incarnation: int = -1
    highest: int = -1
    seen: set[int] = field(default_factory=set)
    arrivals: deque[int] = field(default_factory=deque)


class Inbox:
    """The gate between decoding and ``step``.

    Args:
        age_s_max: how old, or how far ahead, a sender's own timestamp may be, in seconds. Clocks of
            machines differ, so this is wide; it only bounds how long a replay can be useful.
        burst_messages_max: messages of one peer within ``burst_ms``.
    """

    def __init__(self, age_s_max: float = 600.0, burst_messages_max: int = 2_000, burst_ms: int = 10_000) -> None:
        self._age_s_max = age_s_max
        self._burst_messages_max = burst_messages_max
        self._burst_ms = burst_ms
        self._senders: dict[str, _Sender] = {}
        self.dropped: Counter[str] = Counter()

    def admits(
        self,
        peer: str,
        *,
        incarnation: int,
        sequence: int | None,
        sent_wall_s: float,
        wall_s: float,
        now_ms: int,
    ) -> bool:
        """Whether a message may pass; if not, it is counted in ``dropped`` by its reason."""
        sender = self._senders.get(peer)
        if sender is None:
            if len(self._senders) >= SENDERS_MAX:
                self._senders.pop(next(iter(self._senders)))
                self.dropped["senders_forgotten"] += 1
            sender = self._senders[peer] = _Sender()
        arrivals = sender.arrivals
        while arrivals and now_ms - arrivals[0] >= self._burst_ms:
            arrivals.popleft()
        if len(arrivals) >= self._burst_messages_max:
            return self._drop("flood")
        arrivals.append(now_ms)
        if abs(wall_s - sent_wall_s) > self._age_s_max:
            return self._drop("stale" if wall_s > sent_wall_s else "future")
        if sequence is None:
            return True
        if incarnation < sender.incarnation:
            return self._drop("earlier_incarnation")
        if incarnation > sender.incarnation:
            sender.incarnation, sender.highest = incarnation, -1
            sender.seen.clear()
        if sequence in sender.seen or sequence <= sender.highest - WINDOW_MESSAGES_MAX:
            return self._drop("replayed")
        sender.seen.add(sequence)
        if sequence > sender.highest:
            sender.highest = sequence
            if len(sender.seen) > 2 * WINDOW_MESSAGES_MAX:
                oldest = sequence - WINDOW_MESSAGES_MAX
                sender.seen = {number for number in sender.seen if number > oldest}
        return True

    def _drop(self, reason: str) -> bool:
        self.dropped[reason] += 1
        return False

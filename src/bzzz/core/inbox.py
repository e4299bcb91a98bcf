"""Which of a peer's messages may reach the decisions: fresh, not seen before, and not too many.

Gossip forgets what it has seen after a while, so a replayed message can come again much later. Here each
sender's newest incarnation and a window of its sequence numbers are remembered (the sliding window of RFC
4303, section 3.4.3), and everything is bounded and counted: a sender takes a few hundred bytes, and the
sender that was silent longest gives way. Whether a message is well formed is the wire's concern.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

WINDOW_MESSAGES_MAX = 1_024
SENDERS_MAX = 4_096
_WINDOW = (1 << WINDOW_MESSAGES_MAX) - 1


@dataclass(slots=True)
class _Sender:
    """``seen`` is a bit field: bit ``n`` stands for the sequence number ``highest - n``."""

    burst_from_ms: int
    burst_messages: int = 0
    incarnation: int = -1
    highest: int = -1
    seen: int = 0


class Inbox:
    """The gate before ``step``: ``counts`` before a payload is decoded, ``admits`` after it.

    Args:
        age_s_max: how old, or how far ahead, a sender's own timestamp may be, in seconds. Clocks of
            machines differ, so this is wide; it only bounds how long a replay can be useful.
        burst_messages_max: messages of one peer within ``burst_ms``, well formed or not.
    """

    def __init__(self, age_s_max: float = 600.0, burst_messages_max: int = 2_000, burst_ms: int = 10_000) -> None:
        self._age_s_max = age_s_max
        self._burst_messages_max = burst_messages_max
        self._burst_ms = burst_ms
        self._senders: dict[str, _Sender] = {}
        self.dropped: Counter[str] = Counter()

    def counts(self, peer: str, now_ms: int) -> bool:
        """Count one message of ``peer``; false (``flood``) if it sent more than its share already.

        Asked before decoding, so that a flood of garbage costs no more than a flood of anything else.
        """
        sender = self._sender(peer, now_ms)
        if now_ms - sender.burst_from_ms >= self._burst_ms:
            sender.burst_from_ms, sender.burst_messages = now_ms, 0
        if sender.burst_messages >= self._burst_messages_max:
            self._drop("flood")
            return False
        sender.burst_messages += 1
        return True

    def admits(
        self,
        peer: str,
        *,
        incarnation: int,
        sequence: int | None,
        sent_wall_s: float,
        wall_s: float,
        now_ms: int,
    ) -> str:
        """Why a message may not pass, counted in ``dropped``; empty if it may.

        The reasons are ``stale``, ``future``, ``earlier_incarnation`` and ``replayed``. A message without
        a sequence number is the predecessor's: only its age is checked.
        """
        if not abs(wall_s - sent_wall_s) <= self._age_s_max:
            return self._drop("stale" if wall_s > sent_wall_s else "future")
        if sequence is None:
            return ""
        sender = self._sender(peer, now_ms)
        if incarnation < sender.incarnation:
            return self._drop("earlier_incarnation")
        if incarnation > sender.incarnation:
            sender.incarnation, sender.highest, sender.seen = incarnation, -1, 0
        behind = sender.highest - sequence
        if behind >= WINDOW_MESSAGES_MAX or (behind >= 0 and sender.seen >> behind & 1):
            return self._drop("replayed")
        if behind >= 0:
            sender.seen |= 1 << behind
        else:
            # A jump of any size must not make a number of that size.
            sender.seen = (sender.seen << min(-behind, WINDOW_MESSAGES_MAX) | 1) & _WINDOW
            sender.highest = sequence
        return ""

    def _sender(self, peer: str, now_ms: int) -> _Sender:
        sender = self._senders.pop(peer, None)
        if sender is None:
            if len(self._senders) >= SENDERS_MAX:
                self._senders.pop(next(iter(self._senders)))
                self._drop("senders_forgotten")
            sender = _Sender(now_ms)
        self._senders[peer] = sender  # at the end: who was silent longest stands first
        return sender

    def _drop(self, reason: str) -> str:
        self.dropped[reason] += 1
        return reason

"""A circuit breaker for one forge: after trouble, ask nothing for a while. Pure.

A limit opens it for as long as the forge asks. Silence and 5xx open it after ``failures_max`` in a row, for
a pause that doubles from ``pause_s`` to ``pause_s_max``; then one request tries, and the rest wait for how
it ends.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """State of one forge; times are monotonic milliseconds. ``asked``: the forge itself asked for the pause."""

    failures_max: int = 5
    pause_s: float = 2.0
    pause_s_max: float = 120.0
    failures: int = 0
    openings: int = 0
    open_until_ms: int = 0
    trying: bool = False
    asked: bool = False

    def wait_s(self, now_ms: int) -> float:
        """How long to hold back: 0 to go ahead, which must end in one of the methods below."""
        if now_ms < self.open_until_ms:
            return (self.open_until_ms - now_ms) / 1000
        if self.openings:
            if self.trying:
                return self.pause_s
            self.trying = True
        return 0.0

    def answered(self) -> None:
        """The forge answered in order, be it with a refusal."""
        self.failures = self.openings = 0
        self.trying = False

    def limited(self, now_ms: int, retry_after_s: float) -> None:
        """The forge asked to be left alone for a time; the longest such wish counts."""
        self.trying = False
        self.asked = True
        self.openings = max(self.openings, 1)
        self.open_until_ms = max(self.open_until_ms, now_ms + int(retry_after_s * 1000))

    def failed(self, now_ms: int) -> None:
        """The forge gave no answer, or answered 5xx."""
        self.failures += 1
        if self.trying or self.failures >= self.failures_max:
            pause_s = min(self.pause_s * 2**self.openings, self.pause_s_max)
            self.openings = min(self.openings + 1, 30)
            self.open_until_ms = max(self.open_until_ms, now_ms + int(pause_s * 1000))
            self.failures = 0
            self.asked = False
        self.trying = False

    def abandoned(self) -> None:
        """The request was cancelled; nothing was learned."""
        self.trying = False

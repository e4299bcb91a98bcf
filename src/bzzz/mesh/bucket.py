"""How much of something may come in a second: a token bucket, pure."""

from __future__ import annotations


class Bucket:
    """Fills by ``rate_per_s`` up to ``burst``, and is full at first.

    Args:
        rate_per_s: what may be taken a second over a long time.
        burst: what may be taken at once after a long pause.
        now_s: the time, on any clock that does not go back.
    """

    __slots__ = ("_at_s", "_burst", "_level", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take ``amount`` if there is as much; else nothing."""
        self._fill(now_s)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def owe(self, amount: float, now_s: float) -> float:
        """Take ``amount`` in any case, and give the seconds to wait until that was right."""
        self._fill(now_s)
        self._level -= amount
        return max(0.0, -self._level / self._rate_per_s)

    def is_full(self, now_s: float) -> bool:
        """Whether nothing was taken for so long that forgetting this bucket would change nothing."""
        self._fill(now_s)
        return self._level >= self._burst

    def _fill(self, now_s: float) -> None:
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s

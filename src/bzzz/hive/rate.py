"""Rate limits: a token bucket for each name, in bounded memory.

Pure but for what it remembers. A bucket holds ``burst`` and fills at ``per_s``. Above ``names_max`` the name that
asked longest ago is forgotten, and so starts full again: a bound on memory, not a way around the limit for one who
asks often.
"""

from __future__ import annotations

from collections import OrderedDict


class RateLimit:
    """The buckets.

    Args:
        per_s: calls a second that are let through in the long run; 0 lets everything through.
        burst: calls at once after a pause.
        names_max: how many names are remembered.
    """

    def __init__(self, per_s: float, burst: int, names_max: int = 10_000) -> None:
        self._per_s = per_s
        self._burst = float(max(1, burst))
        self._names_max = names_max
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, name: str, now_ms: int) -> float:
        """Take one call from a name's bucket.

        Returns:
            0 if it is let through, else the seconds after which one would be.
        """
        if self._per_s <= 0:
            return 0.0
        level, at_ms = self._buckets.pop(name, (self._burst, now_ms))
        level = min(self._burst, level + (now_ms - at_ms) / 1000 * self._per_s)
        allowed = level >= 1.0
        self._buckets[name] = (level - 1.0 if allowed else level, now_ms)
        while len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / self._per_s

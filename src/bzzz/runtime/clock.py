"""The machine's clock, behind the ``Clock`` port."""

from __future__ import annotations

import time


class SystemClock:
    """Monotonic milliseconds for decisions, wall seconds for people."""

    def now_ms(self) -> int:
        """Monotonic milliseconds."""
        return time.monotonic_ns() // 1_000_000

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

"""A clock that moves only when told, and a sleep that moves it."""

from __future__ import annotations


class ManualClock:
    """Implements ``bzzz.ports.Clock``."""

    def __init__(self, wall_s: float = 1_790_000_000.0) -> None:
        self.ms = 1_000_000
        self.wall = wall_s
        self.slept_s: list[float] = []

    def now_ms(self) -> int:
        return self.ms

    def wall_s(self) -> float:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)
        self.wall += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance(seconds)

"""SIGINT and SIGTERM, held back until the program can act on them.

A handler that raises is not safe while modules are imported: before Python 3.12 whatever is raised inside a
class's ``__set_name__`` leaves as a ``RuntimeError``, and a library may catch more than it should. So a command
that has something to put in order holds both signals from its first step, and hands them to its event loop once
there is something that can be told to end. No signal is lost between the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

HELD = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A ``with`` block in which both signals only leave their number, unless they are handed over.

    ``number`` is the first that came, ``None`` as long as none has. To be used in the main thread, as all that
    sets signal handlers.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._came) for number in HELD}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_status(self) -> int:
        """128 and the signal's number, as shells tell it."""
        return 128 + (self.number or 0)

    @contextlib.contextmanager
    def handed_over(self, act: Callable[[], None]) -> Iterator[None]:
        """Within, each signal calls ``act`` in the running loop; at once, if one came before. Then held again."""
        loop = asyncio.get_running_loop()
        for number in HELD:
            loop.add_signal_handler(number, self._act, number, act)
        try:
            if self.number is not None:
                act()
            yield
        finally:
            for number in HELD:
                loop.remove_signal_handler(number)
                signal.signal(number, self._came)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number

    def _act(self, number: int, act: Callable[[], None]) -> None:
        self._came(number, None)
        act()

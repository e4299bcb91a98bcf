"""Waiting for what gives no signal (another process's state), bounded by a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], deadline_s: float = 10.0) -> bool:
    """Whether ``condition`` comes true in time; looked at every 10 ms."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.01)
    return True

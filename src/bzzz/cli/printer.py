"""A node's events as lines on a console, or as JSON.

Writing to a console can block for as long as somebody holds it (a terminal that is stopped, a pipe that
nobody reads), and a node that waited for that would lose its claims. So a thread writes; what it cannot
keep up with is dropped and counted, and the count is written once it can.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

LINES_WAITING_MAX = 2_000
LINE_CHARS_MAX = 1_000
FLUSH_S_MAX = 2.0
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Printer:
    """Prints events from ``level`` upwards; a context manager that flushes at its end.

    Args:
        out: where to.
        level: the least level that is printed.
        as_json: one JSON object a line instead of words.
    """

    def __init__(self, out: TextIO, level: str, *, as_json: bool = False) -> None:
        self._out = out
        self._least = LEVELS[level]
        self._as_json = as_json
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self.dropped = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Print one event, soon."""
        if LEVELS.get(event["level"], 20) < self._least:
            return
        try:
            self._lines.put_nowait(json.dumps(event, default=str) if self._as_json else line(event))
        except queue.Full:
            self.dropped += 1

    def __enter__(self) -> Printer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._lines.put(None, timeout=FLUSH_S_MAX)
        except queue.Full:
            return
        self._thread.join(FLUSH_S_MAX)

    def _write(self) -> None:
        told = 0
        while (text := self._lines.get()) is not None:
            if self.dropped > told and not self._as_json:
                text = f"({self.dropped - told} lines could not be printed in time)\n{text}"
                told = self.dropped
            try:
                self._out.write(text + "\n")
                if self._lines.empty():
                    self._out.flush()
            except (OSError, ValueError):
                # The console is gone; the events can still be read over the local API.
                self.dropped += 1


def line(event: Mapping[str, Any]) -> str:
    """One event in words, on one line that no terminal takes for a command."""
    shown: list[str] = [str(event["kind"]).replace("_", " ")]
    shown += [f"{event[key]}" for key in ("task", "phase", "outcome") if event.get(key)]
    rest = {
        key: value
        for key, value in event.items()
        if key not in ("id", "at", "level", "kind", "task", "phase", "outcome", "text")
        and value not in ("", [], {})
    }
    shown += [f"{key}={value}" for key, value in rest.items()]
    if event.get("text"):
        shown.append(f"- {event['text']}")
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(shown))
    return f"{time.strftime('%H:%M:%S', time.localtime(event['at']))} {event['level']:<7} {text[:LINE_CHARS_MAX]}"

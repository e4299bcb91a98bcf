"""Server-sent events, read: bytes in as they come, events out (html.spec.whatwg.org, "Server-sent events").

Pure and bounded: a line or an event above its bound is an error, so that no server fills a node's memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

EVENT_CHARACTERS_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its name (``message`` where none is given) and its data."""

    name: str
    data: str


class EventReader:
    """Cuts one stream into events."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[StreamEvent]:
        """The events that this chunk completes.

        Raises:
            ValueError: a line or an event is above ``EVENT_CHARACTERS_MAX``.
        """
        text = self._rest + self._decoder.decode(chunk)
        # A carriage return at the very end may be half of a CRLF: it waits for the next chunk.
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        self._rest = rest + held
        if len(self._rest) > EVENT_CHARACTERS_MAX:
            raise ValueError(f"a line above {EVENT_CHARACTERS_MAX} characters")
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def _line(self, line: str) -> StreamEvent | None:
        if not line:
            event = StreamEvent(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        self._size += len(line)
        if self._size > EVENT_CHARACTERS_MAX:
            raise ValueError(f"an event above {EVENT_CHARACTERS_MAX} characters")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None

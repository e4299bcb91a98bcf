"""Which messages were heard already, so that a copy that comes another way is not a second message; pure."""

from __future__ import annotations

from collections import OrderedDict


class SeenMessages:
    """The marks of the last ``messages_max`` messages."""

    def __init__(self, messages_max: int) -> None:
        self._messages_max = messages_max
        self._marks: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._marks

    def add(self, mark: bytes) -> bool:
        """Remember a message; whether it was new."""
        if mark in self._marks:
            return False
        self._marks[mark] = None
        if len(self._marks) > self._messages_max:
            self._marks.popitem(last=False)
        return True

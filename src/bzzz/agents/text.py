"""Strangers' text made harmless to show: control characters visible, lengths bounded.

Issue titles, agents' output and repositories' files reach terminals, prompts and commit messages. Nothing
here judges what a text says; it only takes away what could move a cursor, reorder a line or never end.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def neutral(text: str, *, chars_max: int, lines: bool = True) -> str:
    """``text`` with control, format, surrogate and private characters written out as ``<U+XXXX>``.

    Args:
        text: anything.
        chars_max: how many characters of the input are kept; what was cut is said at the end.
        lines: keep line feeds and tabs (carriage returns before a line feed vanish); if not, all white
            space becomes single spaces.
    """
    cut = len(text) - chars_max
    text = text[:chars_max].replace("\r\n", "\n")
    if not lines:
        text = " ".join(text.split())
    shown = "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _HIDDEN else f"<U+{ord(c):04X}>" for c in text
    )
    return f"{shown} [{cut} characters left out]" if cut > 0 else shown


def last_line(output: bytes, *, chars_max: int = 200) -> str:
    """The last line of a program's output that is not empty, fit for one line of a person's screen."""
    for line in reversed(output.decode("utf-8", "replace").splitlines()):
        shown = neutral(line, chars_max=chars_max, lines=False)
        if shown:
            return shown
    return ""


class Redactor:
    """Takes secrets out of a stream of bytes, also where one is split over two reads.

    Secrets shorter than ``SECRET_BYTES_MIN`` are left alone: replacing them would destroy ordinary text.
    """

    SECRET_BYTES_MIN = 6
    MASK = b"***"

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {s.encode() for s in secrets if len(s.encode()) >= self.SECRET_BYTES_MIN}
        self._secrets = sorted(found, key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Give what is certain to hold no secret; the rest waits for the next call."""
        if not self._secrets:
            return data
        whole = self._mask(self._held + data)
        keep = self._overlap(whole)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def flush(self) -> bytes:
        """Give what was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return held

    def _mask(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, self.MASK)
        return data

    def _overlap(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret."""
        longest = min(len(data), len(self._secrets[0]) - 1)
        for size in range(longest, 0, -1):
            end = data[-size:]
            if any(secret.startswith(end) for secret in self._secrets):
                return size
        return 0

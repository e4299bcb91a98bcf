"""Git's pkt-lines, as far as the forge reads them: what a push asks for, and what came of it. Pure.

Formats: gitprotocol-common(5), and "Reference Update Request and Packfile Transfer" and "Report Status" in
gitprotocol-pack(5). The forge only watches: git itself decides; what is not understood here is no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ZERO_ID = "0" * 40
PUSH_HEAD_BYTES_MAX = 1024 * 1024
REPORT_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One command of a push: move ``ref`` from ``old`` to ``new`` (``ZERO_ID`` stands for absence)."""

    ref: str
    old: str
    new: str


def pkt(data: bytes) -> bytes:
    """``data`` as one pkt-line."""
    return b"%04x" % (len(data) + 4) + data


def _lines(data: bytes) -> Iterator[bytes | None]:
    """Whole pkt-lines of ``data``; ``None`` for a flush. Ends quietly at what is cut off or no pkt-line."""
    at = 0
    while at + 4 <= len(data):
        try:
            size = int(data[at : at + 4], 16)
        except ValueError:
            return
        if size == 0:
            yield None
            at += 4
            continue
        if size < 4 or at + size > len(data):
            return
        yield data[at + 4 : at + size]
        at += size


def read_updates(head: bytes) -> tuple[RefUpdate, ...] | None:
    """The commands at the start of a push; ``None`` while the flush that ends them has not arrived."""
    updates: list[RefUpdate] = []
    for line in _lines(head):
        if line is None:
            return tuple(updates)
        words = line.split(b"\0", 1)[0].rstrip(b"\n").split(b" ", 2)
        if len(words) == 3 and len(words[0]) == 40 and len(words[1]) == 40:
            old, new, ref = (word.decode("utf-8", "replace") for word in words)
            updates.append(RefUpdate(ref, old, new))
    return None


def read_accepted(report: bytes) -> frozenset[str]:
    """The refs that a receive-pack's answer (with side-band or without) reports as ``ok``."""
    inner = b"".join(line[1:] for line in _lines(report) if line is not None and line[:1] == b"\x01")
    accepted = set()
    for line in _lines(inner or report):
        if line is not None and line.startswith(b"ok "):
            accepted.add(line[3:].rstrip(b"\n").decode("utf-8", "replace"))
    return frozenset(accepted)

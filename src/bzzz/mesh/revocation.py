"""The file of revoked peers: one peer id a line, ``#`` begins a comment. Nodes look at it again and again.

``bzzz mesh revoke`` edits it; so may whatever keeps files the same on many machines. A line that is no peer id is
told and left, so that one slip does not let everybody in again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from bzzz.mesh.address import is_peer_id

REVOKED_FILE_BYTES_MAX = 1024 * 1024
_HEADER = "# Peers that this node keeps out of its mesh, one peer id a line; see bzzz mesh revoke.\n"
_log = logging.getLogger("bzzz.mesh")


class RevokedFile:
    """Reads the file when it changes.

    Args:
        path: it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = ()
        self._failed = False

    def changed(self) -> frozenset[str] | None:
        """The revoked peers, if the file is new, changed or gone since the last call; else ``None``.

        A file that cannot be read changes nothing, and is told once.
        """
        try:
            stat = self._path.stat()
            now: tuple[int, ...] | None = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            now = None
        except OSError as error:
            self._fail(error)
            return None
        if now == self._seen:
            return None
        try:
            peers = read_revoked(self._path) if now is not None else frozenset()
        except OSError as error:
            self._fail(error)
            return None
        self._seen, self._failed = now, False
        return peers

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            _log.error("%s: revoked peers cannot be read (%s); who was revoked before stays so", self._path, error)
        self._failed = True


def read_revoked(path: Path) -> frozenset[str]:
    """The peers in the file.

    Raises:
        OSError: it cannot be read, or is too large to be one.
    """
    if path.stat().st_size > REVOKED_FILE_BYTES_MAX:
        raise OSError(f"larger than {REVOKED_FILE_BYTES_MAX} bytes")
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text and is_peer_id(text):
            found.add(text)
        elif text:
            _log.warning("%s:%d: this is no peer id; left out", path, number)
    return frozenset(found)


def write_revoked(path: Path, peers: Iterable[str]) -> None:
    """Write the file whole, so that no node ever reads half of it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(_HEADER + "".join(f"{peer}\n" for peer in sorted(peers)), encoding="utf-8")
    part.replace(path)

"""Files that only their owner can read: an identity, a secret. Written whole or not at all, and read with care."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from bzzz.errors import TransportError

PRIVATE_FILE_MODE = 0o600
PRIVATE_FILE_BYTES_MAX = 16 * 1024


def write_private(path: Path, data: bytes, *, replace: bool = False) -> bool:
    """Write a file of mode 0600 through a part file, so that nobody ever sees half of it.

    Returns:
        whether it was written: without ``replace``, a file that is there stays.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(path)
            return True
        # A link, unlike a rename, never replaces the file of whoever was first.
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
            return True
        return False
    finally:
        part.unlink(missing_ok=True)


def read_private(path: Path, what: str) -> bytes:
    """The file's bytes, ``PRIVATE_FILE_BYTES_MAX`` at most.

    Args:
        path: the file.
        what: its purpose, for a person.

    Raises:
        TransportError: others may read it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise TransportError(
                f"{what} {path}: others may read it (mode {mode:04o}); run chmod 600 on it, or remove it"
            )
        return file.read(PRIVATE_FILE_BYTES_MAX)

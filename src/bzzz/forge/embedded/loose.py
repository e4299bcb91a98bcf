"""Stores git objects one file each, as git does with a push of a few.

What a file holds is on the disk before it gets its name, so that a power cut leaves no object that is there and
empty, as it may where git stores a few. The files are written in a quarantine folder named as git names its own,
which the sweeper removes when a killed process left it. Source: gitrepository-layout(5), gitformat-loose(5).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from bzzz.gitformat.pack import GitObject, Kind

QUARANTINE = "tmp_objdir-incoming-"
_READ_ONLY = 0o444
_START_BYTES = 256
_COMMIT = Kind.COMMIT.word + b" "


def store(folder: Path, objects: Sequence[GitObject]) -> None:
    """Put ``objects`` into the bare repository ``folder``, in this order; those that stand there are kept.

    Raises:
        OSError: it could not be written; what was stored before that is harmless, for nothing names it.
    """
    quarantine = Path(tempfile.mkdtemp(prefix=QUARANTINE, dir=folder / "objects"))
    try:
        written = [(item, _write(quarantine / item.id, item)) for item in objects]
        for item, path in written:
            place = folder / "objects" / item.id[:2] / item.id[2:]
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                path.rename(place)
    finally:
        shutil.rmtree(quarantine, ignore_errors=True)


def is_commit(folder: Path, identifier: str) -> bool:
    """Whether this object is stored in ``folder`` as a loose one and is a commit; git knows of those in packs."""
    try:
        with (folder / "objects" / identifier[:2] / identifier[2:]).open("rb") as file:
            start = zlib.decompressobj().decompress(file.read(_START_BYTES), len(_COMMIT))
    except (OSError, zlib.error):
        return False
    return start == _COMMIT


def _write(path: Path, item: GitObject) -> Path:
    head = b"%s %d\0" % (item.kind.word, len(item.data))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(zlib.compress(head + item.data, zlib.Z_BEST_SPEED))
        file.flush()
        os.fsync(file.fileno())
    return path

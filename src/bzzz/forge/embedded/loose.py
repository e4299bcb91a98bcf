"""Stores git objects one file each, as git does with a push of a few.

The files are durable before this returns, so that a ref which is moved after it never names what a power cut
took away. They are written in a quarantine folder named as git names its own, which the sweeper removes when
a killed process left it. Source: gitrepository-layout(5), gitformat-loose(5).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from bzzz.gitformat.pack import GitObject

QUARANTINE = "tmp_objdir-incoming-"
_READ_ONLY = 0o444


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


def _write(path: Path, item: GitObject) -> Path:
    head = b"%s %d\0" % (item.kind.word, len(item.data))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _READ_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(zlib.compress(head + item.data, zlib.Z_BEST_SPEED))
        file.flush()
        os.fsync(file.fileno())
    return path

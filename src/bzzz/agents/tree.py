"""Walking a folder that a hostile program filled: links not followed, depth and number bounded.

Nothing here knows of git or of attempts. A program may have nested folders beyond what a path can name, taken
away the right to read them, or put in millions; a walk still ends, and so does deleting.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bzzz.errors import AgentError

ENTRIES_MAX = 2_000_000
DEPTH_MAX = 200
PATH_BYTES_MAX = 3000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree holds: bytes, entries, and the newest change on the wall clock, in seconds."""

    size_bytes: int
    entries: int
    changed_s: float


def walk(tree: Path, *, mend: bool = False) -> Iterator[tuple[os.DirEntry[str], str]]:
    """All entries below ``tree`` with their relative paths; links are given, never followed.

    The caller may move an entry away before asking for the next: it is then not entered.

    Args:
        tree: a folder.
        mend: give the owner the right to read and enter folders that an agent closed, and to read files.

    Raises:
        AgentError: there are more than ``ENTRIES_MAX`` entries.
    """
    waiting = [(os.fspath(tree), "")]
    seen = 0
    while waiting:
        folder, prefix = waiting.pop()
        if mend:
            with contextlib.suppress(OSError):
                _mend(folder, 0o700)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # it went away, or may not be read: then it holds nothing that could be counted
        for entry in entries:
            seen += 1
            if seen > ENTRIES_MAX:
                raise AgentError(f"{tree} holds more than {ENTRIES_MAX} entries (entries_max)")
            relative = prefix + entry.name
            if mend and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _mend(entry.path, 0o400)
            yield entry, relative
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(entry.path).st_mode):
                    waiting.append((entry.path, relative + "/"))


def _mend(path: str, bits: int) -> None:
    mode = os.lstat(path).st_mode
    if not stat.S_ISLNK(mode) and mode & bits != bits:
        os.chmod(path, stat.S_IMODE(mode) | bits)  # noqa: PTH101 - the path may not be text


def measure(tree: Path) -> Usage:
    """Add up a tree. The newest change is by inode time, which a program cannot set back.

    Raises:
        AgentError: there are too many entries.
    """
    size = entries = 0
    changed = 0.0
    with contextlib.suppress(OSError):
        changed = os.lstat(tree).st_ctime
    for entry, _ in walk(tree):
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            size += found.st_blocks * 512
            changed = max(changed, found.st_ctime)
        entries += 1
    return Usage(size, entries, changed)


def remove(folder: Path) -> None:
    """Delete a folder and all in it, also what was made unreadable; links are not followed.

    Raises:
        OSError: something in it could not be deleted.
    """
    if not folder.is_symlink() and not folder.exists():
        return
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
        return
    # What is nested too deep for one path, or for the recursion of rmtree, is brought up first.
    waiting, brought = [folder], 0
    while waiting:
        for entry, relative in walk(waiting.pop(), mend=True):
            if is_deep(relative):
                brought += 1
                place = folder / f"brought-up-{brought}"
                os.rename(entry.path, place)  # noqa: PTH104 - the path may not be text
                waiting.append(place)
    shutil.rmtree(folder)


def is_deep(relative: str) -> bool:
    """Whether a path is nested too deep to be handled, here or anywhere it would be checked out."""
    return relative.count("/") >= DEPTH_MAX or len(os.fsencode(relative)) > PATH_BYTES_MAX

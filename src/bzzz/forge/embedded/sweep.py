"""Removes what a killed git left behind: stale ref locks, and half-received packs.

A lock that nobody holds makes its ref, and so one task's claim, unwritable for ever. Git holds a ref lock
for milliseconds, so one that is older than ``lock_age_s`` while none of our processes works on that
repository is nobody's; while the lock is judged and removed, no new process of ours starts there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bzzz.forge.embedded.git import Activity
from bzzz.forge.embedded.loose import QUARANTINE

INCOMING_AGE_S = 3600.0


def locks(folder: Path) -> Iterator[Path]:
    """Lock files that may block a ref of the bare repository ``folder``."""
    for name in ("HEAD.lock", "packed-refs.lock", "config.lock"):
        if (folder / name).is_file():
            yield folder / name
    for root, _folders, files in os.walk(folder / "refs"):
        for name in files:
            if name.endswith(".lock"):
                yield Path(root) / name


def sweep(root: Path, activity: Activity, now_s: float, lock_age_s: float) -> list[Path]:
    """Remove stale locks below ``root/repositories``; gives what was removed.

    Args:
        root: the forge's data folder.
        activity: which repositories have a git of ours at work.
        now_s: wall-clock seconds, as file times are.
        lock_age_s: how old a lock must be.
    """
    removed: list[Path] = []
    for folder in sorted((root / "repositories").glob("*.git")):
        for lock in locks(folder):
            if not _older(lock, now_s, lock_age_s):
                continue
            with activity.idle(folder) as idle:
                if idle and _older(lock, now_s, lock_age_s):
                    lock.unlink(missing_ok=True)
                    removed.append(lock)
        for left in folder.glob(f"objects/{QUARANTINE}*"):
            with activity.idle(folder) as idle:
                if idle and _older(left, now_s, INCOMING_AGE_S):
                    shutil.rmtree(left, ignore_errors=True)
                    removed.append(left)
    return removed


def _older(path: Path, now_s: float, age_s: float) -> bool:
    try:
        return now_s - path.lstat().st_mtime >= age_s
    except FileNotFoundError:
        return False

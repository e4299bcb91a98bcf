"""Keeps repositories quick for months: refs go into one file, loose objects into packs, and nothing is dropped.

Every claim leaves a ref and, with each renewal, some objects, and git reads every loose ref at every push: at ten
thousand tasks that alone would cost more than all the rest of a claim. git's own ``gc`` is not used: it removes
what no ref reaches, and it keeps a lock that a killed one would leave for ever.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bzzz.forge.embedded.git import Git
from bzzz.forge.embedded.refusal import Refusal

LOOSE_REFS_MAX = 100
LOOSE_OBJECTS_MAX = 4_000
"""git's own bound is 6,700."""
RETRY_S = 3600.0
"""A repository that could not be packed, for it is broken or very large, is left alone for as long."""
_FOLDERS = 256
_SAMPLE = "17"
"""The folder of objects that stands for all 256, as for git's own ``gc --auto``: their names are hashes."""

log = logging.getLogger(__name__)


class Compactor:
    """Packs what has become too much.

    Args:
        git: the forge's.
        wall_s: the wall clock.
        counts: where ``refs_packed``, ``objects_packed`` and ``packings_failed`` are counted.
    """

    def __init__(self, git: Git, wall_s: Callable[[], float], counts: Counter[str]) -> None:
        self._git = git
        self._wall_s = wall_s
        self._counts = counts
        self._not_before_s: dict[Path, float] = {}

    def run(self, root: Path) -> None:
        """Look at every repository below ``root/repositories``; pushes may go on meanwhile."""
        for folder in sorted((root / "repositories").glob("*.git")):
            if self._wall_s() < self._not_before_s.get(folder, 0.0):
                continue
            try:
                self._compact(folder)
            except (OSError, Refusal) as error:
                self._counts["packings_failed"] += 1
                self._not_before_s[folder] = self._wall_s() + RETRY_S
                log.warning("%s could not be packed and is tried again in %g s: %s", folder, RETRY_S, error)

    def _compact(self, folder: Path) -> None:
        if _more_than(LOOSE_REFS_MAX, folder / "refs"):
            self._git.text(folder, "pack-refs", "--all", "--prune")
            self._counts["refs_packed"] += 1
        if _objects(folder) > LOOSE_OBJECTS_MAX:
            # With packs that double in size, what is old and large is not packed again each time.
            self._git.text(folder, "repack", "--geometric=2", "-d", "-q")
            self._counts["objects_packed"] += 1


def _more_than(count: int, folder: Path) -> bool:
    for _root, _folders, files in os.walk(folder):
        count -= len(files)
        if count < 0:
            return True
    return False


def _objects(folder: Path) -> int:
    try:
        return _FOLDERS * sum(1 for _ in (folder / "objects" / _SAMPLE).iterdir())
    except FileNotFoundError:
        return 0

"""Which processes of this machine belong to a folder, and waiting until none does."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROC = Path("/proc")
LOOK_S = 0.02


def belonging(folder: Path) -> dict[int, str]:
    """Living processes that name ``folder`` in their arguments or environment, or work in it; id to arguments.

    Whoever runs the tests may have the folder in an environment too, so this process and those above it are
    left out.
    """
    needle = os.fsencode(folder)
    above = set(_self_and_above())
    found = {}
    for path in PROC.iterdir():
        if not path.name.isdigit() or int(path.name) in above:
            continue
        with contextlib.suppress(OSError):
            if (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX":
                continue
            arguments = (path / "cmdline").read_bytes()
            place = os.fsencode((path / "cwd").readlink())
            if needle in arguments or needle in (path / "environ").read_bytes() or needle in place:
                found[int(path.name)] = arguments.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def _self_and_above() -> Iterator[int]:
    pid = os.getpid()
    while pid:
        yield pid
        pid = int((PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def wait_until(holds: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Look again and again: files and processes of others send no signal to a test."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(LOOK_S)


def wait_until_none(folder: Path, timeout_s: float) -> None:
    """Fail, and end them, if processes of ``folder`` still live after ``timeout_s``."""
    try:
        wait_until(lambda: not belonging(folder), "no process of the run is left", timeout_s)
    except AssertionError:
        left = belonging(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"left behind after {timeout_s} s: {left}") from None

"""Finding and ending every process of an attempt, and none that is not.

Three nets, since each alone has a hole: the process group, the descendants of a worker that is the
subreaper of its children (a daemon that forked twice still has it as parent), and a marker in the
environment (which survives the worker's own death). A process is named by its id and its start time, and is
signalled through a file descriptor of it, so that an id used again by another program is never hit. Where
there is no ``/proc`` only the group remains.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK_ATTEMPT = "BZZZ_ATTEMPT"
MARK_NODE = "BZZZ_NODE"

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ENVIRON_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class ProcessId:
    """A process beyond doubt: its id, and when it started, in clock ticks since the machine did."""

    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class _Stat:
    process: ProcessId
    name: str
    state: str
    parent: int


def _stat(pid: int) -> _Stat | None:
    """One line of ``/proc/<pid>/stat`` (see proc(5)); the name may hold any character."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    start, end = text.find("("), text.rfind(")")
    fields = text[end + 2 :].split()
    return _Stat(ProcessId(pid, int(fields[19])), text[start + 1 : end], fields[0], int(fields[1]))


def identify(pid: int) -> ProcessId | None:
    """The process that has this id now; ``None`` if none has, or it is a zombie."""
    stat = _stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.process


def _all() -> list[_Stat]:
    try:
        names = [path.name for path in _PROC.iterdir()]
    except OSError:
        return []
    found = (_stat(int(name)) for name in names if name.isdigit())
    return [stat for stat in found if stat is not None]


def descendants(root: int) -> list[ProcessId]:
    """All living processes below ``root``, children first."""
    return [stat.process for stat in _below(root) if stat.state not in "ZX"]


def _below(root: int) -> list[_Stat]:
    children: dict[int, list[_Stat]] = {}
    for stat in _all():
        children.setdefault(stat.parent, []).append(stat)
    found: list[_Stat] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [stat.process.pid for stat in below]
    return found


def marked(node: str, attempt_id: str | None = None) -> list[ProcessId]:
    """Living processes whose environment carries this node's mark, of one attempt or of any."""
    wanted = {f"{MARK_NODE}={node}".encode()}
    if attempt_id is not None:
        wanted.add(f"{MARK_ATTEMPT}={attempt_id}".encode())
    found = []
    for stat in _all():
        pid = stat.process.pid
        if stat.state in "ZX" or pid == os.getpid():
            continue
        try:
            with (_PROC / str(pid) / "environ").open("rb") as file:
                words = set(file.read(_ENVIRON_BYTES_MAX).split(b"\0"))
        except OSError:
            continue
        has_attempt = any(word.startswith(f"{MARK_ATTEMPT}=".encode()) for word in words)
        if wanted <= words and has_attempt:
            found.append(stat.process)
    return found


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal exactly this process; ``False`` if it is gone or its id is another's by now."""
    try:
        handle = os.pidfd_open(process.pid)
    except (OSError, AttributeError):
        return False
    try:
        # The descriptor holds the id, so what is compared now is what gets the signal.
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def become_subreaper() -> bool:
    """Make orphans among this process's descendants its own children (prctl(2)); Linux alone has it."""
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def reap(keep: int = 0) -> None:
    """Collect dead children, except ``keep``, whose end somebody else is waiting for."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid == keep:
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(dead.si_pid, os.WNOHANG)


def ask_descendants(spare: str = "") -> None:
    """Send TERM to everything below this process, but not to programs named ``spare``."""
    for stat in _below(os.getpid()):
        if stat.name != spare:
            send(stat.process, signal.SIGTERM)


def end_descendants(*, keep: int = 0, timeout_s: float = 10.0) -> bool:
    """Kill everything below this process until nothing is left; ``False`` if ``timeout_s`` was not enough.

    New processes may appear while the old ones die, so it looks again until a look finds none.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        living = descendants(os.getpid())
        for process in living:
            send(process, signal.SIGSTOP)
        for process in living:
            send(process, signal.SIGKILL)
        reap(keep)
        if not living:
            return True
        if time.monotonic() > deadline:
            return False
        _await_gone(living, min(0.5, timeout_s))


def end(processes: Iterable[ProcessId], *, timeout_s: float = 10.0) -> int:
    """Kill these processes and wait until they are gone; how many there were."""
    killed = [process for process in processes if send(process, signal.SIGKILL)]
    _await_gone(killed, timeout_s)
    return len(killed)


def end_marked(node: str, attempt_id: str | None = None, *, timeout_s: float = 10.0) -> int:
    """Kill all that carries the mark, again and again until a look finds none; how many there were."""
    deadline = time.monotonic() + timeout_s
    count = 0
    while living := marked(node, attempt_id):
        count += end(living, timeout_s=min(1.0, timeout_s))
        if time.monotonic() > deadline:
            break
    return count


def await_gone(process: ProcessId, timeout_s: float) -> bool:
    """Wait until this process has ended (a zombie has); ``False`` if it still lives after ``timeout_s``."""
    return _await_gone([process], timeout_s)


def _await_gone(processes: Iterable[ProcessId], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    for process in processes:
        # No signal tells of the end of a process that is not one's child.
        while identify(process.pid) == process:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
    return True

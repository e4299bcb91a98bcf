"""One program run under bounds: its input, its output, its time, and its end with all it started.

The caller is a worker process that is single-threaded and the subreaper of its children. A program has ended
when its first process has, not when its pipe closes: what it left running may hold that open. Then all that
is left below the worker is killed. The bounds are the caller's; so is what an end means.
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bzzz.agents import process
from bzzz.agents.text import Redactor
from bzzz.agents.tree import measure
from bzzz.errors import AgentError

READ_BYTES_MAX = 64 * 1024
TAIL_BYTES_MAX = 64 * 1024
TICK_S_MAX = 1.0
DISK_PROBE_S = 10.0


class End(enum.StrEnum):
    """Why a program ended: by itself, or by which bound."""

    EXITED = "exited"
    STOPPED = "stopped"
    WALL = "wall time"
    IDLE = "idle time"
    OUTPUT = "output size"
    DISK = "disk use"


class Control(Protocol):
    """Where the order to stop comes from."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be news."""
        ...

    def stop_reason(self) -> str | None:
        """Why to stop, once that was said; never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute: an argument list, the whole environment, a folder.

    ``monitor`` is the name of processes to spare when the others are asked to end: the sandbox's own, whose
    end would take the others with it.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    monitor: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one program. ``tree`` is watched for changes (idle time) and size, where given."""

    wall_s_max: float
    idle_s_max: float | None = None
    output_bytes_max: int = 8 * 1024 * 1024
    disk_bytes_max: int | None = None
    end_grace_s: float = 3.0
    tree: Path | None = None


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a program ended. ``status`` is negative for a signal; ``tail`` is the end of its output."""

    end: End
    status: int
    seconds: float
    output_bytes: int
    tail: bytes
    detail: str = ""


@dataclass(slots=True)
class _Running:
    child: subprocess.Popen[bytes]
    output: int
    given: memoryview
    redactor: Redactor
    log: Callable[[bytes], None]
    started_s: float
    heard_s: float
    tail: bytearray = field(default_factory=bytearray)
    output_bytes: int = 0
    open: bool = True


def run(
    launch: Launch,
    *,
    bounds: Bounds,
    control: Control,
    given: bytes = b"",
    secrets: tuple[str, ...] = (),
    log: Callable[[bytes], None] = lambda _: None,
    on_started: Callable[[int], None] = lambda _: None,
) -> ChildEnd:
    """Run a program until it ends or a bound ends it; afterwards nothing that it started lives.

    Args:
        launch: what to run.
        bounds: its bounds.
        control: says when to stop.
        given: its standard input, closed afterwards.
        secrets: what is taken out of its output.
        log: gets its output (both streams), without secrets, within ``output_bytes_max``.
        on_started: gets its process id.

    Raises:
        FileNotFoundError, PermissionError: the program cannot be executed.
        AgentError: processes of it could not be ended.
    """
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            launch.argv,
            stdin=subprocess.PIPE,
            stdout=writer,
            stderr=writer,
            env=dict(launch.environment),
            cwd=launch.folder,
            start_new_session=True,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    now = time.monotonic()
    running = _Running(child, reader, memoryview(given), Redactor(secrets), log, now, now)
    try:
        on_started(child.pid)
        end, detail = _watch(running, launch, bounds, control)
    finally:
        gone = process.end_descendants(keep=child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=10.0)
        _drain(running, bounds)
        os.close(reader)
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
    if not gone:
        raise AgentError(f"processes of {launch.argv[0]} could not be ended")
    status = child.returncode if child.returncode is not None else -signal.SIGKILL
    seconds = time.monotonic() - running.started_s
    return ChildEnd(end, status, seconds, running.output_bytes, bytes(running.tail), detail)


def _watch(running: _Running, launch: Launch, bounds: Bounds, control: Control) -> tuple[End, str]:
    """Serve the program until it has ended or was told to; the second is followed by its grace."""
    child = running.child
    end: End | None = None
    detail = ""
    give_up_s = 0.0
    guard = _Guard(bounds)
    with selectors.DefaultSelector() as selector, _exit_handle(child.pid) as exited:
        _register(selector, running, control, exited)
        while True:
            now = time.monotonic()
            if end is None:
                end, detail = guard.judge(running, control, now)
                if end is not None:
                    process.ask_descendants(spare=launch.monitor)
                    give_up_s = now + bounds.end_grace_s
                    # What was said may stay readable; it must not wake the loop for ever.
                    selector.unregister(control)
            elif now >= give_up_s:
                return end, detail
            wake_s = give_up_s if end is not None else guard.next_s(running)
            pause_s = max(0.0, min(wake_s - now, TICK_S_MAX if exited >= 0 else 0.05))
            for key, _ in selector.select(pause_s):
                if key.fileobj == running.output:
                    _read(running, bounds, selector)
                elif key.fileobj is child.stdin:
                    _write(running, selector)
            if _has_exited(child.pid):
                return end or End.EXITED, detail
            process.reap(keep=child.pid)


@contextlib.contextmanager
def _exit_handle(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when the process has ended; -1 where there is no such thing."""
    try:
        handle = os.pidfd_open(pid)
    except (OSError, AttributeError):
        handle = -1
    try:
        yield handle
    finally:
        if handle >= 0:
            os.close(handle)


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _register(selector: selectors.BaseSelector, running: _Running, control: Control, exited: int) -> None:
    stdin = running.child.stdin
    assert stdin is not None  # noqa: S101 - it was asked for as a pipe
    os.set_blocking(running.output, False)
    os.set_blocking(stdin.fileno(), False)
    selector.register(running.output, selectors.EVENT_READ)
    selector.register(control, selectors.EVENT_READ)
    if running.given:
        selector.register(stdin, selectors.EVENT_WRITE)
    else:
        stdin.close()
    if exited >= 0:
        selector.register(exited, selectors.EVENT_READ)


def _read(running: _Running, bounds: Bounds, selector: selectors.BaseSelector | None = None) -> bool:
    """Take one piece of output; whether there may be more."""
    try:
        data = os.read(running.output, READ_BYTES_MAX)
    except BlockingIOError:
        return False
    except OSError:
        data = b""
    if not data:
        running.open = False
        if selector is not None:
            selector.unregister(running.output)
        return False
    running.heard_s = time.monotonic()
    room = max(0, bounds.output_bytes_max - running.output_bytes)
    running.output_bytes += len(data)
    _keep(running, running.redactor.feed(data[:room]))
    return True


def _keep(running: _Running, data: bytes) -> None:
    if data:
        running.log(data)
        running.tail += data
        del running.tail[:-TAIL_BYTES_MAX]


def _drain(running: _Running, bounds: Bounds) -> None:
    """Read what is in the pipe at the end; bounded, since nobody is left to write more."""
    os.set_blocking(running.output, False)
    while running.open and running.output_bytes <= bounds.output_bytes_max and _read(running, bounds):
        pass
    _keep(running, running.redactor.flush())


def _write(running: _Running, selector: selectors.BaseSelector) -> None:
    stdin = running.child.stdin
    assert stdin is not None  # noqa: S101 - it was asked for as a pipe
    try:
        running.given = running.given[os.write(stdin.fileno(), running.given[:READ_BYTES_MAX]) :]
    except BlockingIOError:
        return
    except OSError:
        running.given = memoryview(b"")  # it does not want to read: its own choice
    if not running.given:
        selector.unregister(stdin)
        stdin.close()


class _Guard:
    """Judges the bounds of one program, looking at its tree as seldom as they allow."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._changed_s = 0.0
        self._probe_s = time.monotonic() + DISK_PROBE_S if bounds.disk_bytes_max is not None else float("inf")

    def next_s(self, running: _Running) -> float:
        """When to judge again, at the latest."""
        return min(running.started_s + self._bounds.wall_s_max, self._idle_at(running), self._probe_s)

    def _idle_at(self, running: _Running) -> float:
        if self._bounds.idle_s_max is None:
            return float("inf")
        return max(running.heard_s, self._changed_s) + self._bounds.idle_s_max

    def judge(self, running: _Running, control: Control, now: float) -> tuple[End | None, str]:
        """Which bound is hit now, if any, and what to say about it."""
        bounds = self._bounds
        reason = control.stop_reason()
        if reason is not None:
            return End.STOPPED, reason
        if running.output_bytes > bounds.output_bytes_max:
            return End.OUTPUT, f"more than {bounds.output_bytes_max} bytes of output (output_bytes_max)"
        if now >= running.started_s + bounds.wall_s_max:
            return End.WALL, f"not finished after {bounds.wall_s_max:g} s (wall_s_max)"
        if now >= self._idle_at(running) and not self._tree_changed(now):
            return End.IDLE, f"no output and no change for {bounds.idle_s_max:g} s (idle_s_max)"
        if now >= self._probe_s and bounds.tree is not None and bounds.disk_bytes_max is not None:
            size = measure(bounds.tree).size_bytes
            took = time.monotonic() - now
            self._probe_s = now + max(DISK_PROBE_S, 20 * took)
            if size > bounds.disk_bytes_max:
                return End.DISK, f"the work tree holds {size} bytes, above {bounds.disk_bytes_max} (disk_bytes_max)"
        return None, ""

    def _tree_changed(self, now: float) -> bool:
        bounds = self._bounds
        if bounds.tree is None or bounds.idle_s_max is None:
            return False
        age_s = max(0.0, time.time() - measure(bounds.tree).changed_s)
        self._changed_s = now - age_s
        return age_s < bounds.idle_s_max

"""Running the git program on the forge's repositories, for answers that the API needs at once.

Every call is an argument list without a shell, with a clean environment: no system or user configuration,
no hooks, no prompts, no external diff, no lazy fetches. Output and time are bounded. ``Activity`` counts the
git processes at work on each repository, so that the sweeper never takes a lock from a live one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bzzz.errors import UsageError
from bzzz.forge.embedded.refusal import Refusal

GIT_VERSION_MIN = (2, 38)
"""``git merge-tree --write-tree`` came with 2.38."""

CALL_TIMEOUT_S = 60.0
OUTPUT_BYTES_MAX = 16 * 1024 * 1024

# core.alternateRefsCommand: a push is checked in quarantine, where the repository itself counts as an alternate,
# and git would list refs that the check takes in anyway, by one more git: a tenth of a claim's time.
OPTIONS = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.attributesFile=/dev/null",
    "-c", "core.quotePath=true",
    "-c", "core.alternateRefsCommand=true",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "protocol.allow=never",
    "-c", "receive.autogc=false",
    "-c", "receive.fsckObjects=true",
    "-c", "receive.hideRefs=refs/pull",
    "-c", "receive.advertiseAtomic=true",
    "-c", "uploadpack.allowFilter=true",
    "-c", "uploadpack.allowTipSHA1InWant=true",
    "-c", "uploadpack.allowReachableSHA1InWant=true",
    "-c", "safe.directory=*",
)  # fmt: skip


def environment(**extra: str) -> dict[str, str]:
    """The whole environment of a git process: nothing of the server's own but ``PATH``."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **extra,
    }


class Activity:
    """Counts git processes at work, by repository folder; shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[Path] = Counter()
        self.started = 0

    @contextmanager
    def at_work(self, folder: Path) -> Iterator[None]:
        """Marks one git process on ``folder`` for as long as it may live."""
        with self._lock:
            self._running[folder] += 1
            self.started += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[folder] -= 1
                if self._running[folder] <= 0:
                    del self._running[folder]

    @contextmanager
    def idle(self, folder: Path) -> Iterator[bool]:
        """Whether no git is at work on ``folder``; while the block runs, none of ours starts there."""
        with self._lock:
            yield self._running[folder] == 0

    @property
    def running(self) -> int:
        """Git processes at work now."""
        with self._lock:
            return sum(self._running.values())


@dataclass(frozen=True, slots=True)
class Finished:
    """What a git process left: exit status, output, and the first lines of what it complained of."""

    status: int
    out: bytes
    complaint: str


class Git:
    """The git program, for one forge.

    Raises:
        UsageError: it is missing, or older than ``GIT_VERSION_MIN``.
    """

    def __init__(self, activity: Activity, processes_max: int) -> None:
        program = shutil.which("git")
        if program is None:
            raise UsageError("the git program is not on PATH; install git to run the embedded forge")
        self.program = program
        self.activity = activity
        self._slots = threading.BoundedSemaphore(processes_max)
        said = subprocess.run([program, "version"], capture_output=True, env=environment(), check=False, timeout=10)
        numbers = tuple(int(part) for part in said.stdout.split()[2].split(b".")[:2]) if said.stdout else (0, 0)
        if numbers < GIT_VERSION_MIN:
            wanted = ".".join(map(str, GIT_VERSION_MIN))
            raise UsageError(f"git {wanted} or newer is needed by the embedded forge; {program} is older")

    def command(self, folder: Path, arguments: Sequence[str]) -> list[str]:
        """The argument list of git working on the bare repository ``folder``."""
        return [self.program, *OPTIONS, f"--git-dir={folder}", *arguments]

    def run(
        self,
        folder: Path,
        *arguments: str,
        stdin: bytes = b"",
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        extra: dict[str, str] | None = None,
    ) -> Finished:
        """Run git to its end and give back whatever the end was.

        Raises:
            Refusal: 406 when the output is above ``output_bytes_max``, 503 when it took too long.
        """
        with self._slots, self.activity.at_work(folder):
            process = subprocess.Popen(
                self.command(folder, arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(**(extra or {})),
                cwd=folder,
                start_new_session=True,
            )
            with process:
                timer = threading.Timer(CALL_TIMEOUT_S, process.kill)
                timer.start()
                try:
                    return self._collect(process, stdin, output_bytes_max)
                finally:
                    timer.cancel()
                    if process.poll() is None:
                        process.kill()

    def text(self, folder: Path, *arguments: str, stdin: bytes = b"", extra: dict[str, str] | None = None) -> str:
        """The output of a git command that must succeed, stripped.

        Raises:
            Refusal: 409, with what git said.
        """
        done = self.run(folder, *arguments, stdin=stdin, extra=extra)
        if done.status != 0:
            raise Refusal(409, f"git {arguments[0]}: {done.complaint or 'failed'}")
        return done.out.decode("utf-8", "replace").strip()

    @staticmethod
    def _collect(process: subprocess.Popen[bytes], stdin: bytes, output_bytes_max: int) -> Finished:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise Refusal(500, "git was started without pipes")
        complaints: list[bytes] = []
        stderr = process.stderr
        reader = threading.Thread(target=lambda: complaints.append(stderr.read(8192) + stderr.read()[:0]))
        feeder = threading.Thread(target=_feed, args=(process, stdin))
        reader.start()
        feeder.start()
        out = process.stdout.read(output_bytes_max + 1)
        too_much = len(out) > output_bytes_max
        if too_much:
            process.kill()
            process.stdout.read()
        feeder.join()
        reader.join()
        status = process.wait()
        if too_much:
            raise Refusal(406, f"the answer would be larger than {output_bytes_max} bytes")
        if status < 0:
            raise Refusal(503, "git took too long and was ended; try again")
        complaint = b"".join(complaints).decode("utf-8", "replace").strip().splitlines()
        return Finished(status, out, complaint[0][:300] if complaint else "")


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    try:
        if process.stdin is not None:
            process.stdin.write(data)
            process.stdin.close()
    except BrokenPipeError:
        pass  # git said all it wanted before it read everything

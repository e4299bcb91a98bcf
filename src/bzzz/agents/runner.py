"""The node's side of attempts: spawn a worker for each, feed it its base commit, pass on what it tells.

The worker is spawned first and the repository is fetched while it starts. Its standard input is held open
for as long as the node lives; its death is the worker's order to save and go. An ``AttemptFinished`` is
passed on only when the worker has exited and no process with the attempt's mark is left; a worker that died
without one is replaced here: its tree is committed by the node. Nothing but ``forget`` deletes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bzzz
from bzzz.agents import process
from bzzz.agents.mirror import MirrorStore
from bzzz.agents.recovery import recover_attempt, salvage
from bzzz.agents.sandbox import choose
from bzzz.agents.setting import AgentSettings
from bzzz.agents.spec import EVENT_BYTES_MAX, event_from_line, settings_to_object, spec_to_object, write_whole
from bzzz.agents.tree import remove
from bzzz.core.task import Repository
from bzzz.errors import AgentError, ServiceDenied, ServiceError, ServiceLimited, ServiceMissing
from bzzz.ports import AttemptEvent, AttemptFinished, AttemptProgressed, AttemptSpec, Outcome

EVENTS_MAX = 10_000
STDERR_BYTES_MAX = 256 * 1024
READ_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class _Attempt:
    spec: AttemptSpec
    folder: Path
    worker: asyncio.subprocess.Process
    finished: AttemptFinished | None = None
    unsaved: bool = False
    stop_reason: str = ""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class LineReader:
    """Cuts a stream into lines of at most ``line_bytes_max``; longer ones are dropped and counted."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._data = bytearray()
        self._skipping = False
        self.dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._take(piece)
            if self._skipping:
                self._skipping = False
            else:
                lines.append(bytes(self._data))
            self._data.clear()
        self._take(rest)
        return lines

    def _take(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._data += piece
        if len(self._data) > self._line_bytes_max:
            self._data.clear()
            self._skipping = True
            self.dropped += 1


class ProcessAgentRunner:
    """The ``AgentRunner`` port over worker processes.

    Args:
        settings: see ``AgentSettings``.
        token_for: gives the token for fetching a repository, or ``None``; it reaches git alone.
    """

    def __init__(self, settings: AgentSettings, token_for: Callable[[Repository], str | None]) -> None:
        # Other folders and git's alternates name these, whatever the current folder is then.
        self._settings = dataclasses.replace(settings, folder=settings.folder.resolve())
        self._mirrors = MirrorStore(self._settings, token_for)
        self._attempts: dict[str, _Attempt] = {}
        self._kept: set[str] = set()
        self._events: asyncio.Queue[AttemptEvent] = asyncio.Queue()
        self._counters: Counter[str] = Counter()
        self._closed = False
        self._sandbox_known = False

    async def start(self, spec: AttemptSpec) -> None:
        """Spawn the worker of an attempt; the fetch goes on meanwhile.

        Raises:
            AgentError: no sandbox works here, the id was used before, the folder cannot be written, the
                runner is closed, or the worker could not be spawned.
        """
        if self._closed:
            raise AgentError("no attempt is started any more: the node is stopping")
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", spec.attempt_id):
            raise AgentError(f"attempt id {spec.attempt_id!r} cannot name a folder")
        if not self._sandbox_known:
            sandbox = await asyncio.to_thread(choose, self._settings)
            self._settings = dataclasses.replace(self._settings, sandbox=sandbox.name)
            self._sandbox_known = True
        folder = self._settings.attempts / spec.attempt_id
        value = {"spec": spec_to_object(spec), "settings": settings_to_object(self._settings)}
        try:
            folder.mkdir(parents=True)
            folder.chmod(0o700)
            write_whole(folder / "spec.json", json.dumps(value).encode(), durable=False)
            worker = await self._spawn(spec, folder)
        except FileExistsError:
            raise AgentError(f"attempt {spec.attempt_id} was started before: {folder} exists") from None
        except OSError as error:
            raise AgentError(f"the worker of attempt {spec.attempt_id} could not be spawned: {error}") from error
        attempt = _Attempt(spec, folder, worker)
        self._attempts[spec.attempt_id] = attempt
        self._counters["attempts"] += 1
        attempt.tasks = [asyncio.create_task(self._attend(attempt)), asyncio.create_task(self._bring_base(attempt))]

    async def _spawn(self, spec: AttemptSpec, folder: Path) -> asyncio.subprocess.Process:
        # -S: the worker needs the standard library and Bzzz alone; -P: never import from its folder.
        return await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-P", "-m", "bzzz.agents.worker", str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(spec),
            cwd=folder,
            start_new_session=True,
        )  # fmt: skip

    def _environment(self, spec: AttemptSpec) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(bzzz.__file__).resolve().parent.parent),
            process.MARK_ATTEMPT: spec.attempt_id,
            process.MARK_NODE: self._settings.node,
        }

    async def _bring_base(self, attempt: _Attempt) -> None:
        repository = attempt.spec.repository
        self._put(AttemptProgressed(attempt.spec.attempt_id, "fetch", f"{repository.key} {repository.branch}"))
        try:
            base = await self._mirrors.fetch(repository)
            order: dict[str, object] = {"base": base.commit, "mirror": str(base.mirror)}
            write_whole(attempt.folder / "base.json", json.dumps(order).encode(), durable=False)
        except ServiceError as error:
            order = self._failed(error)
        except OSError as error:
            order = {"failed": f"{attempt.folder}: {error}", "outcome": Outcome.OUT_OF_BUDGET}
        await self._order(attempt, order)

    def _failed(self, error: ServiceError) -> dict[str, object]:
        """A fetch that failed says nothing about the task: neither way costs a strike."""
        if isinstance(error, ServiceDenied | ServiceMissing):
            return {"failed": str(error), "outcome": Outcome.AGENT_MISSING}
        asked_s = error.retry_after_s if isinstance(error, ServiceLimited) else None
        retry_after_s = asked_s or self._settings.retry_after_s
        return {"failed": str(error), "outcome": Outcome.SERVICE_FAILED, "retry_after_s": retry_after_s}

    async def _order(self, attempt: _Attempt, order: Mapping[str, object]) -> None:
        stdin = attempt.worker.stdin
        if stdin is None or stdin.is_closing():
            return
        with contextlib.suppress(OSError):
            stdin.write(json.dumps(order).encode() + b"\n")
            await stdin.drain()

    async def _attend(self, attempt: _Attempt) -> None:
        """Follow one worker to its end, and beyond."""
        worker = attempt.worker
        errors = asyncio.create_task(_drain_errors(worker, attempt.folder / "worker.err"))
        lines = LineReader(EVENT_BYTES_MAX)
        assert worker.stdout is not None  # noqa: S101 - it was asked for as a pipe
        while data := await worker.stdout.read(READ_BYTES_MAX):
            for line in lines.feed(data):
                self._hear(attempt, line)
        self._counters["events_dropped_oversized"] += lines.dropped
        status = await worker.wait()
        await errors
        attempt.tasks[1].cancel()  # it may still fetch for an attempt that is over
        finished = await self._end(attempt, status)
        if attempt.unsaved:
            self._kept.add(attempt.spec.attempt_id)
        del self._attempts[attempt.spec.attempt_id]
        self._put(finished)

    async def _end(self, attempt: _Attempt, status: int) -> AttemptFinished:
        """End what the worker left, and do what it no longer could."""
        await asyncio.to_thread(process.end_marked, self._settings.node, attempt.spec.attempt_id)
        if attempt.finished is not None:
            return attempt.finished
        self._counters["workers_died"] += 1
        outcome = Outcome.STOPPED if attempt.stop_reason else Outcome.CRASHED
        log = attempt.folder / "worker.err"
        said = attempt.stop_reason or f"the worker ended with status {status} (see {log})"
        try:
            finished, attempt.unsaved = await asyncio.to_thread(
                salvage, attempt.folder, self._settings, outcome, said
            )
        except Exception as error:  # whatever is wrong with its files, its end must be told
            attempt.unsaved = True
            said += f"; its work could not be saved and stays in {attempt.folder}: {error!r}"
            finished = AttemptFinished(attempt.spec.attempt_id, outcome, said)
        return finished

    def _hear(self, attempt: _Attempt, line: bytes) -> None:
        try:
            event, more = event_from_line(line)
        except ValueError:
            self._counters["events_dropped_malformed"] += 1
            return
        if event.attempt_id != attempt.spec.attempt_id:
            self._counters["events_dropped_foreign"] += 1
        elif isinstance(event, AttemptFinished):
            attempt.finished = event
            attempt.unsaved = bool(more.get("unsaved"))
        else:
            self._put(event)

    def _put(self, event: AttemptEvent) -> None:
        """Queue an event; what only shows progress gives way when nobody reads."""
        if isinstance(event, AttemptProgressed) and self._events.qsize() >= EVENTS_MAX:
            self._counters["events_dropped_overflow"] += 1
            return
        self._events.put_nowait(event)

    async def stop(self, attempt_id: str, reason: str) -> None:
        """Tell a worker to save and end; one that does not within ``stop_s_max`` is killed."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.stop_reason:
            return
        attempt.stop_reason = reason or "told to stop"
        await self._order(attempt, {"stop": attempt.stop_reason})
        attempt.tasks.append(asyncio.create_task(self._insist(attempt)))

    async def _insist(self, attempt: _Attempt) -> None:
        done, _ = await asyncio.wait(attempt.tasks[:1], timeout=self._settings.stop_s_max)
        if not done and attempt.worker.returncode is None:
            self._counters["workers_killed"] += 1
            attempt.worker.kill()

    async def receive(self) -> AttemptEvent:
        """The next event of any attempt."""
        return await self._events.get()

    async def recover(self) -> Sequence[AttemptFinished]:
        """End what a dead node left and tell its attempts; to be called before the first ``start``."""
        return await asyncio.to_thread(self._recover)

    def _recover(self) -> list[AttemptFinished]:
        self._mirrors.sweep()
        told = []
        folders = sorted(self._settings.attempts.iterdir()) if self._settings.attempts.is_dir() else []
        for folder in folders:
            if folder.name in self._attempts or not folder.is_dir():
                continue
            finished, unsaved = recover_attempt(folder, self._settings)
            if unsaved:
                self._kept.add(folder.name)
            self._counters["attempts_recovered"] += 1
            told.append(finished)
        return told

    async def forget(self, attempt_id: str) -> None:
        """Delete an attempt's folder, unless it runs or holds work that could not be saved."""
        folder = self._settings.attempts / attempt_id
        if (
            attempt_id in self._attempts
            or folder.parent != self._settings.attempts
            or attempt_id in {"", ".", ".."}
        ):
            return
        if attempt_id in self._kept:
            self._counters["attempts_kept"] += 1
            detail = (
                f"{folder} holds work that could not be saved, and is kept; the next start of the node tries again"
            )
            self._put(AttemptProgressed(attempt_id, "commit", detail))
            return
        try:
            await asyncio.to_thread(remove, folder)
        except (OSError, AgentError) as error:
            self._counters["attempts_kept"] += 1
            self._put(AttemptProgressed(attempt_id, "commit", f"{folder} could not be deleted: {error}"))

    async def close(self) -> None:
        """Stop all attempts and wait until their work is saved; their last events can still be received."""
        self._closed = True
        attempts = list(self._attempts.values())
        for attempt in attempts:
            await self.stop(attempt.spec.attempt_id, "the node is stopping")
        for attempt in attempts:
            await asyncio.gather(*attempt.tasks, return_exceptions=True)
        await self._mirrors.close()

    def counters(self) -> Mapping[str, int]:
        """Counts since start: attempts, workers that died or were killed, fetches, events dropped by reason."""
        return {**self._counters, **self._mirrors.counters}


async def _drain_errors(worker: asyncio.subprocess.Process, path: Path) -> None:
    """Keep the beginning of what a worker says on its error output, and read the rest away."""
    assert worker.stderr is not None  # noqa: S101 - it was asked for as a pipe
    room = STDERR_BYTES_MAX
    while data := await worker.stderr.read(READ_BYTES_MAX):
        if room > 0:
            with contextlib.suppress(OSError), path.open("ab") as file:
                file.write(data[:room])
        room -= len(data)

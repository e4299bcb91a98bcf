"""An agent runner without processes, for tests of what stands above: each attempt follows a script.

It keeps the promises of the port (one finish an attempt, stop answered by a finish, unknown ids ignored), so
it passes the same conformance suite; what an agent would do is given by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bzzz.errors import AgentError
from bzzz.ports import AttemptEvent, AttemptFinished, AttemptProgressed, AttemptSpec, AttemptStarted, Outcome


@dataclass(slots=True)
class Script:
    """What one attempt does: it starts, tells ``progress``, waits for ``gate``, and ends as ``finish`` says.

    ``finish`` gets the attempt's id in place of its own. ``stopped`` is its end when it is told to stop
    (the default: ``STOPPED`` with the work of ``finish``). ``gate`` is open unless the test gives one.
    """

    finish: AttemptFinished
    progress: Sequence[tuple[str, str]] = ()
    gate: asyncio.Event | None = None
    stopped: AttemptFinished | None = None
    fails_to_start: str = ""


@dataclass(slots=True)
class _Running:
    script: Script
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""


class MemoryAgentRunner:
    """The ``AgentRunner`` port, scripted.

    Args:
        script_for: gives what an attempt does.
        left: what ``recover`` tells.
    """

    def __init__(self, script_for: Callable[[AttemptSpec], Script], left: Sequence[AttemptFinished] = ()) -> None:
        self._script_for = script_for
        self._left = list(left)
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[AttemptEvent] = asyncio.Queue()
        self._closed = False
        self.started: list[AttemptSpec] = []
        self.forgotten: list[str] = []

    async def start(self, spec: AttemptSpec) -> None:
        """Begin the script.

        Raises:
            AgentError: the script says so, the id was used before, or the runner is closed.
        """
        if self._closed:
            raise AgentError("no attempt is started any more: the node is stopping")
        if any(spec.attempt_id == known.attempt_id for known in self.started):
            raise AgentError(f"attempt {spec.attempt_id} was started before")
        script = self._script_for(spec)
        if script.fails_to_start:
            raise AgentError(script.fails_to_start)
        self.started.append(spec)
        running = _Running(script)
        self._running[spec.attempt_id] = running
        task = asyncio.create_task(self._follow(spec, running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, spec: AttemptSpec, running: _Running) -> None:
        script = running.script
        self._events.put_nowait(AttemptStarted(spec.attempt_id, str(spec.agent.get("kind")), 0))
        for phase, detail in script.progress:
            self._events.put_nowait(AttemptProgressed(spec.attempt_id, phase, detail))
        finish = script.finish
        if script.gate is not None:
            waits = [asyncio.create_task(event.wait()) for event in (script.gate, running.stop)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if running.stop.is_set():
            work = script.finish.work
            finish = script.stopped or AttemptFinished(spec.attempt_id, Outcome.STOPPED, running.reason, work)
        del self._running[spec.attempt_id]
        self._events.put_nowait(replace(finish, attempt_id=spec.attempt_id))

    async def stop(self, attempt_id: str, reason: str) -> None:
        """End an attempt's script as stopped."""
        running = self._running.get(attempt_id)
        if running is not None:
            running.reason = running.reason or reason
            running.stop.set()

    async def receive(self) -> AttemptEvent:
        """The next event."""
        return await self._events.get()

    async def recover(self) -> Sequence[AttemptFinished]:
        """What the test said was left, once."""
        left, self._left = self._left, []
        return left

    async def forget(self, attempt_id: str) -> None:
        """Note that it was forgotten."""
        self.forgotten.append(attempt_id)

    async def close(self) -> None:
        """Stop all."""
        self._closed = True
        for attempt_id in list(self._running):
            await self.stop(attempt_id, "the node is stopping")
        await asyncio.gather(*self._tasks, return_exceptions=True)

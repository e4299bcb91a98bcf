"""The node: a core and its shells on one asyncio loop.

Every input is one call of ``step`` on this loop, so the core needs no lock. Effects are carried out in
order: what must be durable is written before anything after it begins, and where that fails nothing that
relies on it is done; everything that waits runs as a task of its own and ends in an event. If a shell, or
the core, breaks in a way that nobody foresaw, the node says so and goes on with the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from bzzz.core.effect import (
    ConfirmTask,
    DeliverWork,
    Effect,
    FindRepositories,
    Finish,
    Forget,
    JoinTopic,
    KeepRepositories,
    LeaveTopic,
    ListTasks,
    Notice,
    OpenPull,
    ProbePeer,
    Publish,
    ReadClaim,
    Remember,
    Report,
    SaveWork,
    StartAttempt,
    StopAttempt,
    SwapClaim,
)
from bzzz.core.event import AttemptEnded, Event, RepositoryChanged, Started, StopAsked, SwapEnd, SwapEnded, Ticked
from bzzz.core.node import NodeCore
from bzzz.core.profile import Policy, Profile
from bzzz.core.task import Repository, TaskId
from bzzz.errors import BzzzError, TransportError
from bzzz.ports import AttemptFinished
from bzzz.runtime.attempt_shell import AttemptShell
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.failure import failure_event
from bzzz.runtime.ledger_shell import LedgerShell
from bzzz.runtime.mesh_shell import MeshShell
from bzzz.runtime.outbox import ATTEMPTED, Outbox
from bzzz.runtime.shells import Shells

HIVE_STREAM_RETRY_S = 1.0
HIVE_STREAM_RETRY_S_MAX = 60.0
LOOP_RETRY_S = 1.0
LOOP_RETRY_S_MAX = 60.0
STOP_S_MAX = 25.0
LAST_WORDS_S_MAX = 2.0
CAPTURES_WAITING_MAX = 1_000
"""Above so many reports that wait, what attempts show of themselves is dropped, counted; reports never are."""


class Node:
    """One running node.

    Args:
        profile: who this node is; ``incarnation`` comes from the journal.
        policy: its rules.
        shells: its adapters, not started yet.
        events: where it tells what happens.
    """

    def __init__(self, profile: Profile, policy: Policy, shells: Shells, events: EventLog) -> None:
        self.core = NodeCore(profile, policy)
        self.events = events
        self._shells = shells
        self._clock = shells.clock
        self.mesh = MeshShell(shells.transport, profile, clock=shells.clock, events=events, feed=self.feed)
        self.attempts = AttemptShell(shells, events, profile.incarnation, self._find)
        self._ledger = LedgerShell(
            shells, events, label=policy.label, find=self._find, works_of=self.attempts.works_of
        )
        self.outbox = Outbox(shells, self._find, events)
        self.counters: Counter[str] = Counter()
        self.started_ms = shells.clock.now_ms()
        self.finished = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._confirming: dict[TaskId, ConfirmTask | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._known = {repository.key: repository for repository in shells.journal.repositories()}
        self._carry: Mapping[type, Callable[[Any], None]] = self._carriers()

    # --- life -------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set and everything is given back, or ``STOP_S_MAX`` later.

        Raises:
            TransportError: the mesh could not be started.
        """
        loops: list[asyncio.Task[None]] = []
        try:
            recovered = await self.attempts.recover(self._shells.journal.remembered(), self._capture)
            await self._shells.transport.start()
            transport = self._shells.transport
            self.events.tell("started", peer=transport.peer_id, addresses=list(transport.addresses))
            if not self.has_hive and not self._known:
                text = "no Hive is set, so there are no repositories to work on; set hive.url"
                self.events.tell("notice", level="warning", text=text)
            loops += [asyncio.create_task(self._guarded(name, loop)) for name, loop in self._loops()]
            self.feed(Started(tuple(self._known.values()), recovered))
            await stop.wait()
            await self._give_back()
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            for task in [*loops, *self._tasks]:
                task.cancel()
            await asyncio.gather(*loops, *self._tasks, return_exceptions=True)
            await self._close()

    @property
    def closed(self) -> bool:
        """Whether this node has ended: its journal and its adapters are, or are being, closed."""
        return self._closed

    @property
    def has_hive(self) -> bool:
        """Whether repositories are discovered from a Hive."""
        return self._shells.hive is not None

    def now_ms(self) -> int:
        """The clock that the core's times are read from."""
        return self._clock.now_ms()

    def _loops(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("mesh out", self.mesh.run_outgoing),
            ("mesh in", self._incoming),
            ("attempts", self._attempt_events),
            ("outbox", self.outbox.run),
        ]
        if self._shells.hive is not None:
            loops.append(("hive stream", self._hive_changes))
        return loops

    async def _give_back(self) -> None:
        self.feed(StopAsked())
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self.finished.wait()
        except TimeoutError:
            self.events.tell("stop_overdue", level="warning", text="claims could not all be given back in time")
        last_words: tuple[Callable[[], Awaitable[object]], ...] = (self.mesh.drain, self.outbox.deliver_once)
        for say in last_words:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S_MAX):
                    await say()

    async def _close(self) -> None:
        shells = self._shells
        closers = [shells.runner.close(), shells.transport.stop(), shells.ledger.close(), shells.forge.close()]
        if shells.hive is not None:
            closers.append(shells.hive.close())
        for result in await asyncio.gather(*closers, return_exceptions=True):
            if isinstance(result, BaseException):
                self.events.tell("close_failed", level="warning", text=str(result))
        shells.journal.close()
        self.events.tell("stopped")
        self.events.close()

    # --- the core ---------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the core take in one event, and carry out what it wants. Nothing happens once it has ended."""
        if self._closed:
            return
        try:
            effects = self.core.step(self._clock.now_ms(), event)
        except Exception as error:  # a bug in the core; what it wanted before that is wanted still
            self._broken("broken_steps", f"{type(event).__name__}: {type(error).__name__}: {error}")
            effects = self.core.context.effects
        unwritten: set[TaskId] = set()
        for effect in effects:
            if isinstance(effect, SwapClaim | DeliverWork) and effect.task in unwritten:
                self._refuse_unwritten(effect)
                continue
            try:
                self._carry[type(effect)](effect)
            except Exception as error:  # the journal's disk is full, say; the other effects go on
                self._broken("broken_effects", f"{type(effect).__name__}: {type(error).__name__}: {error}")
                if isinstance(effect, Remember):
                    unwritten.add(effect.task.id)
        self._set_timer()

    def _refuse_unwritten(self, effect: SwapClaim | DeliverWork) -> None:
        # What the journal does not know must not be written to the ledger: a crash would forget it.
        detail = "this node's journal cannot be written"
        ended = SwapEnded(effect.task, effect.record.nonce, SwapEnd.UNAVAILABLE, None, detail)
        asyncio.get_running_loop().call_soon(self.feed, ended)

    def _broken(self, counter: str, detail: str) -> None:
        self.counters[counter] += 1
        self.events.tell("broken", level="error", text=detail)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self.core.next_deadline_ms()
        if deadline_ms is not None:
            wait_s = max(0.0, (deadline_ms - self._clock.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.feed, Ticked())

    def _carriers(self) -> Mapping[type, Callable[[Any], None]]:
        ledger, attempts = self._ledger, self.attempts
        journal = self._shells.journal
        return {
            Publish: self.mesh.send,
            JoinTopic: self.mesh.send,
            LeaveTopic: self.mesh.send,
            ProbePeer: lambda effect: self._begin(effect, self.mesh.probe(effect)),
            FindRepositories: self._find_repositories,
            KeepRepositories: self._keep_repositories,
            ListTasks: lambda effect: self._begin(effect, ledger.list_tasks(effect)),
            ConfirmTask: self._confirm,
            Remember: lambda effect: journal.remember(effect.task, effect.record),
            Forget: self._forget,
            SwapClaim: lambda effect: self._begin(effect, ledger.swap(effect)),
            DeliverWork: lambda effect: self._begin(effect, ledger.deliver(effect)),
            ReadClaim: lambda effect: self._begin(effect, ledger.read_claim(effect)),
            StartAttempt: self._start_attempt,
            StopAttempt: lambda effect: self._begin(effect, self._quiet(attempts.stop(effect))),
            SaveWork: lambda effect: self._begin(effect, ledger.save_work(effect)),
            OpenPull: lambda effect: self._begin(effect, ledger.open_pull(effect)),
            Report: self._report,
            Notice: self._notice,
            Finish: lambda _: self.finished.set(),
        }

    def _begin(self, effect: Effect, work: Coroutine[Any, Any, Event | None]) -> None:
        task = asyncio.create_task(self._finish(effect, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, effect: Effect, work: Coroutine[Any, Any, Event | None]) -> None:
        try:
            event = await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug in an adapter must not end the node
            detail = f"{type(effect).__name__}: {type(error).__name__}: {error}"
            self._broken("broken_effects", detail)
            event = failure_event(effect, detail)
        if event is not None:
            self.feed(event)

    async def _quiet(self, work: Coroutine[Any, Any, None]) -> None:
        await work

    def _confirm(self, effect: ConfirmTask) -> None:
        """Read an issue, or once more after the reading that is under way: peers' hints cost no more than that."""
        if effect.task not in self._confirming:
            self._confirming[effect.task] = None
            self._begin(effect, self._confirm_now(effect))
            return
        waiting = self._confirming[effect.task]
        if waiting is None or not waiting.read_claim:
            self._confirming[effect.task] = effect
        self.counters["readings_joined"] += 1

    async def _confirm_now(self, effect: ConfirmTask) -> Event:
        try:
            return await self._ledger.confirm(effect)
        finally:
            again = self._confirming.pop(effect.task)
            if again is not None and not self._closed:
                asyncio.get_running_loop().call_soon(self._confirm, again)

    async def _guarded(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop; one that breaks is begun again, for without it the node would be deaf or mute."""
        wait_s = LOOP_RETRY_S
        while True:
            try:
                await loop()
            except Exception as error:
                self._broken("broken_loops", f"{name}: {type(error).__name__}: {error}")
            else:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(LOOP_RETRY_S_MAX, wait_s * 2)

    # --- carrying out -----------------------------------------------------------------------------------

    def _find(self, key: str) -> Repository | None:
        # Work that is held in a repository goes on when Hive withdraws it.
        return self.core.context.repositories.get(key) or self._known.get(key)

    def _find_repositories(self, effect: FindRepositories) -> None:
        if self._shells.hive is not None:
            self._begin(effect, self._ledger.find_repositories(self._shells.hive))

    def _keep_repositories(self, effect: KeepRepositories) -> None:
        listed: dict[str, Repository] = {}
        for repository in effect.repositories[: self.core.context.policy.repositories_max]:
            listed.setdefault(repository.key, repository)  # as the core does: the first entry counts
        # Of those that were withdrawn, as many as may be listed are remembered, for what is held there.
        withdrawn = [key for key in self._known if key not in listed]
        for key in withdrawn[: -self.core.context.policy.repositories_max]:
            del self._known[key]
        self._known.update(listed)
        self._shells.journal.keep_repositories(tuple(listed.values()))

    def _forget(self, effect: Forget) -> None:
        self._shells.journal.forget(effect.task, effect.epoch)
        self._begin(effect, self._quiet(self.attempts.forget(effect.task, effect.epoch)))

    def _start_attempt(self, effect: StartAttempt) -> None:
        self._begin(effect, self.attempts.start(effect, self._ledger))

    def _report(self, effect: Report) -> None:
        data = dict(effect.data)
        if effect.kind == "delivered":
            # After a restart it is not known any more; the delivery stands all the same.
            data["check"] = self.attempts.checks.get((effect.task, effect.epoch), {})
        self._shells.journal.enqueue(effect.task, effect.epoch, effect.kind, data)
        self.events.tell("report", task=str(effect.task), epoch=effect.epoch, report=effect.kind, **effect.data)
        self.outbox.wake()

    def _notice(self, effect: Notice) -> None:
        task = {} if effect.task is None else {"task": str(effect.task)}
        self.events.tell("notice", level=effect.level, text=effect.text, **task)

    # --- what comes by itself ---------------------------------------------------------------------------

    async def _incoming(self) -> None:
        with contextlib.suppress(TransportError):
            await self.mesh.run_incoming()

    async def _attempt_events(self) -> None:
        while True:
            told = await self._shells.runner.receive()
            event = self.attempts.translate(told)
            if isinstance(event, AttemptEnded) and isinstance(told, AttemptFinished):
                self._capture(event.task, event.epoch, told)
            if event is not None:
                self.feed(event)

    def _capture(self, task: TaskId, epoch: int, finished: AttemptFinished) -> None:
        """Keep what an attempt shows for Hive; the outbox brings it there, once for each attempt."""
        if not (self.has_hive and finished.shown):
            return
        if self._shells.journal.outbox_length() >= CAPTURES_WAITING_MAX:
            self.counters["captures_dropped"] += 1
            return
        data = {
            **finished.shown,
            "attempt_id": finished.attempt_id,
            "outcome": finished.outcome.value,
            "summary": finished.summary,
            "usage": dict(finished.usage),
        }
        try:
            self._shells.journal.enqueue(task, epoch, f"{ATTEMPTED}{finished.attempt_id}", data)
        except Exception as error:  # a full disk: the attempt's end counts for more than what is told of it
            self._broken("broken_effects", f"capture: {type(error).__name__}: {error}")
        self.outbox.wake()

    async def _hive_changes(self) -> None:
        hive = self._shells.hive
        wait_s = HIVE_STREAM_RETRY_S
        while hive is not None:
            try:
                repository = await hive.changes()
            except BzzzError:
                # Polling goes on; that Hive is away is told by the reading of repositories.
                self.counters["hive_stream_failures"] += 1
                await asyncio.sleep(wait_s)
                wait_s = min(HIVE_STREAM_RETRY_S_MAX, wait_s * 2)
            else:
                if repository:  # an opened stream alone proves little: it may be cut at once again
                    wait_s = HIVE_STREAM_RETRY_S
                self.feed(RepositoryChanged(repository))

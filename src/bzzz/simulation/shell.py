"""One simulated machine: its disk, its process with a real core in it, and the carrying out of effects.

The disk (journal, attempts' folders, the start count) outlives the process. A paused process takes nothing
in, and its timers fire late. Every answer is tied to the life of the process that asked; what was sent to
the ledger is not, and may land after its sender is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.node import NodeCore
from bzzz.core.outcome import Outcome
from bzzz.core.profile import Profile
from bzzz.core.record import ClaimRecord
from bzzz.core.task import Repository, Task, TaskId
from bzzz.simulation.flaw import spoil

if TYPE_CHECKING:
    from bzzz.simulation.world import World

INBOX_EVENTS_MAX = 20_000

_CAPABILITIES = (
    ("code-generation", "debugging"),
    ("reasoning", "documentation"),
    ("code-analysis", "testing"),
    ("code-generation", "devops"),
    ("general",),
)


@dataclass(slots=True)
class Folder:
    """What the attempts of one claim left on the disk: pieces of work, and how the newest attempt ended."""

    pieces: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    commit: str | None = None


@dataclass(slots=True)
class Attempt:
    """A running agent."""

    task: TaskId
    epoch: int
    life: int
    stopping: bool = False


class Shell:
    """One machine. ``core`` is there while its process lives."""

    def __init__(self, world: World, place: int) -> None:
        rng = world.rng
        self._world = world
        self.place = place
        self.peer = f"peer-{place:04}"
        self.addresses = (f"/ip4/10.0.{place // 250}.{place % 250 + 1}/tcp/4001/p2p/{self.peer}",)
        self.max_tasks = rng.randint(1, 3)
        self.incarnation = 0
        self.life = 0
        self.core: NodeCore | None = None
        self.host_up = True
        self.paused = False
        self.paused_since_ms = 0
        self.attentive_since_ms = 0
        self.gone_for_good = False
        self.fuse: int | None = None
        self.journal: dict[tuple[TaskId, int], tuple[Task, ClaimRecord]] = {}
        self.folders: dict[tuple[TaskId, int], Folder] = {}
        self.repositories: tuple[Repository, ...] = ()
        self.attempts: dict[tuple[TaskId, int], Attempt] = {}
        self.inbox_dropped = 0
        self.steps = 0
        self._inbox: list[ev.Event] = []
        self._serial = 0
        self._wake_ms: int | None = None
        self._clock_base_ms = 0
        self._clock_start_ms = rng.randint(1_000, 10_000_000)
        self.drift_ppm = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            fx.FindRepositories: self._find_repositories,
            fx.KeepRepositories: self._keep_repositories,
            fx.ListTasks: self._list_tasks,
            fx.Publish: self._publish,
            fx.JoinTopic: _nothing,
            fx.LeaveTopic: _nothing,
            fx.ProbePeer: self._probe_peer,
            fx.ConfirmTask: self._confirm_task,
            fx.Remember: self._remember,
            fx.Forget: self._forget,
            fx.SwapClaim: self._swap_claim,
            fx.DeliverWork: self._deliver_work,
            fx.ReadClaim: self._read_claim,
            fx.StartAttempt: self._start_attempt,
            fx.StopAttempt: self._stop_attempt,
            fx.SaveWork: self._save_work,
            fx.OpenPull: self._open_pull,
            fx.Report: _nothing,
            fx.Notice: self._notice,
            fx.Finish: self._finish,
        }

    # --- the process ------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the process is there, paused or not."""
        return self.core is not None and self.host_up

    @property
    def attentive(self) -> bool:
        """Whether the process is there and takes things in."""
        return self.alive and not self.paused

    def start(self) -> None:
        """Start the process with a higher incarnation and what the disk holds."""
        if self.core is not None or not self.host_up:
            return
        world = self._world
        self.life += 1
        self.attentive_since_ms = world.now_ms
        self.incarnation += 1
        self.paused = False
        self.fuse = None
        self._inbox.clear()
        self._wake_ms = None
        profile = Profile(
            peer=self.peer,
            agent=f"agent-{self.place}",
            incarnation=self.incarnation,
            seed=f"{world.seed}/{self.place}/{self.life}",
            capabilities=_CAPABILITIES[self.place % len(_CAPABILITIES)],
            max_tasks=self.max_tasks,
            version="simulated",
        )
        self.core = NodeCore(profile, world.policy)
        spoil(self.core, world.flaw)
        world.network.attention_changed(self.place)
        self.trace("starts", f"incarnation {self.incarnation}")
        self.receive(ev.Started(self.repositories, tuple(self._recovered())))

    def crash(self) -> None:
        """End the process at once; its agents end now, or finish alone before the next start reaps them."""
        if self.core is None:
            return
        rng = self._world.rng
        self.trace("crashes")
        self._end_process()
        for (task, epoch), attempt in sorted(self.attempts.items(), key=lambda item: item[0]):
            folder = self.folders.setdefault((task, epoch), Folder())
            luck = rng.random()
            if luck < 0.3:
                self._make_piece(attempt, folder)
                folder.outcome, folder.commit = Outcome.PROVED, folder.pieces[-1]
            else:
                if luck < 0.7:
                    self._make_piece(attempt, folder)
                folder.outcome = rng.choice((None, Outcome.STOPPED, Outcome.CRASHED))
                folder.commit = None
        self.attempts.clear()
        self._world.network.process_died(self.place)

    def _end_process(self) -> None:
        self.life += 1
        self.core = None
        self.paused = False
        self._inbox.clear()
        self._wake_ms = None

    def pause(self) -> None:
        """Stop the process where it is (SIGSTOP)."""
        if self.core is not None and not self.paused:
            self.trace("is paused")
            self.paused = True
            self.paused_since_ms = self._world.now_ms
            self._world.network.attention_changed(self.place)

    def resume(self) -> None:
        """Let a paused process go on: what waited is taken in now, and timers fire late."""
        if self.core is None or not self.paused:
            return
        self.trace("goes on")
        self.paused = False
        self.attentive_since_ms = self._world.now_ms
        self._world.network.attention_changed(self.place)
        waiting, self._inbox = self._inbox, []
        if self._world.rng.random() < 0.5:
            self.receive(ev.Ticked())
        for event in waiting:
            self.receive(event)
        self.receive(ev.Ticked())

    def set_host(self, up: bool) -> None:
        """Power the machine off or on; its process ends with it."""
        if up == self.host_up:
            return
        if not up:
            self.crash()
        self.host_up = up
        self.trace("host goes up" if up else "host goes down")
        self._world.network.touch_all(self.place)

    def receive(self, event: ev.Event) -> None:
        """Give the process an event, or keep it until it is resumed."""
        core = self.core
        if core is None:
            return
        if self.paused:
            if len(self._inbox) < INBOX_EVENTS_MAX:
                self._inbox.append(event)
            else:
                self.inbox_dropped += 1
            return
        world = self._world
        self.steps += 1
        try:
            effects = core.step(self.clock_ms(), event)
        except Exception as error:
            world.violate("core", getattr(event, "task", None), f"{self.peer}: {event!r} raised {error!r}")
            self.crash()
            return
        if world.tracing:
            self._trace_step(event, effects)
        world.mix(self.place, type(event), len(effects))
        life = self.life
        for one in effects:
            if self.fuse is not None:
                if self.fuse <= 0:
                    self.fuse = None
                    self.crash()
                    return
                self.fuse -= 1
            self._handlers[type(one)](one)
            if self.life != life:
                return
        self._arm()

    # --- time -------------------------------------------------------------------------------------------

    def clock_ms(self) -> int:
        """The machine's own monotonic clock."""
        passed = self._world.now_ms - self._clock_base_ms
        return self._clock_start_ms + passed + passed * self.drift_ppm // 1_000_000

    def set_clock(self, drift_ppm: int, jump_ms: int) -> None:
        """Let the clock run differently from now on, and jump forward now."""
        self._clock_start_ms = self.clock_ms() + jump_ms
        self._clock_base_ms = self._world.now_ms
        self.drift_ppm = drift_ppm
        self._wake_ms = None
        if self.core is not None and not self.paused:
            self._arm()

    def _arm(self) -> None:
        core = self.core
        deadline = core.next_deadline_ms() if core is not None else None
        if deadline is None:
            return
        wait = max(0, deadline - self.clock_ms())
        if self.drift_ppm:
            wait = wait * 1_000_000 // (1_000_000 + self.drift_ppm) + 1
        at_ms = self._world.now_ms + wait
        if self._wake_ms is None or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            self._world.at(at_ms, self._wake, self.life, at_ms)

    def _wake(self, life: int, at_ms: int) -> None:
        if life != self.life or at_ms != self._wake_ms:
            return
        self._wake_ms = None
        if self.core is None or self.paused:
            return
        deadline = self.core.next_deadline_ms()
        if deadline is not None and deadline <= self.clock_ms():
            self.receive(ev.Ticked())
        else:
            self._arm()

    # --- answers ----------------------------------------------------------------------------------------

    def _later(self, delay_ms: int, event: ev.Event) -> None:
        self._world.after(delay_ms, self._answer, self.life, event)

    def _answer(self, life: int, event: ev.Event) -> None:
        if life == self.life:
            self.receive(event)

    def _trouble(self) -> tuple[str, int | None, int] | None:
        """If the forge does not answer as it should now: how, when to come again, after how long."""
        world = self._world
        if not world.network.reaches_forge(self.place):
            return "no answer", None, world.rng.choice((30, 5_000))
        if world.trouble.errors and world.rng.random() < world.trouble.errors:
            retry_after = world.rng.choice((None, None, 5_000, 60_000))
            return ("answered 429" if retry_after else "answered 502"), retry_after, world.rng.randint(10, 200)
        return None

    # --- Hive, forge, mesh ------------------------------------------------------------------------------

    def _find_repositories(self, _: fx.FindRepositories) -> None:
        world = self._world
        if world.trouble.hive_away or not world.network.reaches_forge(self.place):
            self._later(50, ev.RepositoriesNotFound("Hive does not answer"))
        else:
            self._later(world.rng.randint(5, 50), ev.RepositoriesFound(world.repositories))

    def _keep_repositories(self, effect: fx.KeepRepositories) -> None:
        self.repositories = effect.repositories

    def _list_tasks(self, effect: fx.ListTasks) -> None:
        trouble = self._trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._later(delay, ev.TasksNotListed(effect.repository, detail, retry_after))
            return
        world = self._world
        listed = ev.TasksListed(effect.repository, world.forge.open_tasks(), world.ledger.claims())
        self._later(world.rng.randint(20, 400), listed)

    def _publish(self, effect: fx.Publish) -> None:
        self._world.network.publish(self, effect.message)

    def _probe_peer(self, effect: fx.ProbePeer) -> None:
        target = self._world.by_peer.get(effect.peer)
        if target is None:
            self._later(PROBE_UNKNOWN_MS, ev.ProbeEnded(effect.peer, ev.Probed.SILENT))
            return
        found, delay = self._world.network.probe(self.place, target.place)
        self._later(delay, ev.ProbeEnded(effect.peer, found))

    def _confirm_task(self, effect: fx.ConfirmTask) -> None:
        trouble = self._trouble()
        world = self._world
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._later(delay, ev.TaskNotConfirmed(effect.task, detail, retry_after))
            return
        reason = world.forge.closed.get(effect.task, "")
        known = effect.task in world.forge.tasks and effect.task not in world.forge.hidden
        standing = world.ledger.read(effect.task) if effect.read_claim else None
        event = ev.TaskConfirmed(
            effect.task,
            known and not reason,
            reason or ("" if known else "no such issue"),
            effect.read_claim,
            standing,
        )
        self._later(world.rng.randint(10, 150), event)

    def _open_pull(self, effect: fx.OpenPull) -> None:
        trouble = self._trouble()
        world, task, branch = self._world, effect.task.id, effect.record.branch or ""
        if trouble is not None:
            self._later(trouble[2], ev.PullNotFound(task, trouble[0], trouble[1]))
            return
        if (task.repository, branch) not in world.ledger.branches:
            self._later(50, ev.PullNotFound(task, f"no branch {branch}", final=True))
            return
        url = world.forge.open_pull(task, branch)
        if world.rng.random() < world.trouble.lost_answers:
            self._later(3_000, ev.PullNotFound(task, "no answer"))
        else:
            self._later(world.rng.randint(20, 200), ev.PullFound(task, url))

    # --- the disk ---------------------------------------------------------------------------------------

    def _remember(self, effect: fx.Remember) -> None:
        self.journal[effect.task.id, effect.record.epoch] = (effect.task, effect.record)

    def _forget(self, effect: fx.Forget) -> None:
        key = (effect.task, effect.epoch)
        self._world.checkers.forgotten(self, effect.task, effect.epoch)
        self.journal.pop(key, None)
        self.folders.pop(key, None)

    def _recovered(self) -> list[ev.Recovered]:
        found = []
        for key in sorted(self.journal):
            task, record = self.journal[key]
            folder = self.folders.get(key, Folder())
            found.append(ev.Recovered(task, record, folder.outcome, bool(folder.pieces), folder.commit))
        return found

    # --- the ledger -------------------------------------------------------------------------------------

    def _swap_claim(self, effect: fx.SwapClaim) -> None:
        self._world.checkers.claim_sent(self, effect)
        self._write(
            effect.task, effect.record, lambda: self._world.ledger.swap(effect.expected, effect.record, self.peer)
        )

    def _deliver_work(self, effect: fx.DeliverWork) -> None:
        world = self._world
        if world.trouble.refusals and world.rng.random() < world.trouble.refusals:
            refused = ev.SwapEnded(
                effect.task, effect.record.nonce, ev.SwapEnd.REFUSED, detail="branch is protected"
            )
            self._later(50, refused)
            return
        self._write(
            effect.task, effect.record, lambda: world.ledger.deliver(effect.expected, effect.record, self.peer)
        )

    def _write(self, task: TaskId, record: ClaimRecord, apply: Callable[[], Any]) -> None:
        """Send one write; it may fail, or lose its answer, or land late."""
        world, rng, nonce = self._world, self._world.rng, record.nonce
        trouble = self._trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            event = ev.SwapEnded(task, nonce, ev.SwapEnd.UNAVAILABLE, None, detail, retry_after)
            self._later(delay, event)
            return
        up_ms, down_ms = rng.randint(2, 25), rng.randint(2, 25)
        if rng.random() < world.trouble.lost_answers:
            luck = rng.random()
            if luck < 0.4:
                world.after(up_ms, apply)
            elif luck < 0.7:
                world.after(up_ms + rng.randint(1, 90_000), apply)
            self._later(rng.randint(1_000, 10_000), ev.SwapEnded(task, nonce, ev.SwapEnd.UNCERTAIN))
            return
        world.after(up_ms, self._write_now, self.life, task, nonce, apply, down_ms)

    def _write_now(self, life: int, task: TaskId, nonce: str, apply: Callable[[], Any], down_ms: int) -> None:
        swapped = apply()
        if life != self.life:
            return
        world = self._world
        if not world.network.reaches_forge(self.place):
            self._later(5_000, ev.SwapEnded(task, nonce, ev.SwapEnd.UNCERTAIN))
            return
        if swapped.refused:
            event = ev.SwapEnded(task, nonce, ev.SwapEnd.REFUSED, None, swapped.refused)
        else:
            end = ev.SwapEnd.WON if swapped.won else ev.SwapEnd.LOST
            standing = swapped.standing
            if not swapped.won and world.trouble.lost_answers and world.rng.random() < 0.2:
                standing = None
            event = ev.SwapEnded(task, nonce, end, standing)
        self._later(down_ms, event)

    def _read_claim(self, effect: fx.ReadClaim) -> None:
        trouble = self._trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._later(delay, ev.ClaimNotRead(effect.task, detail, retry_after))
            return
        self._later(self._world.rng.randint(5, 60), ev.ClaimRead(effect.task, self._world.ledger.read(effect.task)))

    # --- attempts ---------------------------------------------------------------------------------------

    def _start_attempt(self, effect: fx.StartAttempt) -> None:
        world, key = self._world, (effect.task.id, effect.record.epoch)
        world.checkers.attempt_started(self, *key)
        attempt = self.attempts[key] = Attempt(*key, self.life)
        outcome, duration_ms = world.draw_attempt()
        self._later(300, ev.AgentStarted(*key))
        world.after(duration_ms, self._attempt_over, attempt, outcome)

    def _stop_attempt(self, effect: fx.StopAttempt) -> None:
        attempt = self.attempts.get((effect.task, effect.epoch))
        if attempt is None or attempt.stopping:
            return
        attempt.stopping = True
        rng = self._world.rng
        outcome = Outcome.PROVED if rng.random() < 0.1 else Outcome.STOPPED
        self._world.after(rng.randint(50, 4_000), self._attempt_over, attempt, outcome)

    def _attempt_over(self, attempt: Attempt, outcome: Outcome) -> None:
        key = (attempt.task, attempt.epoch)
        if self.attempts.get(key) is not attempt:
            return
        del self.attempts[key]
        rng = self._world.rng
        folder = self.folders.setdefault(key, Folder())
        if outcome is Outcome.PROVED or (
            outcome not in (Outcome.NO_CHANGE, Outcome.AGENT_MISSING) and rng.random() < 0.6
        ):
            self._make_piece(attempt, folder)
        folder.outcome = outcome
        folder.commit = folder.pieces[-1] if outcome is Outcome.PROVED else None
        event = ev.AttemptEnded(
            attempt.task,
            attempt.epoch,
            outcome,
            f"simulated {outcome.value}",
            bool(folder.pieces),
            folder.commit,
            retry_after_ms=60_000 if outcome is Outcome.RATE_LIMITED else None,
        )
        self._answer(attempt.life, event)

    def _make_piece(self, attempt: Attempt, folder: Folder) -> None:
        self._serial += 1
        piece = f"{attempt.task.number}/{attempt.epoch}/{self.peer}/{self._serial}"
        folder.pieces.append(piece)
        self._world.checkers.work_made(attempt.task, piece)

    def _save_work(self, effect: fx.SaveWork) -> None:
        trouble = self._trouble()
        world, task, epoch = self._world, effect.task, effect.epoch
        if trouble is not None:
            self._later(trouble[2], ev.WorkNotSaved(task, epoch, trouble[0]))
            return
        if world.trouble.refusals and world.rng.random() < world.trouble.refusals:
            self._later(50, ev.WorkNotSaved(task, epoch, "the server refuses the ref", final=True))
            return
        folder = self.folders.get((task, epoch))
        world.forge.rescue(folder.pieces if folder is not None else ())
        if world.rng.random() < world.trouble.lost_answers:
            self._later(5_000, ev.WorkNotSaved(task, epoch, "no answer"))
        else:
            self._later(
                world.rng.randint(20, 300), ev.WorkSaved(task, epoch, f"refs/bzzz/rescue/{task.number}/{epoch}")
            )

    # --- the rest ---------------------------------------------------------------------------------------

    def _notice(self, effect: fx.Notice) -> None:
        if self._world.tracing:
            self.trace("notes", effect.text, effect.task)

    def _finish(self, _: fx.Finish) -> None:
        self.trace("ends in order")
        self._end_process()
        self._world.checkers.finished(self)
        self._world.network.process_died(self.place)

    def trace(self, what: str, detail: str = "", task: TaskId | None = None) -> None:
        """Note something for people, when the world keeps a trace."""
        if self._world.tracing:
            self._world.trace(self.peer, what, detail, task)

    def _trace_step(self, event: ev.Event, effects: list[fx.Effect]) -> None:
        task = getattr(event, "task", None)
        if not isinstance(event, ev.Heard | ev.Ticked | ev.TasksListed):
            self._world.trace(self.peer, "meets", repr(event), task)
        for one in effects:
            if not isinstance(one, fx.Publish | fx.Notice):
                about = getattr(one, "task", None)
                about = about.id if isinstance(about, Task) else about
                self._world.trace(self.peer, "does", repr(one), about)


PROBE_UNKNOWN_MS = 3_000


def _nothing(_: Any) -> None:
    """An effect that the simulated world has no use for."""

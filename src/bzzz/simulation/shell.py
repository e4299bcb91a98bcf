"""One simulated machine: its disk, its clock, and its process with a real core in it.

The disk (journal, attempts' folders, the start count) outlives the process. A paused process takes nothing
in, and its timers fire late. Every answer is tied to the life of the process that asked; what was sent to
the ledger is not, and may land after its sender is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.node import NodeCore
from bzzz.core.profile import Profile
from bzzz.core.record import ClaimRecord
from bzzz.core.task import Repository, Task, TaskId
from bzzz.simulation.agent import Agents, Folder
from bzzz.simulation.flaw import spoil
from bzzz.simulation.network import DIAL_MS_MAX
from bzzz.simulation.service import Services

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
        self.repositories: tuple[Repository, ...] = ()
        self.inbox_dropped = 0
        self.steps = 0
        self._inbox: list[ev.Event] = []
        self._wake_ms: int | None = None
        self._armed_ms: int | None = None
        self._clock_base_ms = 0
        self._clock_start_ms = rng.randint(1_000, 10_000_000)
        self.drift_ppm = 0
        services = Services(world, self)
        self.agents = Agents(world, self, services)
        self.attempts, self.folders = self.agents.running, self.agents.folders
        self._handlers: dict[type, Callable[[Any], None]] = {
            **services.handlers,
            **self.agents.handlers,
            fx.KeepRepositories: self._keep_repositories,
            fx.JoinTopic: _nothing,
            fx.LeaveTopic: _nothing,
            fx.Remember: self._remember,
            fx.Forget: self._forget,
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
        world.network.attention_changed(self.place, DIAL_MS_MAX)
        self.trace("starts", f"incarnation {self.incarnation}")
        self.receive(ev.Started(self.repositories, tuple(self._recovered())))

    def crash(self) -> None:
        """End the process at once; its agents end now, or finish alone before the next start reaps them."""
        if self.core is None:
            return
        self.trace("crashes")
        self._end_process()
        self.agents.die()
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
        if deadline == self._armed_ms and self._wake_ms is not None:
            return
        self._armed_ms = deadline
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

    def later(self, delay_ms: int, event: ev.Event) -> None:
        """Answer after a while, if the process that asked still lives then."""
        self._world.after(delay_ms, self.answer, self.life, event)

    def answer(self, life: int, event: ev.Event) -> None:
        """Give an event to the process that asked, and to no other."""
        if life == self.life:
            self.receive(event)

    # --- the disk ---------------------------------------------------------------------------------------

    def _keep_repositories(self, effect: fx.KeepRepositories) -> None:
        self.repositories = effect.repositories

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
            more = any(piece != folder.commit for piece in folder.pieces)
            found.append(ev.Recovered(task, record, folder.outcome, bool(folder.pieces), folder.commit, more))
        return found

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


def _nothing(_: Any) -> None:
    """An effect that the simulated world has no use for."""

"""A machine's agents: attempts that run for a while, the folders they leave, and the saving of their work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.outcome import Outcome
from bzzz.core.task import TaskId
from bzzz.simulation.service import Services

if TYPE_CHECKING:
    from bzzz.simulation.shell import Shell
    from bzzz.simulation.world import World


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


class Agents:
    """The attempts of one machine, and what is on its disk of them."""

    def __init__(self, world: World, shell: Shell, services: Services) -> None:
        self._world = world
        self._shell = shell
        self._services = services
        self._serial = 0
        self.running: dict[tuple[TaskId, int], Attempt] = {}
        self.folders: dict[tuple[TaskId, int], Folder] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            fx.StartAttempt: self._start_attempt,
            fx.StopAttempt: self._stop_attempt,
            fx.SaveWork: self._save_work,
        }

    def die(self) -> None:
        """The node's process is dead: its agents end now, or finish alone before the next start reaps them."""
        rng = self._world.rng
        for (task, epoch), attempt in sorted(self.running.items(), key=lambda item: item[0]):
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
        self.running.clear()

    def _start_attempt(self, effect: fx.StartAttempt) -> None:
        world, key = self._world, (effect.task.id, effect.record.epoch)
        world.checkers.attempt_started(self._shell, *key)
        attempt = self.running[key] = Attempt(*key, self._shell.life)
        outcome, duration_ms = world.draw_attempt()
        self._shell.later(300, ev.AgentStarted(*key))
        world.after(duration_ms, self._attempt_over, attempt, outcome)

    def _stop_attempt(self, effect: fx.StopAttempt) -> None:
        attempt = self.running.get((effect.task, effect.epoch))
        if attempt is None or attempt.stopping:
            return
        attempt.stopping = True
        rng = self._world.rng
        outcome = Outcome.PROVED if rng.random() < 0.1 else Outcome.STOPPED
        self._world.after(rng.randint(50, 4_000), self._attempt_over, attempt, outcome)

    def _attempt_over(self, attempt: Attempt, outcome: Outcome) -> None:
        key = (attempt.task, attempt.epoch)
        if self.running.get(key) is not attempt:
            return
        del self.running[key]
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
        self._shell.answer(attempt.life, event)

    def _make_piece(self, attempt: Attempt, folder: Folder) -> None:
        self._serial += 1
        piece = f"{attempt.task.number}/{attempt.epoch}/{self._shell.peer}/{self._serial}"
        folder.pieces.append(piece)
        self._world.checkers.work_made(attempt.task, piece)

    def _save_work(self, effect: fx.SaveWork) -> None:
        trouble = self._services.trouble()
        world, task, epoch = self._world, effect.task, effect.epoch
        if trouble is not None:
            self._shell.later(trouble[2], ev.WorkNotSaved(task, epoch, trouble[0]))
            return
        if world.trouble.refusals and world.rng.random() < world.trouble.refusals:
            self._shell.later(50, ev.WorkNotSaved(task, epoch, "the server refuses the ref", final=True))
            return
        folder = self.folders.get((task, epoch))
        world.forge.rescue(folder.pieces if folder is not None else ())
        if world.rng.random() < world.trouble.lost_answers:
            self._shell.later(5_000, ev.WorkNotSaved(task, epoch, "no answer"))
        else:
            self._shell.later(
                world.rng.randint(20, 300), ev.WorkSaved(task, epoch, f"refs/bzzz/rescue/{task.number}/{epoch}")
            )

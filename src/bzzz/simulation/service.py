"""What a machine's adapters do: Hive, forge, git server and probes, with errors, lost answers and late writes.

A write that was sent is the server's affair: it may land after the process that sent it is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.record import ClaimRecord
from bzzz.core.task import TaskId
from bzzz.simulation.ledger import Swapped
from bzzz.simulation.network import PROBE_TIMEOUT_MS

if TYPE_CHECKING:
    from bzzz.simulation.shell import Shell
    from bzzz.simulation.world import World


class Services:
    """The adapters of one machine; ``handlers`` tells which effects they carry out."""

    def __init__(self, world: World, shell: Shell) -> None:
        self._world = world
        self._shell = shell
        self.handlers: dict[type, Callable[[Any], None]] = {
            fx.FindRepositories: self._find_repositories,
            fx.ListTasks: self._list_tasks,
            fx.Publish: self._publish,
            fx.ProbePeer: self._probe_peer,
            fx.ConfirmTask: self._confirm_task,
            fx.SwapClaim: self._swap_claim,
            fx.DeliverWork: self._deliver_work,
            fx.ReadClaim: self._read_claim,
            fx.OpenPull: self._open_pull,
        }

    def trouble(self) -> tuple[str, int | None, int] | None:
        """If the forge does not answer as it should now: how, when to come again, after how long."""
        world = self._world
        if not world.network.reaches_forge(self._shell.place):
            return "no answer", None, world.rng.choice((30, 5_000))
        if world.trouble.errors and world.rng.random() < world.trouble.errors:
            retry_after = world.rng.choice((None, None, 5_000, 60_000))
            return ("answered 429" if retry_after else "answered 502"), retry_after, world.rng.randint(10, 200)
        return None

    def _find_repositories(self, _: fx.FindRepositories) -> None:
        world = self._world
        if world.trouble.hive_away or not world.network.reaches_forge(self._shell.place):
            self._shell.later(50, ev.RepositoriesNotFound("Hive does not answer"))
        else:
            self._shell.later(world.rng.randint(5, 50), ev.RepositoriesFound(world.repositories))

    def _list_tasks(self, effect: fx.ListTasks) -> None:
        trouble = self.trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._shell.later(delay, ev.TasksNotListed(effect.repository, detail, retry_after))
            return
        world = self._world
        listed = ev.TasksListed(effect.repository, world.forge.open_tasks(), world.ledger.claims())
        self._shell.later(world.rng.randint(20, 400), listed)

    def _publish(self, effect: fx.Publish) -> None:
        self._world.network.publish(self._shell, effect.message)

    def _probe_peer(self, effect: fx.ProbePeer) -> None:
        target = self._world.by_peer.get(effect.peer)
        if target is None:
            self._shell.later(PROBE_TIMEOUT_MS, ev.ProbeEnded(effect.peer, ev.Probed.SILENT))
            return
        found, delay = self._world.network.probe(self._shell.place, target.place)
        self._shell.later(delay, ev.ProbeEnded(effect.peer, found))

    def _confirm_task(self, effect: fx.ConfirmTask) -> None:
        trouble = self.trouble()
        world = self._world
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._shell.later(delay, ev.TaskNotConfirmed(effect.task, detail, retry_after))
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
        self._shell.later(world.rng.randint(10, 150), event)

    def _open_pull(self, effect: fx.OpenPull) -> None:
        trouble = self.trouble()
        world, task, branch = self._world, effect.task.id, effect.record.branch or ""
        if trouble is not None:
            self._shell.later(trouble[2], ev.PullNotFound(task, trouble[0], trouble[1]))
            return
        if (task.repository, branch) not in world.ledger.branches:
            self._shell.later(50, ev.PullNotFound(task, f"no branch {branch}", final=True))
            return
        url = world.forge.open_pull(task, branch)
        if world.rng.random() < world.trouble.lost_answers:
            self._shell.later(3_000, ev.PullNotFound(task, "no answer"))
        else:
            self._shell.later(world.rng.randint(20, 200), ev.PullFound(task, url))

    def _swap_claim(self, effect: fx.SwapClaim) -> None:
        self._world.checkers.claim_sent(self._shell, effect)
        self._write(
            effect.task,
            effect.record,
            lambda: self._world.ledger.swap(effect.expected, effect.record, self._shell.peer),
        )

    def _deliver_work(self, effect: fx.DeliverWork) -> None:
        world = self._world
        if world.trouble.refusals and world.rng.random() < world.trouble.refusals:
            refused = ev.SwapEnded(
                effect.task, effect.record.nonce, ev.SwapEnd.REFUSED, detail="branch is protected"
            )
            self._shell.later(50, refused)
            return
        self._write(
            effect.task,
            effect.record,
            lambda: world.ledger.deliver(effect.expected, effect.record, self._shell.peer),
        )

    def _write(self, task: TaskId, record: ClaimRecord, apply: Callable[[], Swapped]) -> None:
        """Send one write; it may fail, or lose its answer, or land late."""
        world, rng, nonce = self._world, self._world.rng, record.nonce
        trouble = self.trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            event = ev.SwapEnded(task, nonce, ev.SwapEnd.UNAVAILABLE, None, detail, retry_after)
            self._shell.later(delay, event)
            return
        up_ms, down_ms = rng.randint(2, 25), rng.randint(2, 25)
        if rng.random() < world.trouble.lost_answers:
            luck = rng.random()
            if luck < 0.4:
                world.after(up_ms, apply)
            elif luck < 0.7:
                world.after(up_ms + rng.randint(1, 90_000), apply)
            self._shell.later(rng.randint(1_000, 10_000), ev.SwapEnded(task, nonce, ev.SwapEnd.UNCERTAIN))
            return
        world.after(up_ms, self._write_now, self._shell.life, task, nonce, apply, down_ms)

    def _write_now(self, life: int, task: TaskId, nonce: str, apply: Callable[[], Swapped], down_ms: int) -> None:
        swapped = apply()
        if life != self._shell.life:
            return
        world = self._world
        if not world.network.reaches_forge(self._shell.place):
            self._shell.later(5_000, ev.SwapEnded(task, nonce, ev.SwapEnd.UNCERTAIN))
            return
        if swapped.refused:
            event = ev.SwapEnded(task, nonce, ev.SwapEnd.REFUSED, None, swapped.refused)
        else:
            end = ev.SwapEnd.WON if swapped.won else ev.SwapEnd.LOST
            standing = swapped.standing
            if not swapped.won and world.trouble.lost_answers and world.rng.random() < 0.2:
                standing = None
            event = ev.SwapEnded(task, nonce, end, standing)
        self._shell.later(down_ms, event)

    def _read_claim(self, effect: fx.ReadClaim) -> None:
        trouble = self.trouble()
        if trouble is not None:
            detail, retry_after, delay = trouble
            self._shell.later(delay, ev.ClaimNotRead(effect.task, detail, retry_after))
            return
        self._shell.later(
            self._world.rng.randint(5, 60), ev.ClaimRead(effect.task, self._world.ledger.read(effect.task))
        )

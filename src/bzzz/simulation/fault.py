"""What goes wrong in a world: incidents drawn from its seed, and the healing that undoes what still lasts.

Each kind is one that real fleets meet. Lies alone do not stop with the faults: an adversary does not heal.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bzzz.core.event import Heard, PeerUp, StopAsked
from bzzz.core.message import (
    Announced,
    Availability,
    Capability,
    Hint,
    Message,
    TaskAnnouncement,
    TaskClaim,
    TaskComplete,
)
from bzzz.core.record import RecordState

if TYPE_CHECKING:
    from bzzz.simulation.shell import Shell
    from bzzz.simulation.world import World

LIAR = "peer-liar"


class FaultKind(enum.StrEnum):
    """A kind of fault, by the name that ``--faults`` takes."""

    CRASH = "crash"
    """A process is killed, sometimes between two effects of one step, and started again later or never."""
    PAUSE = "pause"
    """A process is stopped (SIGSTOP), for seconds or for longer than any ttl, and goes on."""
    POWER = "power"
    """A whole machine goes dark and comes back."""
    LEAVE = "leave"
    """A node ends in order, and comes back."""
    PARTITION = "partition"
    """The mesh falls into two parts; all of them still reach the forge."""
    ASYMMETRIC = "asymmetric"
    """Messages pass one way only between two nodes."""
    ISOLATION = "isolation"
    """One machine reaches nobody, not even the forge."""
    LOSS = "loss"
    """A share of the messages is lost."""
    DUPLICATION = "duplication"
    """A share of the messages comes twice, the second time late."""
    REORDER = "reorder"
    """A share of the messages overtakes others."""
    CLOCK = "clock"
    """Clocks drift, and jump forward."""
    FORGE = "forge"
    """Forge and git server answer 5xx and 429, or refuse a branch."""
    ANSWERS = "answers"
    """Answers are lost: the write was done, was not, or will be later."""
    HIVE = "hive"
    """Hive is away."""
    ISSUES = "issues"
    """Issues are closed while they are worked on."""
    LIES = "lies"
    """A peer with the mesh's secret tells falsehoods about claims, to the very end."""


class Faults:
    """Plans incidents of the given kinds, and heals."""

    def __init__(self, world: World, kinds: Sequence[FaultKind]) -> None:
        self._world = world
        self._kinds = kinds
        self._undo: dict[int, Callable[[], None]] = {}
        self._count = 0

    def plan(self, phase_ms: int) -> None:
        """Draw all incidents of the fault phase."""
        world, rng = self._world, self._world.rng
        begin: dict[FaultKind, tuple[int, Callable[[], None]]] = {
            FaultKind.CRASH: (6, self._crash),
            FaultKind.PAUSE: (4, self._pause),
            FaultKind.POWER: (2, self._power),
            FaultKind.LEAVE: (2, self._leave),
            FaultKind.PARTITION: (2, self._partition),
            FaultKind.ASYMMETRIC: (3, self._asymmetric),
            FaultKind.ISOLATION: (2, self._isolation),
            FaultKind.LOSS: (2, self._loss),
            FaultKind.DUPLICATION: (2, self._duplication),
            FaultKind.REORDER: (2, self._reorder),
            FaultKind.CLOCK: (4, self._clock),
            FaultKind.FORGE: (3, self._forge),
            FaultKind.ANSWERS: (3, self._answers),
            FaultKind.HIVE: (2, self._hive),
            FaultKind.ISSUES: (2, self._issues),
            FaultKind.LIES: (1, self._lie),
        }
        for kind in self._kinds:
            most, action = begin[kind]
            for _ in range(rng.randint(1, most)):
                world.at(rng.randint(1_000, phase_ms * 9 // 10), self._begin, action)

    def _begin(self, action: Callable[[], None]) -> None:
        if not self._world.healing:
            action()

    def heal(self) -> None:
        """End everything that still lasts, and bring back every node that is not gone for good."""
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()
        for shell in self._world.shells:
            if shell.gone_for_good:
                continue
            shell.set_host(True)
            shell.resume()
            shell.fuse = None
            shell.start()

    # --- lasting things ---------------------------------------------------------------------------------

    def _lasting(self, undo: Callable[[], None], long: bool = True) -> None:
        rng = self._world.rng
        for_ms = rng.randint(60_000, 1_500_000) if long and rng.random() < 0.4 else rng.randint(1_000, 60_000)
        self._count += 1
        number = self._count
        self._undo[number] = undo
        self._world.after(for_ms, self._end, number)

    def _end(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    def _any(self) -> Shell:
        return self._world.rng.choice(self._world.shells)

    # --- processes and machines -------------------------------------------------------------------------

    def _crash(self) -> None:
        shell, rng = self._any(), self._world.rng
        if shell.core is None:
            return
        if rng.random() < 0.5:
            shell.fuse = rng.randint(0, 12)
        else:
            shell.crash()
        gone = sum(other.gone_for_good for other in self._world.shells)
        if rng.random() < 0.05 and gone == 0 and len(self._world.shells) > 2:
            shell.gone_for_good = True
        else:
            self._lasting(lambda: self._restart(shell))

    def _restart(self, shell: Shell) -> None:
        if shell.fuse is not None:
            # The fuse did not burn down in all this time: it is put out by ending the process here.
            shell.crash()
        if not shell.gone_for_good:
            shell.start()

    def _pause(self) -> None:
        shell = self._any()
        shell.pause()
        self._lasting(shell.resume)

    def _power(self) -> None:
        shell = self._any()
        if not shell.host_up:
            return
        shell.set_host(False)
        self._lasting(lambda: self._power_on(shell))

    def _power_on(self, shell: Shell) -> None:
        shell.set_host(True)
        if not shell.gone_for_good:
            shell.start()

    def _leave(self) -> None:
        shell = self._any()
        if shell.core is None:
            return
        shell.receive(StopAsked())
        self._lasting(lambda: self._come_back(shell))

    def _come_back(self, shell: Shell) -> None:
        if shell.core is not None and shell.core.context.stopping:
            shell.crash()  # whoever stopped it lost patience
        if not shell.gone_for_good:
            shell.start()

    # --- ways -------------------------------------------------------------------------------------------

    def _cuts(self, pairs: Sequence[tuple[int, int]]) -> None:
        network = self._world.network
        for a, b in pairs:
            network.cut(a, b, 1)

        def mend() -> None:
            for a, b in pairs:
                network.cut(a, b, -1)

        self._lasting(mend)

    def _partition(self) -> None:
        rng, count = self._world.rng, len(self._world.shells)
        side = [rng.random() < 0.5 for _ in range(count)]
        self._cuts([(a, b) for a in range(count) for b in range(count) if side[a] != side[b]])

    def _asymmetric(self) -> None:
        a, b = self._any().place, self._any().place
        if a != b:
            self._cuts([(a, b)])

    def _isolation(self) -> None:
        world, a = self._world, self._any().place
        world.network.cut_forge(a, 1)
        pairs = [(a, b) for b in range(len(world.shells)) if b != a]
        pairs += [(b, a) for a, b in pairs]
        for one, other in pairs:
            world.network.cut(one, other, 1)

        def mend() -> None:
            world.network.cut_forge(a, -1)
            for one, other in pairs:
                world.network.cut(one, other, -1)

        self._lasting(mend)

    # --- weather ----------------------------------------------------------------------------------------

    def _loss(self) -> None:
        weather = self._world.network.weather
        share = self._world.rng.uniform(0.02, 0.4)
        weather.loss += share

        def mend() -> None:
            weather.loss = max(0.0, weather.loss - share)

        self._lasting(mend)

    def _duplication(self) -> None:
        weather = self._world.network.weather
        weather.duplication = self._world.rng.uniform(0.05, 0.5)

        def mend() -> None:
            weather.duplication = 0.0

        self._lasting(mend)

    def _reorder(self) -> None:
        weather = self._world.network.weather
        weather.reorder_ms = self._world.rng.randint(200, 20_000)

        def mend() -> None:
            weather.reorder_ms = 0

        self._lasting(mend)

    def _clock(self) -> None:
        rng = self._world.rng
        jump_ms = rng.choice((0, rng.randint(1, 5_000), rng.randint(60_000, 1_200_000)))
        self._any().set_clock(rng.randint(-50_000, 50_000), jump_ms)

    # --- services ---------------------------------------------------------------------------------------

    def _forge(self) -> None:
        world = self._world
        world.trouble.errors = world.rng.uniform(0.05, 0.7)
        world.trouble.refusals = world.rng.choice((0.0, 0.02, 0.1))

        def mend() -> None:
            world.trouble.errors = 0.0
            world.trouble.refusals = 0.0

        self._lasting(mend)

    def _answers(self) -> None:
        world = self._world
        world.trouble.lost_answers = world.rng.uniform(0.05, 0.6)

        def mend() -> None:
            world.trouble.lost_answers = 0.0

        self._lasting(mend)

    def _hive(self) -> None:
        world = self._world
        world.trouble.hive_away = True

        def mend() -> None:
            world.trouble.hive_away = False

        self._lasting(mend)

    def _issues(self) -> None:
        world = self._world
        task = world.rng.choice(list(world.forge.tasks))
        world.forge.closed.setdefault(task, "the issue is closed")

    # --- lies -------------------------------------------------------------------------------------------

    def _lie(self) -> None:
        world, rng = self._world, self._world.rng
        message = self._falsehood()
        for shell in world.shells:
            if shell.attentive and rng.random() < 0.8:
                shell.receive(PeerUp(LIAR, ()))
                shell.receive(Heard(LIAR, message))
        world.after(rng.randint(1_000, 40_000), self._lie)

    def _falsehood(self) -> Message:
        world, rng = self._world, self._world.rng
        luck = rng.random()
        if luck < 0.1:
            return Capability("liar", 1, ("code-generation", "testing", "documentation"), ("all",), "general", "0")
        if luck < 0.25:
            held = {task: rng.randint(1, 9) for task in rng.sample(list(world.forge.tasks), k=1)}
            return Availability("liar", 1, 0, 9, held)
        task = rng.choice(list(world.forge.tasks.values()))
        standing = world.ledger.read(task.id)
        epoch = (standing.record.epoch if standing is not None else 0) + rng.choice((0, 0, 1, 2, 1_000_000))
        peers = [shell.peer for shell in world.shells]
        hint = Hint(max(1, epoch), rng.choice(list(RecordState)), rng.choice([*peers, LIAR]), rng.randint(0, 9), 0)
        if luck < 0.5:
            return TaskClaim(task.id, hint, "liar")
        if luck < 0.75:
            return TaskComplete(task.id, hint, "liar", "branch", rng.choice(("", "https://lie.example/1")), "a lie")
        if rng.random() < 0.3:
            task = replace(task, labels=("needs-nothing-that-is",), updated_at="9999-01-01T00:00:00Z")
        return TaskAnnouncement((Announced(task, rng.random() < 0.7, hint),))

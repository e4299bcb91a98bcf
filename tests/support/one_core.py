"""One core driven by hand: virtual time, a ledger model, and the effects of each step kept to be looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.claim import ClaimState
from bzzz.core.entry import Entry
from bzzz.core.message import Availability, Capability, Hint, Message, TaskClaim
from bzzz.core.node import NodeCore
from bzzz.core.outcome import Outcome
from bzzz.core.profile import Policy, Profile
from bzzz.core.record import ClaimRecord, Holder, Observation, RecordState
from bzzz.core.task import Repository, Task, TaskId
from bzzz.simulation.ledger import ClaimLedger

REPOSITORY = Repository(1, "garden", "acme", "garden", "https://git.example/a.git", "https://git.example/api")
TASK = Task(TaskId("acme/garden", 7), "Fix the gate", updated_at="2026-01-01T00:00:00Z")

T = TypeVar("T")


def record_of(
    peer: str, epoch: int = 1, state: RecordState = RecordState.HELD, *, incarnation: int = 1, task: Task = TASK
) -> ClaimRecord:
    """A record as ``peer`` would write it."""
    holder = Holder(peer, f"agent-{peer}", incarnation)
    return ClaimRecord(task.id, epoch, holder, state, f"nonce-{peer}-{epoch}-{state}-{incarnation}")


class OneCore:
    """A core, its clock, and a ledger that answers only when a test lets it."""

    def __init__(self, policy: Policy | None = None, *, peer: str = "me", max_tasks: int = 2) -> None:
        self.policy = policy or Policy()
        self.ledger = ClaimLedger()
        self.now_ms = 1_000
        self.core = NodeCore(Profile(peer, f"agent-{peer}", 3, "seed", max_tasks=max_tasks), self.policy)
        self.effects: list[fx.Effect] = []

    # --- driving ----------------------------------------------------------------------------------------

    def step(self, event: ev.Event) -> list[fx.Effect]:
        """Give the core an event now."""
        self.effects = self.core.step(self.now_ms, event)
        return self.effects

    def start(self, *recovered: ev.Recovered) -> list[fx.Effect]:
        """Start it with one repository, and let the mesh settle."""
        effects = self.step(ev.Started((REPOSITORY,), recovered))
        if not recovered:
            self.run(2_000)
        return effects

    def run(self, ms: int) -> list[fx.Effect]:
        """Let time pass, with a tick at each deadline; gives everything that came of it."""
        found: list[fx.Effect] = []
        end_ms = self.now_ms + ms
        while True:
            due_ms = self.core.next_deadline_ms()
            if due_ms is None or due_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            found += self.step(ev.Ticked())
        self.now_ms = end_ms
        self.effects = found
        return found

    def hear(self, peer: str, message: Message) -> list[fx.Effect]:
        """A peer says something."""
        return self.step(ev.Heard(peer, message))

    def meet(
        self, peer: str, *, incarnation: int = 1, addresses: tuple[str, ...] = ("/ip4/10.0.0.9/tcp/1",)
    ) -> None:
        """A peer connects and introduces itself."""
        self.step(ev.PeerUp(peer, addresses))
        self.hear(peer, Capability(f"agent-{peer}", incarnation, (), (), "", "0"))
        self.hear(peer, Availability(f"agent-{peer}", incarnation, 0, 1))

    # --- shortcuts to states ----------------------------------------------------------------------------

    def listed(self, *tasks: Task, claims: bool = True) -> list[fx.Effect]:
        """The watcher's reading comes, with what the ledger holds."""
        seen = self.ledger.claims() if claims else None
        return self.step(ev.TasksListed(REPOSITORY.key, tasks or (TASK,), seen))

    def confirm(self, *, admitted: bool = True, read_claim: bool = True) -> list[fx.Effect]:
        """The issue was read, and the claim with it."""
        standing = self.ledger.read(TASK.id) if read_claim else None
        return self.step(ev.TaskConfirmed(TASK.id, admitted, "" if admitted else "closed", read_claim, standing))

    def claiming(self) -> fx.SwapClaim:
        """Bring it to ``CLAIMING``; gives the write that it sent."""
        effects = self.listed()
        if not of(effects, fx.ConfirmTask):
            effects = self.run(self.policy.turn_step_ms * 5)
        assert of(effects, fx.ConfirmTask), "it does not try"
        return only(self.confirm(), fx.SwapClaim)

    def answer(self, write: fx.SwapClaim | fx.DeliverWork, end: ev.SwapEnd | None = None) -> list[fx.Effect]:
        """Let the ledger take a write and answer it; with ``end``, answer so and write nothing."""
        if end is not None:
            return self.step(ev.SwapEnded(TASK.id, write.record.nonce, end))
        swapped = self.take(write)
        won = ev.SwapEnd.WON if swapped else ev.SwapEnd.LOST
        return self.step(ev.SwapEnded(TASK.id, write.record.nonce, won, self.ledger.read(TASK.id)))

    def take(self, write: fx.SwapClaim | fx.DeliverWork) -> bool:
        """Let the ledger take a write, its answer lost."""
        if isinstance(write, fx.DeliverWork):
            return self.ledger.deliver(write.expected, write.record, "me").won
        return self.ledger.swap(write.expected, write.record, "me").won

    def held(self) -> fx.StartAttempt:
        """Bring it to ``HELD``; gives the attempt that it started."""
        return only(self.answer(self.claiming()), fx.StartAttempt)

    def ended(self, outcome: Outcome = Outcome.PROVED, *, has_work: bool = True) -> list[fx.Effect]:
        """The attempt is over."""
        own = self.entry.own
        assert own is not None
        commit = "c0ffee" if outcome is Outcome.PROVED else None
        return self.step(ev.AttemptEnded(TASK.id, own.record.epoch, outcome, "summary", has_work, commit))

    def read(self) -> list[fx.Effect]:
        """The reading of the claim that it asked for comes."""
        return self.step(ev.ClaimRead(TASK.id, self.ledger.read(TASK.id)))

    def other_claims(self, peer: str = "other", *, incarnation: int = 1) -> Observation:
        """Another node's claim is written to the ledger, after whatever stands."""
        standing = self.ledger.read(TASK.id)
        epoch = standing.record.epoch + 1 if standing is not None else 1
        record = record_of(peer, epoch, incarnation=incarnation)
        swapped = self.ledger.swap(standing.version if standing is not None else None, record, peer)
        assert swapped.won
        assert swapped.standing is not None
        return swapped.standing

    def other_renews(self, nonce: str) -> None:
        """The holder that stands extends its claim."""
        standing = self.ledger.read(TASK.id)
        assert standing is not None
        record = replace(standing.record, nonce=nonce)
        assert self.ledger.swap(standing.version, record, record.holder.peer).won

    # --- looking ----------------------------------------------------------------------------------------

    @property
    def entry(self) -> Entry:
        """What it keeps of the task."""
        return self.core.context.entries[TASK.id]

    @property
    def state(self) -> ClaimState:
        """What it is doing about the task."""
        return self.entry.state


def of(effects: list[fx.Effect], kind: type[T]) -> list[T]:
    """The effects of one kind."""
    return [one for one in effects if isinstance(one, kind)]


def only(effects: list[fx.Effect], kind: type[T]) -> T:
    """The one effect of a kind."""
    found = of(effects, kind)
    assert len(found) == 1, effects
    return found[0]


def claim_word(peer: str, epoch: int, state: RecordState = RecordState.HELD, incarnation: int = 1) -> TaskClaim:
    """What a peer says of the task's claim."""
    return TaskClaim(TASK.id, Hint(epoch, state, peer, incarnation), f"agent-{peer}")

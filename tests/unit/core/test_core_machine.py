"""Three nodes by two tasks, driven by Hypothesis: every write ever sent is kept, and may be replayed at any time.

The machine is the network, the git server and the operating system, all of them hostile: it loses, repeats
and reorders messages, answers late or not at all, lets old writes land again, and kills nodes between two
effects. What it promises the cores is only what the ports promise.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bzzz.core import effect as fx
from bzzz.core import event as ev
from bzzz.core.message import Availability, Message
from bzzz.core.node import NodeCore
from bzzz.core.outcome import Outcome
from bzzz.core.profile import Policy, Profile
from bzzz.core.record import ClaimRecord, RecordState
from bzzz.core.task import Repository, Task, TaskId
from bzzz.simulation.ledger import ClaimLedger, Write

REPOSITORY = Repository(1, "garden", "acme", "garden", "https://git.example/a.git", "https://git.example/api")
TASKS = tuple(Task(TaskId(REPOSITORY.key, number), f"Task {number}") for number in (1, 2))
POLICY = Policy(claim_ttl_s=60, renew_interval_ms=20_000)
MESSAGES_MAX = 60

Sent = fx.SwapClaim | fx.DeliverWork
Wanted = Sent | fx.ReadClaim | fx.ConfirmTask | fx.SaveWork | fx.OpenPull | fx.ListTasks | fx.FindRepositories


@dataclass
class Machine:
    """One node's process and disk, and what it asked for and was not told yet."""

    peer: str
    incarnation: int = 0
    core: NodeCore | None = None
    clock_ms: int = 1_000
    asked: list[Wanted] = field(default_factory=list)
    running: dict[tuple[TaskId, int], int] = field(default_factory=dict)
    journal: dict[tuple[TaskId, int], tuple[Task, ClaimRecord]] = field(default_factory=dict)
    pieces: dict[tuple[TaskId, int], list[str]] = field(default_factory=dict)


class ThreeNodes(RuleBasedStateMachine):
    """See the module's docstring."""

    @initialize()
    def begin(self) -> None:
        self.ledger = ClaimLedger()
        self.ledger.watched = self.written
        self.nodes = [Machine(f"node-{place}") for place in range(3)]
        self.sent: list[tuple[str, Sent]] = []
        self.messages: list[tuple[str, Message]] = []
        self.epochs: Counter[TaskId] = Counter()
        self.deliveries: Counter[TaskId] = Counter()
        self.safe: set[str] = set()
        self.made = 0
        for place, node in enumerate(self.nodes):
            self.start(node)
            self.all_goes_well_for_a_while(place, 1, False)

    # --- the machines -----------------------------------------------------------------------------------

    def start(self, node: Machine) -> None:
        node.incarnation += 1
        profile = Profile(node.peer, node.peer, node.incarnation, f"{node.peer}/{node.incarnation}", max_tasks=2)
        node.core = NodeCore(profile, POLICY)
        recovered = tuple(
            ev.Recovered(task, record, None, bool(node.pieces.get(key)))
            for key, (task, record) in sorted(node.journal.items())
        )
        self.step(node, ev.Started((REPOSITORY,), recovered))

    def step(self, node: Machine, event: ev.Event, fuse: int | None = None) -> None:
        if node.core is None:
            return
        for place, effect in enumerate(node.core.step(node.clock_ms, event)):
            if fuse is not None and place >= fuse:
                self.kill(node)
                return
            self.carry_out(node, effect)

    def kill(self, node: Machine) -> None:
        node.core = None
        node.asked.clear()
        for key in node.running:
            self.make(node, key)
        node.running.clear()

    def make(self, node: Machine, key: tuple[TaskId, int]) -> str:
        self.made += 1
        piece = f"piece-{self.made}"
        node.pieces.setdefault(key, []).append(piece)
        return piece

    def carry_out(self, node: Machine, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Remember):
            node.journal[effect.task.id, effect.record.epoch] = (effect.task, effect.record)
        elif isinstance(effect, fx.Forget):
            key = (effect.task, effect.epoch)
            assert key not in node.running, "forgotten while it runs"
            assert set(node.pieces.pop(key, [])) <= self.safe, "work forgotten that is nowhere else"
            node.journal.pop(key, None)
        elif isinstance(effect, fx.StartAttempt):
            key = (effect.task.id, effect.record.epoch)
            assert all(key not in other.running for other in self.nodes), "two attempts under one epoch"
            node.running[key] = 1
        elif isinstance(effect, fx.StopAttempt):
            key = (effect.task, effect.epoch)
            if key in node.running:
                node.running[key] = 2
        elif isinstance(effect, fx.Publish):
            self.messages.append((node.peer, effect.message))
            del self.messages[:-MESSAGES_MAX]
        elif isinstance(effect, Wanted):
            node.asked.append(effect)
            if isinstance(effect, Sent):
                self.sent.append((node.peer, effect))
        elif isinstance(effect, fx.Finish):
            self.kill(node)

    def written(self, write: Write) -> None:
        record = write.sent
        newest = self.epochs[write.task]
        before = write.before
        if record.state is RecordState.HELD and (
            before is None or before.record.state is not RecordState.HELD or before.record.epoch != record.epoch
        ):
            assert record.epoch == newest + 1, "an epoch is used twice, or left out"
        else:
            assert record.epoch == newest, "an old epoch was written"
        self.epochs[write.task] = max(newest, record.epoch)
        if write.branch is not None:
            assert before is not None
            assert before.record.state is RecordState.HELD
            assert before.record.holder.peer == record.holder.peer
            assert write.after is not None
            assert write.after.record.state is RecordState.DELIVERED
            self.deliveries[write.task] += 1
            self.safe.add(record.commit or "")

    def land(self, peer: str, sent: Sent) -> bool:
        if isinstance(sent, fx.DeliverWork):
            return self.ledger.deliver(sent.expected, sent.record, peer).won
        return self.ledger.swap(sent.expected, sent.record, peer).won

    # --- what may happen --------------------------------------------------------------------------------

    @rule(place=st.integers(0, 2), ms=st.sampled_from([1, 300, 1_000, 5_000, 20_000, 61_000, 130_000]))
    def time_passes(self, place: int, ms: int) -> None:
        node = self.nodes[place]
        end_ms = node.clock_ms + ms
        while node.core is not None:
            due_ms = node.core.next_deadline_ms()
            if due_ms is None or due_ms > end_ms:
                break
            node.clock_ms = max(node.clock_ms, due_ms)
            self.step(node, ev.Ticked())
        node.clock_ms = end_ms

    @rule(place=st.integers(0, 2), ms=st.sampled_from([10_000, 200_000]))
    def a_node_sleeps(self, place: int, ms: int) -> None:
        self.nodes[place].clock_ms += ms

    @rule(place=st.integers(0, 2), rounds=st.integers(1, 6), prove=st.booleans())
    def all_goes_well_for_a_while(self, place: int, rounds: int, prove: bool) -> None:
        node = self.nodes[place]
        self.a_node_comes_back(place)
        for _ in range(rounds):
            for _ in range(len(node.asked)):
                self.an_answer_comes(place, 0, 11)
            self.time_passes(place, 2_000)
        if prove:
            self.an_attempt_ends(place, Outcome.PROVED)

    @rule(place=st.integers(0, 2), which=st.integers(0, 10**6), luck=st.sampled_from(range(12)))
    def an_answer_comes(self, place: int, which: int, luck: int) -> None:
        node = self.nodes[place]
        if node.core is None or not node.asked:
            return
        asked = node.asked.pop(which % len(node.asked))
        if isinstance(asked, fx.SwapClaim | fx.DeliverWork):
            task, nonce = asked.record.task, asked.record.nonce
            if luck == 0:
                self.step(node, ev.SwapEnded(task, nonce, ev.SwapEnd.UNAVAILABLE))
                return
            won = self.land(node.peer, asked) if luck != 1 else False
            if luck in (1, 2):
                self.step(node, ev.SwapEnded(task, nonce, ev.SwapEnd.UNCERTAIN))
                return
            end = ev.SwapEnd.WON if won else ev.SwapEnd.LOST
            self.step(node, ev.SwapEnded(task, nonce, end, self.ledger.read(task) if luck > 3 else None))
        elif isinstance(asked, fx.ReadClaim):
            answer: ev.Event = ev.ClaimRead(asked.task, self.ledger.read(asked.task))
            self.step(node, ev.ClaimNotRead(asked.task, "away") if luck == 0 else answer)
        elif isinstance(asked, fx.ConfirmTask):
            standing = self.ledger.read(asked.task) if asked.read_claim else None
            answer = ev.TaskConfirmed(asked.task, luck != 1, "", asked.read_claim, standing)
            self.step(node, ev.TaskNotConfirmed(asked.task, "away") if luck == 0 else answer)
        elif isinstance(asked, fx.SaveWork):
            if luck == 0:
                self.step(node, ev.WorkNotSaved(asked.task, asked.epoch, "away"))
                return
            self.safe.update(node.pieces.get((asked.task, asked.epoch), []))
            self.step(node, ev.WorkSaved(asked.task, asked.epoch, "refs/rescue"))
        elif isinstance(asked, fx.OpenPull):
            found: ev.Event = ev.PullFound(asked.task.id, f"https://forge.example/{asked.record.branch}")
            self.step(node, ev.PullNotFound(asked.task.id, "away") if luck == 0 else found)
        elif isinstance(asked, fx.ListTasks):
            listed = ev.TasksListed(REPOSITORY.key, TASKS, self.ledger.claims())
            self.step(node, ev.TasksNotListed(REPOSITORY.key, "away") if luck == 0 else listed)
        else:
            self.step(node, ev.RepositoriesFound((REPOSITORY,)))

    @rule(which=st.integers(0, 10**6))
    def an_old_write_lands_again(self, which: int) -> None:
        if self.sent:
            self.land(*self.sent[which % len(self.sent)])

    @rule(place=st.integers(0, 2), which=st.integers(0, 10**6))
    def a_message_arrives_once_more(self, place: int, which: int) -> None:
        if self.messages:
            peer, message = self.messages[which % len(self.messages)]
            self.step(self.nodes[place], ev.Heard(peer, message))

    @rule(place=st.integers(0, 2), outcome=st.sampled_from([Outcome.PROVED, *Outcome]))
    def an_attempt_ends(self, place: int, outcome: Outcome) -> None:
        node = self.nodes[place]
        for key in sorted(node.running):
            del node.running[key]
            piece = self.make(node, key)
            commit = piece if outcome is Outcome.PROVED else None
            self.step(node, ev.AttemptEnded(*key, outcome, "so", True, commit))
            return

    @rule(place=st.integers(0, 2), other=st.integers(0, 2), truly=st.booleans())
    def a_node_is_found_dead(self, place: int, other: int, truly: bool) -> None:
        """With the strongest evidence there is, true or not, somebody else takes over what it held."""
        if place == other:
            return
        node, peer = self.nodes[place], self.nodes[place].peer
        if truly:
            self.kill(node)
        self.step(self.nodes[other], ev.PeerUp(peer, ("/ip4/10.0.0.1/tcp/1",)))
        self.step(self.nodes[other], ev.Heard(peer, Availability(peer, node.incarnation, 1, 2)))
        self.all_goes_well_for_a_while(other, 1, False)
        self.step(self.nodes[other], ev.PeerDown(peer))
        for _ in range(7):
            self.step(self.nodes[other], ev.ProbeEnded(peer, ev.Probed.REFUSED))
            self.time_passes(other, 1_000)
        self.all_goes_well_for_a_while(other, 3, False)

    @rule(place=st.integers(0, 2), other=st.integers(0, 2), up=st.booleans())
    def a_connection_changes(self, place: int, other: int, up: bool) -> None:
        if place != other:
            peer = self.nodes[other].peer
            self.step(self.nodes[place], ev.PeerUp(peer, ("/ip4/10.0.0.1/tcp/1",)) if up else ev.PeerDown(peer))

    @rule(place=st.integers(0, 2), other=st.integers(0, 2), found=st.sampled_from(ev.Probed))
    def a_probe_ends(self, place: int, other: int, found: ev.Probed) -> None:
        if place != other:
            self.step(self.nodes[place], ev.ProbeEnded(self.nodes[other].peer, found))

    @rule(place=st.integers(0, 2))
    def a_node_dies(self, place: int) -> None:
        self.kill(self.nodes[place])

    @rule(place=st.integers(0, 2), fuse=st.integers(0, 6))
    def a_node_dies_in_the_middle_of_a_step(self, place: int, fuse: int) -> None:
        self.step(self.nodes[place], ev.Ticked(), fuse)

    @rule(place=st.integers(0, 2))
    def a_node_comes_back(self, place: int) -> None:
        if self.nodes[place].core is None:
            self.start(self.nodes[place])

    @rule(place=st.integers(0, 2))
    def a_node_is_asked_to_stop(self, place: int) -> None:
        self.step(self.nodes[place], ev.StopAsked())

    # --- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def no_task_is_delivered_twice(self) -> None:
        assert all(count <= 1 for count in self.deliveries.values())
        assert len(self.ledger.branches) == sum(self.deliveries.values())

    @invariant()
    def what_is_active_and_only_that_has_something_under_way(self) -> None:
        for node in self.nodes:
            if node.core is None:
                continue
            context = node.core.context
            for key, entry in context.entries.items():
                under_way = entry.own is not None or entry.pending is not None or entry.recovered is not None
                assert not under_way or key in context.active, (key, entry)
                assert entry.running == ((key, entry.own.record.epoch if entry.own else 0) in node.running)


TestThreeNodes = ThreeNodes.TestCase
TestThreeNodes.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)

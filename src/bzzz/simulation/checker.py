"""The invariants, each with a name, checked at every write and at the end.

They look at the simulated world from above: at what really stands in the ledger and on the disks, never at
what a core believes.

============== ======================================================================================
one-delivery   a task is delivered at most once between two times that a person asks for it
epoch          epochs never fall, and grow by exactly one whenever the holder changes
fence          a work branch appears only together with its claim's move to ``delivered``, by the holder
               of the newest epoch
work           every piece of work that an attempt made is delivered, rescued, or still on its disk
kept           a holder that still holds, paused or running, is not taken over from while its host answers
attempt        no two attempts of one task run under the same epoch at once
pull           each delivery has exactly one pull request in the end
end            after the faults every task ends: delivered, escalated, closed, or asked of a person
rest           in the end no living node has anything left under way
core           a core never raises
============== ======================================================================================
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bzzz.core.claim import HOLDING, ClaimState
from bzzz.core.effect import SwapClaim
from bzzz.core.record import Observation, RecordState
from bzzz.core.task import TaskId
from bzzz.simulation.ledger import Write

if TYPE_CHECKING:
    from bzzz.simulation.shell import Shell
    from bzzz.simulation.world import World, WorldResult

ANSWERING_MS = 120_000
"""A host that could be reached for so long without a break has been seen to answer by whoever looked."""


class Checkers:
    """All named checkers of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epochs: dict[TaskId, int] = {}
        self._branches: dict[TaskId, list[str]] = {}
        self._deliveries: Counter[TaskId] = Counter()
        self._made: dict[str, TaskId] = {}
        self._delivered_pieces: set[str] = set()
        self._held_ever: set[TaskId] = set()
        self.claims = 0
        self.claim_writes = 0
        self.reclaimed = 0

    # --- as it happens ----------------------------------------------------------------------------------

    def written(self, write: Write) -> None:
        """A claim ref or a branch changed."""
        self._check_epoch(write)
        self._check_fence(write)
        record = write.sent
        if write.after is not None and write.after.record is record and record.state is RecordState.HELD:
            before = write.before
            if before is None or record.epoch > before.record.epoch:
                self.claims += 1
                self._held_ever.add(write.task)
                if before is not None and before.record.state is RecordState.HELD:
                    self.reclaimed += 1
        if self._world.tracing:
            before_text = _shown(write.before)
            text = f"{before_text} -> {_shown(write.after)} branch {write.branch}"
            self._world.trace("ledger", f"written by {write.by}", text, write.task)

    def _check_epoch(self, write: Write) -> None:
        record, newest = write.sent, self._epochs.get(write.task, 0)
        before = write.before
        changed = (
            before is None
            or before.record.state is not RecordState.HELD
            or (before.record.holder.peer != record.holder.peer)
        )
        claims = record.state is RecordState.HELD and (changed or record.epoch != newest)
        if record.epoch < newest or (claims and record.epoch != newest + 1):
            text = f"{write.by} wrote epoch {record.epoch} ({record.state}) after epoch {newest}"
            self._world.violate("epoch", write.task, text)
        self._epochs[write.task] = max(newest, record.epoch)

    def _check_fence(self, write: Write) -> None:
        if write.branch is None:
            return
        world, task, record = self._world, write.task, write.sent
        moved = write.after is not None and write.after.record.state is RecordState.DELIVERED
        owned = (
            write.before is not None
            and write.before.record.state is RecordState.HELD
            and write.before.record.epoch == record.epoch
            and write.before.record.holder.peer == record.holder.peer
        )
        if not moved or not owned or record.epoch != self._epochs.get(task, 0):
            text = f"{write.by} created {write.branch} for epoch {record.epoch}; the claim: {_shown(write.before)}"
            world.violate("fence", task, text)
        self._deliveries[task] += 1
        self._branches.setdefault(task, []).append(write.branch)
        self._delivered_pieces.add(record.commit or "")
        if self._deliveries[task] > 1:
            world.violate("one-delivery", task, f"delivered as {self._branches[task]}")

    def claim_sent(self, shell: Shell, effect: SwapClaim) -> None:
        """A node is about to write a claim: is it one that it must not take?"""
        if effect.purpose != "claim":
            return
        self.claim_writes += 1
        world = self._world
        standing = world.ledger.read(effect.task)
        if standing is None or standing.version != effect.expected or standing.record.state is not RecordState.HELD:
            return
        holder = world.by_peer.get(standing.record.holder.peer)
        if holder is None or holder is shell or holder.core is None:
            return
        core = holder.core
        entry = core.context.entries.get(effect.task)
        keeps = (
            holder.incarnation == standing.record.holder.incarnation
            and entry is not None
            and entry.state in HOLDING
            and not core.context.stopping
        )
        reached_since = world.network.way_since_ms(shell.place, holder.place)
        answers = world.network.way(shell.place, holder.place) and world.now_ms - reached_since >= ANSWERING_MS
        if keeps and answers and self._could_know(shell, holder):
            state = f"paused since {holder.paused_since_ms}" if holder.paused else "running"
            text = f"{shell.peer} takes over from {holder.peer}, which is {state}: {effect.record.reason}"
            world.violate("kept", effect.task, text)

    def _could_know(self, shell: Shell, holder: Shell) -> bool:
        """Whether the taker met the holder since its start, or could surely ask somebody who did."""
        core, network = shell.core, self._world.network
        member = core.context.membership.get(holder.peer) if core is not None else None
        if member is not None and member.addresses:
            return True
        others = [other for other in self._world.shells if other not in (shell, holder)]
        return not network.weather.loss and any(
            other.attentive
            and other.core is not None
            and (seen := other.core.context.membership.get(holder.peer)) is not None
            and bool(seen.addresses)
            and network.way(shell.place, other.place)
            and network.way(other.place, holder.place)
            and self._world.now_ms - network.way_since_ms(shell.place, other.place) >= ANSWERING_MS
            and self._world.now_ms - network.way_since_ms(other.place, holder.place) >= ANSWERING_MS
            and self._world.now_ms - other.attentive_since_ms >= ANSWERING_MS
            for other in others
        )

    def attempt_started(self, shell: Shell, task: TaskId, epoch: int) -> None:
        """An attempt is about to start."""
        for other in self._world.shells:
            if (task, epoch) in other.attempts:
                text = f"{shell.peer} starts an attempt with epoch {epoch}; {other.peer} runs one"
                self._world.violate("attempt", task, text)

    def work_made(self, task: TaskId, piece: str) -> None:
        """An attempt made something."""
        self._made[piece] = task

    def forgotten(self, shell: Shell, task: TaskId, epoch: int) -> None:
        """A node is about to delete an attempt's folder."""
        if (task, epoch) in shell.attempts:
            self._world.violate("work", task, f"{shell.peer} forgets epoch {epoch} while its attempt runs")
        folder = shell.folders.get((task, epoch))
        for piece in folder.pieces if folder is not None else ():
            if not self._safe(piece):
                self._world.violate("work", task, f"{shell.peer} forgets {piece}, which is nowhere else")

    def finished(self, shell: Shell) -> None:
        """A node ended in order: what it leaves must be in its journal."""
        for task, epoch in shell.attempts:
            self._world.violate("rest", task, f"{shell.peer} ended in order with epoch {epoch} running")

    def _safe(self, piece: str) -> bool:
        return piece in self._delivered_pieces or piece in self._world.forge.rescued

    # --- the end ----------------------------------------------------------------------------------------

    def _ended(self, task: TaskId) -> str:
        world = self._world
        standing = world.ledger.read(task)
        if self._deliveries[task] and (standing is None or standing.record.state is RecordState.DELIVERED):
            return "delivered"
        if standing is not None and standing.record.state is RecordState.ESCALATED:
            return "escalated"
        if standing is not None and standing.record.state is RecordState.HELD:
            holder = world.by_peer.get(standing.record.holder.peer)
            # A closed issue is nobody's to take over from a holder that is gone for good.
            return "closed" if task in world.forge.closed and holder is not None and holder.gone_for_good else ""
        if task in world.forge.closed:
            return "closed"
        if standing is None:
            return ""
        for shell in world.shells:
            entry = shell.core.context.entries.get(task) if shell.core is not None else None
            if shell.core is not None and (entry is None or entry.declined_update is None):
                return ""
        return "asked"

    def all_ended(self) -> bool:
        """Whether every task ended and every node is through with what it had."""
        return all(self._ended(task) for task in self._world.forge.tasks) and not any(
            shell.core.context.active for shell in self._world.shells if shell.core is not None
        )

    def at_end(self) -> None:
        """What must hold when everything has had its time."""
        world = self._world
        for task in world.forge.tasks:
            if not self._ended(task):
                world.violate("end", task, f"not ended at {world.now_ms} ms: {_shown(world.ledger.read(task))}")
        on_disk = {piece for shell in world.shells for folder in shell.folders.values() for piece in folder.pieces}
        for piece, task in self._made.items():
            if not self._safe(piece) and piece not in on_disk:
                world.violate("work", task, f"{piece} is nowhere")
        for task, branches in self._branches.items():
            for branch in branches:
                opened = sum(1 for _, head in world.forge.pulls_opened if head == branch)
                if opened != 1 and task not in world.forge.closed:
                    world.violate("pull", task, f"{branch} has {opened} pull requests")
        for shell in world.shells:
            if shell.core is None:
                continue
            for task in sorted(shell.core.context.active):
                state = shell.core.context.entries[task].state.name
                world.violate("rest", task, f"{shell.peer} still has it, {state}")
            for task, entry in shell.core.context.entries.items():
                if task not in shell.core.context.active and (
                    entry.state is not ClaimState.IDLE or entry.pending or entry.own or entry.recovered
                ):
                    world.violate("rest", task, f"{shell.peer} keeps something of it though it is not active")

    def count(self, result: WorldResult) -> None:
        """Fill in the figures."""
        ends = Counter(self._ended(task) for task in self._world.forge.tasks)
        result.delivered = sum(1 for task in self._world.forge.tasks if self._deliveries[task])
        result.escalated = ends["escalated"]
        result.other_ends = ends["closed"] + ends["asked"]
        result.undelivered = sum(1 for task in self._world.forge.tasks if not self._ended(task))
        result.double_deliveries = sum(count - 1 for count in self._deliveries.values() if count > 1)
        result.claims = self.claims
        result.claim_writes = self.claim_writes
        result.reclaimed = self.reclaimed
        result.contended = self._world.ledger.swaps_lost


def _shown(seen: Observation | None) -> str:
    if seen is None:
        return "nothing"
    record = seen.record
    holder = f"{record.holder.peer}/{record.holder.incarnation}"
    return f"epoch {record.epoch} {record.state} by {holder} ({seen.version[:8]})"

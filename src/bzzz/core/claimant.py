"""What every part of a holder needs: the next record of a claim, telling of it, and being through with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bzzz.core.context import Context
from bzzz.core.effect import Forget, LeaveTopic, Publish
from bzzz.core.entry import Entry, said
from bzzz.core.event import Recovered
from bzzz.core.message import COORDINATION_TOPIC, TaskClaim, TaskComplete, task_topic
from bzzz.core.pursuit import Pursuit
from bzzz.core.record import ClaimRecord, Holder, Observation, RecordState

REASON_CHARS_MAX = 500


class Claimant:
    """This node as one who holds claims. ``take_up`` is told of older work of a task that is free again."""

    def __init__(self, context: Context, pursuit: Pursuit) -> None:
        self._ctx = context
        self._pursuit = pursuit
        self.take_up: Callable[[Recovered, list[Recovered]], None] = _nobody

    def child(
        self,
        own: Observation,
        state: RecordState,
        *,
        branch: str | None = None,
        commit: str | None = None,
        reason: str | None = None,
        strikes: int | None = None,
    ) -> ClaimRecord:
        """The next record of one's own claim: same epoch, fresh nonce."""
        profile = self._ctx.profile
        return replace(
            own.record,
            holder=Holder(profile.peer, profile.agent, profile.incarnation),
            state=state,
            nonce=self._ctx.nonce(),
            branch=branch,
            commit=commit,
            reason=clean(reason) if reason else None,
            strikes=own.record.strikes if strikes is None else strikes,
            noted_at=self._ctx.noted_at(),
        )

    def tell_claim(self, entry: Entry) -> None:
        """Tell the others that the task is taken, so that they stand down."""
        if entry.own is not None:
            claim = said(entry.own.record)
            self._ctx.emit(Publish(COORDINATION_TOPIC, TaskClaim(entry.task.id, claim, self._ctx.profile.agent)))

    def completion(self, entry: Entry, record: ClaimRecord, pull_request: str = "") -> TaskComplete:
        """What is told when a claim ends: delivered, given back, or handed to a person."""
        return TaskComplete(
            entry.task.id,
            said(record),
            self._ctx.profile.agent,
            record.branch or "",
            pull_request,
            record.reason or "",
        )

    def leave(self, entry: Entry, epoch: int) -> None:
        """The claim is no more this node's: leave the task's topic, and be through with it."""
        self._ctx.emit(LeaveTopic(task_topic(entry.task.id)))
        self.done(entry, forget=None if entry.save_given_up else epoch)

    def done(self, entry: Entry, forget: int | None) -> None:
        """Nothing is under way any more; ``forget`` is the epoch whose journal and folder may go."""
        key = entry.task.id
        for kind in ("renew", "swap", "save", "pull", "check", "recover"):
            self._ctx.timers.cancel((kind, key))
        entry.clear_attempt()
        self._ctx.active.discard(key)
        if forget is not None:
            self._ctx.emit(Forget(key, forget))
        if entry.older and not self._ctx.stopping:
            self.take_up(entry.older.pop(), entry.older)
        self._pursuit.consider_all()


def clean(reason: str) -> str:
    """A reason as a record can hold it: bounded, and without halves of letters, which UTF-8 cannot write."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else letter
        for letter in reason[:REASON_CHARS_MAX]
    )


def is_own(standing: Observation, record: ClaimRecord, state: RecordState) -> bool:
    """Whether what stands is of the same claim as a record of this node, in this state."""
    found = standing.record
    return (found.state, found.epoch, found.holder.peer) == (state, record.epoch, record.holder.peer)


def _nobody(recovered: Recovered, _: list[Recovered]) -> None:
    raise AssertionError(f"older work of {recovered.task.id} has no taker")

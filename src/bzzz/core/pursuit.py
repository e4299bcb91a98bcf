"""Getting a claim: whose turn it is, making sure, and the compare-and-swap.

The mesh decides who should try, by rank and waiting; the ledger decides who has it. What follows once the
claim is held is in ``bzzz.core.holding``.
"""

from __future__ import annotations

from bzzz.core.capability import match
from bzzz.core.claim import ClaimEvent, ClaimState
from bzzz.core.context import Context
from bzzz.core.effect import Publish
from bzzz.core.entry import Entry
from bzzz.core.event import TaskConfirmed, TaskNotConfirmed
from bzzz.core.membership import Liveness
from bzzz.core.message import COORDINATION_TOPIC, DISCUSSION_TOPIC, Discussion, Hint, TaskClaim
from bzzz.core.ranking import weight
from bzzz.core.record import REOPENABLE, ClaimRecord, Holder, RecordState
from bzzz.core.swap import Swaps
from bzzz.core.task import TaskId

HEARD_OF_HOLDER = "heard_of_holder"
"""What a ``coordination_request`` asks before silence is taken for death."""


class Pursuit:
    """Everything before a claim is held."""

    def __init__(self, context: Context, swaps: Swaps) -> None:
        self._ctx = context
        self._swaps = swaps
        self._vouches = 0
        self._vouch_minute_ms = 0

    def consider(self, entry: Entry) -> None:
        """Take a place in the order of those who try, if this task may be tried at all."""
        ctx = self._ctx
        key = entry.task.id
        claim = entry.believed()
        at_ms = self._claimable_at(entry, claim)
        if at_ms is not None and at_ms <= ctx.now_ms:
            ranked = ctx.ranked(entry, claim)
            if ctx.profile.peer in ranked:
                entry.place = ranked.index(ctx.profile.peer)
                ctx.timers.set_earlier(("turn", key), ctx.now_ms + entry.place * ctx.policy.turn_step_ms)
            return
        ctx.timers.cancel(("turn", key))
        if entry.hearsay() and self._wanted(entry):
            doubt_ms = self._doubt_at(entry)
            at_ms = doubt_ms if at_ms is None else min(at_ms, doubt_ms)
        if at_ms is None:
            ctx.timers.cancel(("look", key))
        else:
            ctx.timers.set(("look", key), max(at_ms, ctx.now_ms + 1))

    def look_due(self, task: TaskId) -> None:
        """Time passed that may change the answer: what was only heard for long is read at last."""
        ctx = self._ctx
        entry = ctx.entries.get(task)
        if entry is None or entry.state is not ClaimState.IDLE:
            return
        if entry.hearsay() and self._wanted(entry) and ctx.now_ms >= self._doubt_at(entry):
            ctx.counters["hints_doubted"] += 1
            ctx.ask_ledger(entry)
            # The answer brings the next look; this one is for when none comes.
            ctx.timers.set(("look", task), ctx.now_ms + ctx.policy.retry_max_ms)
        else:
            self.consider(entry)

    def urgency(self, entry: Entry) -> tuple[int, int, str, int]:
        """Sorts tasks by priority, then in an order of this node's own, so that nodes do not all try the same."""
        key = entry.task.id
        return -entry.task.priority, -weight(str(key), self._ctx.profile.peer), key.repository, key.number

    def consider_all(self) -> None:
        """A place became free, or the order changed: look at everything again, the urgent first."""
        entries = [e for e in self._ctx.entries.values() if e.open and e.state is ClaimState.IDLE]
        for entry in sorted(entries, key=self.urgency):
            self.consider(entry)

    def consider_held_by(self, peer: str) -> None:
        """The evidence about a holder changed: look at its tasks again."""
        for entry in self._ctx.entries.values():
            if entry.state is ClaimState.IDLE and entry.open:
                claim = entry.believed()
                if claim is not None and claim.peer == peer and claim.state is RecordState.HELD:
                    self.consider(entry)

    def turn_came(self, task: TaskId) -> None:
        """The waiting is over: make sure, if the task is still to be had and there is a place."""
        ctx = self._ctx
        entry = ctx.entries.get(task)
        if entry is None or entry.state is not ClaimState.IDLE:
            return
        claim = entry.believed()
        at_ms = self._claimable_at(entry, claim)
        if at_ms is None or at_ms > ctx.now_ms:
            self.consider(entry)
            return
        if ctx.places_left_in(task.repository) == 0 or (claim is not None and not self._others_asked(entry, claim)):
            return
        entry.happen(ClaimEvent.TURN_CAME)
        ctx.active.add(task)
        # Appending to a record needs that record from the ledger itself: its epoch is not hearsay. And who
        # is not the first to try reads before writing, for somebody may have it by now.
        doubtful = entry.place > 0 or ctx.now_ms < entry.hints_refuted_until_ms
        ctx.ask_forge(entry, read_claim=claim is not None or doubtful)

    def _others_asked(self, entry: Entry, claim: Hint) -> bool:
        """Whether silence was confirmed by asking: somebody else may have had an answer from the holder's host."""
        ctx, policy = self._ctx, self._ctx.policy
        if claim.state is not RecordState.HELD or not ctx.verdict(entry, claim).by_silence:
            return True
        asked_ms = entry.silence_asked_ms
        if asked_ms is None or ctx.now_ms - asked_ms > 2 * policy.objection_wait_ms:
            asked_ms = entry.silence_asked_ms = ctx.now_ms
            entry.silence_ask_again_ms = asked_ms
        due_ms = asked_ms + policy.objection_wait_ms
        if ctx.now_ms >= due_ms:
            return True
        if ctx.now_ms >= entry.silence_ask_again_ms:
            # More than once, for a question or its answer may be lost.
            entry.silence_ask_again_ms = ctx.now_ms + policy.objection_ask_ms
            task = entry.task.id
            data = {
                "ask": HEARD_OF_HOLDER,
                "repository": task.repository,
                "issue_id": task.number,
                "node_id": claim.peer,
                "epoch": claim.epoch,
                "incarnation": claim.incarnation,
            }
            ctx.emit(Publish(DISCUSSION_TOPIC, Discussion("coordination_request", data)))
        ctx.timers.set(("turn", entry.task.id), min(due_ms, entry.silence_ask_again_ms))
        return False

    def asked(self, message: Discussion) -> None:
        """Somebody asks whether anyone has a sign of a holder's life; if so, say so, unless another is quicker."""
        ctx, data = self._ctx, message.data
        repository, peer = data.get("repository"), data.get("node_id")
        numbers = [data.get(name) for name in ("issue_id", "epoch", "incarnation")]
        if data.get("ask") != HEARD_OF_HOLDER or not (isinstance(repository, str) and isinstance(peer, str)):
            return
        number, epoch, incarnation = (value if type(value) is int else -1 for value in numbers)
        if min(number, epoch, incarnation) < 0 or not self._heard_of(peer, incarnation):
            return
        if ctx.now_ms >= self._vouch_minute_ms + 60_000:
            self._vouch_minute_ms, self._vouches = ctx.now_ms, 0
        if self._vouches >= ctx.policy.vouches_per_minute_max:
            ctx.counters["dropped_vouches"] += 1
            return
        self._vouches += 1
        task = TaskId(repository, number)
        wait_ms = weight(str(task), ctx.profile.peer) % max(1, ctx.policy.objection_ask_ms // 3)
        ctx.timers.set_earlier(("vouch", task, epoch, peer, incarnation), ctx.now_ms + wait_ms)

    def vouch_due(self, task: TaskId, epoch: int, peer: str, incarnation: int) -> None:
        """Nobody was quicker: say that the holder's host was heard or answered."""
        if self._heard_of(peer, incarnation):
            self._ctx.counters["vouched"] += 1
            claim = Hint(epoch, RecordState.HELD, peer, incarnation)
            self._ctx.emit(Publish(COORDINATION_TOPIC, TaskClaim(task, claim, self._ctx.profile.agent)))

    def _heard_of(self, peer: str, incarnation: int) -> bool:
        """Whether this node itself had a sign of this start of a peer, no longer ago than silence must last."""
        ctx = self._ctx
        member = ctx.membership.get(peer)
        if member is None or member.incarnation > incarnation or member.liveness is Liveness.LEFT:
            return False
        return ctx.now_ms - max(member.heard_ms, member.answered_ms) < ctx.policy.claim_ttl_s * 1000

    def vouched(self, entry: Entry, speaker: str, claim: Hint) -> None:
        """Another node says that a holder lives. That delays, a bounded number of times, and never decides."""
        ctx, policy = self._ctx, self._ctx.policy
        ctx.timers.cancel(("vouch", entry.task.id, claim.epoch, claim.peer, claim.incarnation))
        known, asked_ms = entry.known(), entry.silence_asked_ms
        if speaker == claim.peer or known is None or (known.epoch, known.peer) != (claim.epoch, claim.peer):
            return
        if asked_ms is None or ctx.now_ms - asked_ms > 2 * policy.objection_wait_ms:
            return
        # As long as with a claim of the usual life: where lives are short, a holder would else be robbed that stood
        # still for some of them, though its host answers everybody but this node.
        ttl_s = policy.claim_ttl_s if entry.standing is None else entry.standing.record.ttl_s
        if entry.vouches < max(policy.vouches_max, policy.vouched_ms_max // (1000 * max(1, ttl_s))):
            entry.vouches += 1
            entry.vouched_ms = ctx.now_ms
            entry.silence_asked_ms = None

    def confirmed(self, event: TaskConfirmed) -> None:
        """The issue was read again: claim it, unless it is gone or taken."""
        ctx = self._ctx
        entry = ctx.entries.get(event.task)
        if entry is None or entry.state is not ClaimState.CONFIRMING:
            return
        if event.claim_read:
            ctx.settle_hint(entry, event.standing, entry.confirm_asked_ms)
            entry.observe(event.standing, ctx.now_ms)
        if not event.admitted:
            entry.open = False
            self._stand_down(entry)
            return
        claim = entry.believed()
        at_ms = self._claimable_at(entry, claim)
        if at_ms is None or at_ms > ctx.now_ms or ctx.stopping:
            self._stand_down(entry)
            return
        standing = entry.standing
        if claim is not None and (standing is None or entry.hearsay()):
            # Heard of meanwhile, and not read: make sure again.
            ctx.ask_forge(entry, read_claim=True)
            return
        if claim is not None and not self._others_asked(entry, claim):
            # When its turn came something else was believed, perhaps a falsehood: that it had been given back.
            self._stand_down(entry)
            return
        expected = standing.version if standing is not None else None
        if event.claim_read and event.standing is None and entry.standing_since_ms <= entry.confirm_asked_ms:
            expected = None  # the ref was removed by hand; epochs go on from what is remembered
        record = ClaimRecord(
            task=event.task,
            epoch=standing.record.epoch + 1 if standing is not None else 1,
            holder=Holder(ctx.profile.peer, ctx.profile.agent, ctx.profile.incarnation),
            state=RecordState.HELD,
            nonce=ctx.nonce(),
            ttl_s=ctx.policy.claim_ttl_s,
            reason=self._reason(entry, claim),
            strikes=standing.record.strikes if standing is not None else 0,
            noted_at=ctx.noted_at(),
            answered=standing.record.answered if standing is not None else 0,
        )
        entry.happen(ClaimEvent.CONFIRMED)
        self._swaps.send(entry, expected, record, "claim")

    def not_confirmed(self, event: TaskNotConfirmed) -> None:
        """The forge or the ledger did not answer: stand down for a while."""
        entry = self._ctx.entries.get(event.task)
        if entry is None or entry.state is not ClaimState.CONFIRMING:
            return
        self._ctx.counters["not_confirmed"] += 1
        self.back_off(entry, event.retry_after_ms)
        self._stand_down(entry)

    def back_off(self, entry: Entry, least_ms: int | None) -> None:
        """Let this task rest, longer at each failure in a row."""
        ctx = self._ctx
        entry.tries += 1
        entry.not_before_ms = max(entry.not_before_ms, ctx.now_ms + ctx.backoff_ms(entry.tries, least_ms))

    def _stand_down(self, entry: Entry) -> None:
        entry.happen(ClaimEvent.NOT_CONFIRMED)
        self._ctx.active.discard(entry.task.id)
        self.consider_all()  # the place that it had taken is free

    def _wanted(self, entry: Entry) -> bool:
        """Whether this node would try for the task if it were to be had."""
        ctx = self._ctx
        if not entry.open or ctx.stopping or not ctx.accepting or entry.recovered is not None:
            return False
        if entry.state not in (ClaimState.IDLE, ClaimState.CONFIRMING):
            return False
        if entry.task.id.repository not in ctx.repositories:
            return False
        if entry.declined_update is not None and entry.declined_update == entry.task.wording:
            return False
        own = ctx.profile
        return match(entry.task, own.capabilities, own.specialization, own.models) > 0

    def _doubt_at(self, entry: Entry) -> int:
        """When what was only heard of a claim is to be read: later for who would not be the first to try.

        A held task that its holder's heartbeats no longer confirm is doubted soon, anything else in the end:
        so a falsehood delays a task, and no more.
        """
        policy, patience = self._ctx.policy, 1 + entry.place
        at_ms = entry.hint_since_ms + policy.hint_trust_ms * patience
        if entry.hint is not None and entry.hint.state is RecordState.HELD:
            at_ms = min(at_ms, entry.hint_ms + policy.hint_ttl_ms * patience)
        return max(at_ms, entry.not_before_ms)

    def _claimable_at(self, entry: Entry, claim: Hint | None) -> int | None:
        """When this node may try for the task: a time, or ``None`` while nothing suggests it."""
        ctx = self._ctx
        if (claim is not None and claim.state in REOPENABLE) or not self._wanted(entry):
            return None
        at_ms = max(entry.not_before_ms, ctx.cooldown_until_ms, ctx.settled_ms)
        if claim is None or claim.state is RecordState.RELEASED:
            return at_ms
        verdict = ctx.verdict(entry, claim)
        if verdict.allowed:
            return at_ms
        return None if verdict.at_ms is None else max(at_ms, verdict.at_ms)

    def _reason(self, entry: Entry, claim: Hint | None) -> str | None:
        if claim is None or claim.state is not RecordState.HELD:
            return None
        who = entry.standing.record.holder.agent if entry.standing is not None else claim.peer
        return f"taken over from {who}: {self._ctx.verdict(entry, claim).reason}"

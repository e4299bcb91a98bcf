"""When a held task may be taken over: the one rule, and its kinds of evidence.

Silence is not death. A holder that is partitioned, swapping or stopped in a debugger must not lose its
work, so strong evidence is quick and weak evidence is slow. Nothing here makes a second delivery possible;
that is the fence's work. This only decides when trying is decent.
"""

from __future__ import annotations

from dataclasses import dataclass

from bzzz.core.membership import Liveness, Member
from bzzz.core.profile import Policy
from bzzz.core.record import RecordState


@dataclass(frozen=True, slots=True)
class HeldView:
    """What the observer knows of a claim that somebody holds.

    ``version_since_ms`` is when the observer itself first saw the version that stands in the ledger now,
    on its own monotonic clock; ``None`` if it has only heard of it. ``vouched_ms`` is when another node last
    said that it has a sign of the holder's life; ``awake_since_ms`` since when the observer itself has been
    listening without a break: what it could not have heard does not count as silence.
    """

    state: RecordState
    peer: str
    incarnation: int
    listed: bool
    version_since_ms: int | None
    ttl_s: int
    vouched_ms: int = 0
    awake_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a take-over is allowed now, and why; else when to look again, if waiting can help.

    ``by_silence`` marks the weakest evidence: others are asked before it is used.
    """

    allowed: bool
    reason: str
    at_ms: int | None = None
    by_silence: bool = False


def judge(view: HeldView, member: Member | None, own_peer: str, now_ms: int, policy: Policy) -> Verdict:
    """Apply the rule of claims.md to one held claim.

    ``member`` is what is known of the holder; ``view.listed`` says whether its newest heartbeat lists the
    task, or nothing is known that speaks against it.
    """
    if view.state is RecordState.ESCALATED:
        return Verdict(False, "a person is asked")
    if view.state is RecordState.DELIVERED:
        return Verdict(False, "delivered")
    if view.peer == own_peer:
        return Verdict(True, "own claim of an earlier start")
    # What is known of an earlier start of the holder says nothing about a claim of a later one.
    if member is not None and member.incarnation >= view.incarnation:
        if member.liveness is Liveness.LEFT:
            return Verdict(True, "the holder left")
        if member.incarnation > view.incarnation and member.tasks_known and not view.listed:
            return _from(
                member.heard_ms + policy.returned_holder_grace_ms, now_ms, "the holder started anew without it"
            )
        if member.refused_first_ms is not None and member.refused_twice(policy.refusal_gap_ms):
            found = (
                "another node is where the holder listened"
                if member.replaced
                else "the holder's host refuses connections"
            )
            return _from(member.refused_first_ms + policy.refused_reclaim_ms, now_ms, found)
    if view.version_since_ms is None:
        return Verdict(False, "held")
    quiet_since = max(view.version_since_ms, view.vouched_ms, view.awake_since_ms)
    if member is not None:
        quiet_since = max(quiet_since, member.heard_ms, member.answered_ms)
    return _from(quiet_since + view.ttl_s * 1000, now_ms, "nothing heard of the holder", by_silence=True)


def _from(at_ms: int, now_ms: int, reason: str, *, by_silence: bool = False) -> Verdict:
    if now_ms >= at_ms:
        return Verdict(True, reason, None, by_silence)
    return Verdict(False, reason, at_ms, by_silence)

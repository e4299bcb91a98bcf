"""Safety rules turned off one at a time, in the simulated parts alone: what the checkers are worth.

A checker that cannot fail is worth nothing. Each flaw is what a plausible wrong implementation would do;
with it, the checkers must report a violation. Nothing here exists in production code.
"""

from __future__ import annotations

import enum

from bzzz.core.context import Context
from bzzz.core.entry import Entry
from bzzz.core.membership import Liveness
from bzzz.core.message import Hint
from bzzz.core.node import NodeCore
from bzzz.core.reclaim import Verdict
from bzzz.core.record import RecordState


class Flaw(enum.StrEnum):
    """One safety rule that is not kept."""

    NO_NONCE = "no-nonce"
    """All records carry the same nonce: another's record is taken for one's own."""
    NO_ATOMIC_PUSH = "no-atomic-push"
    """The branch is created although the claim was lost."""
    CLAIM_UNCHANGED = "claim-unchanged"
    """A delivery creates the branch and leaves the claim ref where it is."""
    EPOCH_UNCHECKED = "epoch-unchecked"
    """A delivery is appended to whatever stands."""
    SILENCE_RECLAIM = "silence-reclaim"
    """A holder that is merely silent loses its claim."""
    RELEASE_BY_DELETION = "release-by-deletion"
    """A release removes the ref, so that epochs start again."""


def spoil(core: NodeCore, flaw: Flaw | None) -> None:
    """Turn off, in this one core, the rule that the flaw is about, if it is one of the core's."""
    context = core.context
    if flaw is Flaw.NO_NONCE:
        setattr(context, "nonce", _same_nonce)  # noqa: B010 - replaces a method on purpose
    elif flaw is Flaw.SILENCE_RECLAIM:
        setattr(context, "verdict", _Hasty(context))  # noqa: B010


def _same_nonce() -> str:
    return "0" * 32


class _Hasty:
    """The reclaim rule as many write it: no heartbeat, no claim."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, entry: Entry, claim: Hint) -> Verdict:
        member = self._context.membership.get(claim.peer)
        silent = member is None or member.liveness is not Liveness.ALIVE
        if claim.state is RecordState.HELD and silent:
            return Verdict(True, "nothing heard of the holder")
        return Context.verdict(self._context, entry, claim)

"""The claim state machine: one node's relation to one task, as a table and its executor.

The ledger says who holds a task; these states say what this node is doing about it. A transition that is
not in the table raises and changes nothing, so that no path exists but those written here. The diagram in
docs/protocol.md is drawn from this table by ``bzzz.core.diagram``.

=============  ===========================================================================================
IDLE           nothing of ours is under way: open, somebody else's, delivered, or waiting for its turn
CONFIRMING     our turn: the issue, and the claim if there was one, are read again
CLAIMING       a claim or take-over was sent; its end is not known yet
HELD           the claim is ours; an attempt runs, or its end is about to be dealt with
RENEWING       ours, and a renewal was sent
DELIVERING     the atomic push of branch and claim was sent
PUBLISHING     delivered; the pull request is not known yet
RELEASING      a ``released`` record was sent; unproved work was saved before
ESCALATING     an ``escalated`` record was sent: a person is asked
LOSING         the claim has moved on: the attempt ends, its work is saved, nothing is published
REOPENING      a person asked again for what was delivered or escalated: a ``released`` record was sent
=============  ===========================================================================================
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from bzzz.errors import IllegalTransition


class ClaimState(enum.Enum):
    """What this node is doing about a task's claim."""

    IDLE = "idle"
    CONFIRMING = "confirming"
    CLAIMING = "claiming"
    HELD = "held"
    RENEWING = "renewing"
    DELIVERING = "delivering"
    PUBLISHING = "publishing"
    RELEASING = "releasing"
    ESCALATING = "escalating"
    LOSING = "losing"
    REOPENING = "reopening"


class ClaimEvent(enum.Enum):
    """What happened. Swap events speak of the one write that the state has under way."""

    TURN_CAME = "turn came"
    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not confirmed"
    RESUMED = "resumed"
    DELIVERY_FOUND = "delivery found"
    SWAP_WON = "swap won"
    SWAP_LOST = "swap lost"
    SWAP_REFUSED = "swap refused"
    RENEWAL_DUE = "renewal due"
    ATTEMPT_PROVED = "attempt proved"
    ATTEMPT_FAILED = "attempt failed"
    STRUCK_OUT = "struck out"
    CLAIM_MOVED = "claim moved"
    PULL_FOUND = "pull found"
    WORK_SAVED = "work saved"
    ASKED_AGAIN = "asked again"


S, E = ClaimState, ClaimEvent

TRANSITIONS: Mapping[tuple[ClaimState, ClaimEvent], ClaimState] = MappingProxyType(
    {
        (S.IDLE, E.TURN_CAME): S.CONFIRMING,
        # After a restart: the ledger still shows our record, so it is renewed before anything else is done.
        (S.IDLE, E.RESUMED): S.RENEWING,
        (S.IDLE, E.DELIVERY_FOUND): S.PUBLISHING,
        # After a restart: the ledger shows that the claim moved while this node was away.
        (S.IDLE, E.CLAIM_MOVED): S.LOSING,
        (S.CONFIRMING, E.CONFIRMED): S.CLAIMING,
        (S.CONFIRMING, E.NOT_CONFIRMED): S.IDLE,
        (S.CLAIMING, E.SWAP_WON): S.HELD,
        (S.CLAIMING, E.SWAP_LOST): S.IDLE,
        (S.CLAIMING, E.SWAP_REFUSED): S.IDLE,
        (S.HELD, E.RENEWAL_DUE): S.RENEWING,
        (S.HELD, E.ATTEMPT_PROVED): S.DELIVERING,
        (S.HELD, E.ATTEMPT_FAILED): S.RELEASING,
        (S.HELD, E.STRUCK_OUT): S.ESCALATING,
        (S.HELD, E.CLAIM_MOVED): S.LOSING,
        (S.RENEWING, E.SWAP_WON): S.HELD,
        (S.RENEWING, E.SWAP_LOST): S.LOSING,
        # The claim stands all the same: only its extension was refused. It is tried again.
        (S.RENEWING, E.SWAP_REFUSED): S.HELD,
        # A delivery sent before a crash landed after the restart had read the ledger.
        (S.RENEWING, E.DELIVERY_FOUND): S.PUBLISHING,
        (S.DELIVERING, E.SWAP_WON): S.PUBLISHING,
        (S.DELIVERING, E.SWAP_LOST): S.LOSING,
        # The server will never take this branch (protected, name blocked): the attempt failed.
        (S.DELIVERING, E.SWAP_REFUSED): S.HELD,
        (S.PUBLISHING, E.PULL_FOUND): S.IDLE,
        (S.RELEASING, E.SWAP_WON): S.IDLE,
        (S.RELEASING, E.SWAP_LOST): S.IDLE,
        (S.RELEASING, E.SWAP_REFUSED): S.IDLE,
        # A delivery that was refused when it was sent again had landed all the same.
        (S.RELEASING, E.DELIVERY_FOUND): S.PUBLISHING,
        (S.ESCALATING, E.DELIVERY_FOUND): S.PUBLISHING,
        (S.ESCALATING, E.SWAP_WON): S.IDLE,
        (S.ESCALATING, E.SWAP_LOST): S.IDLE,
        (S.ESCALATING, E.SWAP_REFUSED): S.IDLE,
        (S.LOSING, E.WORK_SAVED): S.IDLE,
        (S.IDLE, E.ASKED_AGAIN): S.REOPENING,
        (S.REOPENING, E.SWAP_WON): S.IDLE,
        (S.REOPENING, E.SWAP_LOST): S.IDLE,
        (S.REOPENING, E.SWAP_REFUSED): S.IDLE,
        # After a restart: delivered before the crash, and what else there was is saved now.
        (S.LOSING, E.DELIVERY_FOUND): S.PUBLISHING,
    }
)

HOLDING = frozenset(
    {S.HELD, S.RENEWING, S.DELIVERING, S.PUBLISHING, S.RELEASING, S.ESCALATING},
)
"""States in which this node is the holder as far as it knows; they are listed in its heartbeat."""

OCCUPYING = frozenset(
    {S.CONFIRMING, S.CLAIMING, S.HELD, S.RENEWING, S.DELIVERING, S.RELEASING, S.ESCALATING, S.LOSING},
)
"""States that take one of the node's places: an attempt runs, may start, or is being cleared away."""


def advance(state: ClaimState, event: ClaimEvent) -> ClaimState:
    """The state after ``event``.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("claim", state.name, event.name) from None

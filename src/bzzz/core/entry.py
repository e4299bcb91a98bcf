"""All that one node keeps of one task: what others say, what the ledger said, and what it does itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from bzzz.core.claim import ClaimEvent, ClaimState, advance
from bzzz.core.event import AttemptEnded, Recovered, SwapEnded
from bzzz.core.message import Hint
from bzzz.core.reclaim import HeldView
from bzzz.core.record import ClaimRecord, Observation, RecordState, Version
from bzzz.core.task import Task

NEVER_MS = -(2**53)
"""A time before any other."""


@dataclass(slots=True)
class Pending:
    """The one write under way: sent, or about to be sent again until its end is known.

    ``refused`` is the refusal of its last sending, while it is read whether an earlier one was carried out.
    """

    record: ClaimRecord
    expected: Version | None
    purpose: str
    checking: bool = False
    uncertain: bool = False
    refused: SwapEnded | None = None
    tries: int = 0


@dataclass(slots=True)
class Entry:
    """One task in the eyes of this node. Times are its monotonic milliseconds."""

    task: Task
    open: bool = True
    state: ClaimState = ClaimState.IDLE

    standing: Observation | None = None
    standing_since_ms: int = 0
    hint: Hint | None = None
    hint_ms: int = 0
    hint_since_ms: int = 0
    hints_refuted_until_ms: int = 0
    asked_ms: int = NEVER_MS
    confirm_asked_ms: int = NEVER_MS
    reading: bool = False
    read_again: bool = False
    vouched_ms: int = 0
    vouches: int = 0
    silence_asked_ms: int | None = None
    silence_ask_again_ms: int = 0
    place: int = 0
    announced: tuple[object, ...] | None = None

    own: Observation | None = None
    pending: Pending | None = None
    recovered: Recovered | None = None
    older: list[Recovered] = field(default_factory=list)
    running: bool = False
    started: bool = False
    stop_reason: str = ""
    ended: AttemptEnded | None = None
    saving: bool = False
    saved_ref: str | None = None
    save_given_up: bool = False
    gone_said: bool = False

    not_before_ms: int = 0
    declined_update: str | None = None
    failures: int = 0
    tries: int = 0
    pull_request: str | None = None
    pull_by: str = ""
    listed: bool = False

    _said_of: Observation | None = None
    _said: Hint | None = None

    def happen(self, event: ClaimEvent) -> None:
        """Take the table's transition.

        Raises:
            IllegalTransition: there is none; the state stays.
        """
        self.state = advance(self.state, event)

    def observe(self, standing: Observation | None, now_ms: int) -> bool:
        """Note what the ledger showed; true if that is new. A reading that came late replaces nothing newer."""
        if standing is None:
            return False
        known = self.standing
        if known is not None and (
            known.version == standing.version or _place(standing.record) < _place(known.record)
        ):
            return False
        self.standing = standing
        self.standing_since_ms = now_ms
        self.vouches = 0
        self.silence_asked_ms = None
        return True

    def suppose(self, hint: Hint | None, now_ms: int) -> None:
        """Note what a peer says, unless more is known, or this task was lied about a short while ago."""
        if hint is None or now_ms < self.hints_refuted_until_ms:
            return
        if self.standing is not None and _place(hint) < _place(self.standing.record):
            return
        if self.hint is not None and _place(hint) < _place(self.hint):
            return
        if self.hint is None:
            self.hint_since_ms = now_ms
        self.hint = hint
        self.hint_ms = now_ms

    def settle_hint(self, standing: Observation | None, asked_ms: int, refuted_until_ms: int) -> bool:
        """Compare what peers said with what the ledger, asked at ``asked_ms``, showed; true if they were wrong.

        What was first heard after the asking may be newer than the answer, and is kept.
        """
        hint = self.hint
        if hint is None:
            return False
        if standing is not None and _place(standing.record) >= _place(hint):
            self.hint = None
            return False
        if self.hint_since_ms > asked_ms:
            return False
        self.hint = None
        self.hints_refuted_until_ms = refuted_until_ms
        return True

    def known(self) -> Hint | None:
        """The claim as the ledger itself last showed it."""
        standing = self.standing
        if standing is not self._said_of:
            self._said_of = standing
            self._said = None if standing is None else said(standing.record)
        return self._said

    def believed(self) -> Hint | None:
        """The claim as far as known: the ledger's word, or a peer's where that is newer."""
        known, hint = self.known(), self.hint
        if hint is not None and (known is None or _place(hint) > _place(known)):
            return hint
        return known

    def hearsay(self) -> bool:
        """Whether what is believed was only heard, and not read."""
        return self.hint is not None and self.believed() is self.hint

    def held_view(self, claim: Hint, listed: bool, ttl_s: int, awake_since_ms: int) -> HeldView:
        """The claim for the reclaim rule."""
        since = None
        if self.standing is not None and self.standing.record.epoch == claim.epoch:
            since = self.standing_since_ms
            ttl_s = self.standing.record.ttl_s
        return HeldView(
            claim.state, claim.peer, claim.incarnation, listed, since, ttl_s, self.vouched_ms, awake_since_ms
        )

    def clear_attempt_result(self) -> None:
        """A new attempt begins under the same claim."""
        self.recovered = None
        self.saving = False
        self.saved_ref = None

    def clear_attempt(self) -> None:
        """Nothing of an attempt is left here."""
        self.own = None
        self.pending = None
        self.recovered = None
        self.running = False
        self.started = False
        self.stop_reason = ""
        self.ended = None
        self.saving = False
        self.saved_ref = None
        self.save_given_up = False
        self.gone_said = False


_ORDER = {RecordState.HELD: 0, RecordState.DELIVERED: 1, RecordState.ESCALATED: 1, RecordState.RELEASED: 2}


def _place(claim: Hint | ClaimRecord) -> tuple[int, int]:
    """Where a record stands in its chain, as far as it tells: by epoch, and within one epoch by state.

    Renewals of one epoch cannot be told apart by this.
    """
    return claim.epoch, _ORDER[claim.state]


def said(record: ClaimRecord) -> Hint:
    """A record in the form in which it is told to others."""
    return Hint(record.epoch, record.state, record.holder.peer, record.holder.incarnation, record.strikes)

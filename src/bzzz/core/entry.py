"""All that one node keeps of one task: what others say, what the ledger said, and what it does itself."""

from __future__ import annotations

from dataclasses import dataclass

from bzzz.core.claim import ClaimEvent, ClaimState, advance
from bzzz.core.event import AttemptEnded, Recovered
from bzzz.core.message import Hint
from bzzz.core.reclaim import HeldView
from bzzz.core.record import ClaimRecord, Observation, RecordState, Version
from bzzz.core.task import Task


@dataclass(slots=True)
class Pending:
    """The one write under way: sent, or about to be sent again until its end is known."""

    record: ClaimRecord
    expected: Version | None
    purpose: str
    checking: bool = False
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
    announced: tuple[object, ...] | None = None

    own: Observation | None = None
    pending: Pending | None = None
    recovered: Recovered | None = None
    running: bool = False
    started: bool = False
    stop_reason: str = ""
    ended: AttemptEnded | None = None
    saved_ref: str | None = None
    save_given_up: bool = False

    not_before_ms: int = 0
    declined_update: str | None = None
    failures: int = 0
    tries: int = 0
    pull_request: str | None = None

    def happen(self, event: ClaimEvent) -> None:
        """Take the table's transition.

        Raises:
            IllegalTransition: there is none; the state stays.
        """
        self.state = advance(self.state, event)

    def observe(self, standing: Observation | None, now_ms: int) -> bool:
        """Note what the ledger showed; true if that is new. An older epoch never replaces a newer one."""
        if standing is None:
            return False
        known = self.standing
        if known is not None and (known.version == standing.version or standing.record.epoch < known.record.epoch):
            return False
        self.standing = standing
        self.standing_since_ms = now_ms
        return True

    def suppose(self, hint: Hint | None, now_ms: int) -> None:
        """Note what a peer says, unless the ledger is known to be further."""
        if hint is None:
            return
        if self.standing is not None and hint.epoch < self.standing.record.epoch:
            return
        if self.hint is not None and hint.epoch < self.hint.epoch:
            return
        self.hint = hint
        self.hint_ms = now_ms

    def believed(self, now_ms: int, hint_ttl_ms: int) -> Hint | None:
        """The claim as far as known: the ledger's word, or a peer's fresh one where that is newer."""
        known = None
        if self.standing is not None:
            record = self.standing.record
            known = Hint(record.epoch, record.state, record.holder.peer, record.holder.incarnation, record.strikes)
        hint = self.hint
        if hint is None or now_ms - self.hint_ms > hint_ttl_ms:
            return known
        if known is None or hint.epoch > known.epoch:
            return hint
        if hint.epoch == known.epoch and known.state is RecordState.HELD and self.hint_ms >= self.standing_since_ms:
            return hint
        return known

    def held_view(self, claim: Hint, listed: bool, ttl_s: int) -> HeldView:
        """The claim for the reclaim rule."""
        since = None
        if self.standing is not None and self.standing.record.epoch == claim.epoch:
            since = self.standing_since_ms
            ttl_s = self.standing.record.ttl_s
        return HeldView(claim.state, claim.peer, claim.incarnation, listed, since, ttl_s)

    def clear_attempt(self) -> None:
        """Nothing of an attempt is left here."""
        self.own = None
        self.pending = None
        self.recovered = None
        self.running = False
        self.started = False
        self.stop_reason = ""
        self.ended = None
        self.saved_ref = None
        self.save_given_up = False

"""The claim record: what one commit of ``refs/bzzz/claims/<number>`` says.

The record is data, not behaviour: who may append which record is decided in ``claim``. Its JSON form is
canonical (sorted keys, no spaces), so that the same record is the same bytes on every node; the nonce is
what makes two claimers' records differ.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NewType

from bzzz.core.task import TaskId

RECORD_VERSION = 1
RECORD_BYTES_MAX = 64 * 1024

Version = NewType("Version", str)
"""What a compare-and-swap compares: in git, the commit that the claim ref points at."""


class RecordState(enum.StrEnum):
    """What a record says of the task."""

    HELD = "held"
    RELEASED = "released"
    DELIVERED = "delivered"
    ESCALATED = "escalated"


REOPENABLE = frozenset({RecordState.DELIVERED, RecordState.ESCALATED})
"""States that only a person's word leads out of."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a claim: the mesh identity, its start count, and the name people know it by."""

    peer: str
    agent: str
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """One link of a task's claim chain.

    ``epoch`` grows by one at each change of holder. ``ttl_s`` is how long, in seconds, silence on the
    observer's own clock is needed before the weakest evidence allows a take-over. ``strikes`` counts
    failed attempts so far; ``noted_at`` is for people and is never read to decide anything. ``answered`` is the
    forge's id of the newest comment that was acted upon, so that a person's word is acted upon once.
    """

    task: TaskId
    epoch: int
    holder: Holder
    state: RecordState
    nonce: str
    ttl_s: int = 900
    branch: str | None = None
    commit: str | None = None
    pull_request: str | None = None
    reason: str | None = None
    strikes: int = 0
    noted_at: str | None = None
    answered: int = 0

    def to_bytes(self) -> bytes:
        """The canonical JSON form, UTF-8."""
        return json.dumps(self.to_object(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def to_object(self) -> dict[str, Any]:
        """The JSON object form; absent fields are left out."""
        value: dict[str, Any] = {
            "version": RECORD_VERSION,
            "task": str(self.task),
            "epoch": self.epoch,
            "holder": {
                "peer": self.holder.peer,
                "agent": self.holder.agent,
                "incarnation": self.holder.incarnation,
            },
            "state": self.state.value,
            "nonce": self.nonce,
            "ttl_s": self.ttl_s,
            "strikes": self.strikes,
        }
        if self.answered:
            value["answered"] = self.answered
        for key in ("branch", "commit", "pull_request", "reason", "noted_at"):
            if getattr(self, key) is not None:
                value[key] = getattr(self, key)
        return value

    @classmethod
    def from_bytes(cls, data: bytes) -> ClaimRecord:
        """Read a record that anyone with push access may have written.

        Raises:
            ValueError: it is too large, not JSON, or not a record; the message says which field.
        """
        if len(data) > RECORD_BYTES_MAX:
            raise ValueError(f"a claim record of {len(data)} bytes is above {RECORD_BYTES_MAX}")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a claim record is not JSON: {error}") from None
        return cls.from_object(value)

    @classmethod
    def from_object(cls, value: object) -> ClaimRecord:
        """As ``from_bytes``, for what is already parsed.

        Raises:
            ValueError: a field is missing or has another type.
        """
        if not isinstance(value, Mapping):
            raise ValueError("a claim record is not a JSON object")
        if value.get("version") != RECORD_VERSION:
            raise ValueError(f"claim record version {value.get('version')!r} is not {RECORD_VERSION}")
        holder = value.get("holder")
        if not isinstance(holder, Mapping):
            raise ValueError("claim record: holder is not an object")
        return cls(
            task=TaskId.parse(_text(value, "task")),
            epoch=_count(value, "epoch", least=1),
            holder=Holder(_text(holder, "peer"), _text(holder, "agent"), _count(holder, "incarnation", default=0)),
            state=RecordState(_text(value, "state")),
            nonce=_text(value, "nonce"),
            ttl_s=_count(value, "ttl_s", default=900),
            branch=_optional(value, "branch"),
            commit=_optional(value, "commit"),
            pull_request=_optional(value, "pull_request"),
            reason=_optional(value, "reason"),
            strikes=_count(value, "strikes", default=0),
            noted_at=_optional(value, "noted_at"),
            answered=_count(value, "answered", default=0),
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """What stands in the ledger for a task: the version to compare with, and the record there."""

    version: Version
    record: ClaimRecord


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise ValueError(f"claim record: {key} is not a string")
    if any("\ud800" <= letter <= "\udfff" for letter in found):
        raise ValueError(f"claim record: {key} holds half a letter, which no UTF-8 can")
    return found


def _optional(value: Mapping[str, Any], key: str) -> str | None:
    return None if value.get(key) is None else _text(value, key)


def _count(value: Mapping[str, Any], key: str, *, default: int | None = None, least: int = 0) -> int:
    found = value.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found < 2**53:
        raise ValueError(f"claim record: {key} is not a whole number of at least {least}")
    return found

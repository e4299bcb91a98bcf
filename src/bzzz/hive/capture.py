"""Captured material: what agents did, said and were asked, as one item each.

Pure. ``prepare`` turns what a client sent into what is stored: secrets out, long texts shortened (and marked), the
whole bounded; who, which model, how many tokens and how much money are read where clients write them. The digest
makes the same item sent twice one item.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from bzzz.hive.redact import Redactor

CaptureKind = Literal[
    "submit-work",
    "create-pr",
    "coordination-discussion",
    "log-prompt",
    "coordination-log",
    "chat-log",
    "antennae-log",
]
KINDS: tuple[CaptureKind, ...] = get_args(CaptureKind)

CAPTURE_BYTES_MAX = 1024 * 1024
CAPTURE_TEXT_CHARACTERS_MAX = 128 * 1024
NAME_CHARACTERS_MAX = 200
TOKENS_MAX = 2**40
COST_USD_MAX = 1_000_000
MICROUSD_PER_USD = 1_000_000

_IN = ("tokens_in", "input_tokens", "prompt_tokens")
_OUT = ("tokens_out", "output_tokens", "completion_tokens")
_ALL = ("total_tokens", "tokens", "tokens_used")
_COST = ("cost_usd", "total_cost_usd", "cost")
_NESTED = ("usage", "context", "details", "metadata")


@dataclass(frozen=True, slots=True)
class Usage:
    """What an item says it cost: tokens, and millionths of a US dollar."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Capture:
    """One item, ready to be stored. ``shortened`` counts texts that were cut, ``redacted`` secrets taken out."""

    kind: CaptureKind
    project_id: int | None
    repository: str
    task_number: int | None
    agent: str
    model: str
    session: str
    usage: Usage
    body: Any
    size_bytes: int
    redacted: int
    shortened: int
    digest: str


@dataclass(frozen=True, slots=True)
class StoredCapture:
    """One item as it is kept. ``captured_at`` is ISO 8601 in UTC; ``body`` is ``None`` where not asked for."""

    id: int
    capture: Capture
    captured_at: str


@dataclass(frozen=True, slots=True)
class CaptureQuery:
    """Which items; ``None`` and empty leave a field open. ``since`` is included, ``until`` is not.

    ``after`` gives items with a larger id, oldest first; else they come newest first, below ``before``.
    """

    kind: str = ""
    project_id: int | None = None
    repository: str = ""
    task_number: int | None = None
    agent: str = ""
    model: str = ""
    session: str = ""
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class CaptureSums:
    """Over all items of a query, whatever page is shown."""

    items: int
    tokens_in: int
    tokens_out: int
    cost_microusd: int


def prepare(
    kind: CaptureKind,
    body: Any,
    redactor: Redactor,
    *,
    project_id: int | None = None,
    repository: str = "",
    key: str = "",
) -> Capture:
    """An item from what a client sent.

    Args:
        kind: which call brought it.
        body: its JSON.
        redactor: takes secrets out, and counts them.
        project_id: Hive's id of the project, where it is about one.
        repository: ``owner/name`` of that project.
        key: the client's own name for this item (an ``Idempotency-Key``); else its content is.

    Raises:
        ValueError: not JSON (NaN, nested too deep), or above ``CAPTURE_BYTES_MAX`` even when shortened.
    """
    clean = redactor.value(body)
    shortener = _Shortener()
    clean = shortener.value(clean)
    text = json.dumps(clean, sort_keys=True, allow_nan=False)
    if len(text) > CAPTURE_BYTES_MAX:
        raise ValueError(f"{len(text)} bytes are above {CAPTURE_BYTES_MAX}; send large files by git")
    fields = clean if isinstance(clean, dict) else {}
    identity = [kind, project_id, "key", key] if key else [kind, project_id, "body", text]
    return Capture(
        kind=kind,
        project_id=project_id,
        repository=repository,
        task_number=_number(_find(fields, ("task_number", "issue_id", "issue_number"))),
        agent=_name(_find(fields, ("agent_id", "agent", "agent_name", "from", "node_id"))),
        model=_name(_find(fields, ("model_used", "model", "model_name"))),
        session=_name(_find(fields, ("session_id", "conversation_id", "thread_id"))),
        usage=usage_of(fields),
        body=clean,
        size_bytes=len(text),
        redacted=redactor.found,
        shortened=shortener.count,
        digest=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
    )


def usage_of(fields: Mapping[str, Any]) -> Usage:
    """Tokens and money as providers' answers and our own reports name them; what is not a number counts nothing."""
    tokens_in, tokens_out = _count(_find(fields, _IN)), _count(_find(fields, _OUT))
    if not tokens_in and not tokens_out:
        tokens_in = _count(_find(fields, _ALL))
    cost = _find(fields, _COST)
    usd = float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else 0.0
    if not (math.isfinite(usd) and 0 <= usd <= COST_USD_MAX):
        usd = 0.0
    return Usage(tokens_in, tokens_out, round(usd * MICROUSD_PER_USD))


class _Shortener:
    """Cuts long texts within a JSON value, and says so where it cut."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        left_out = len(text) - CAPTURE_TEXT_CHARACTERS_MAX
        if left_out <= 0:
            return text
        self.count += 1
        return f"{text[:CAPTURE_TEXT_CHARACTERS_MAX]}\n[{left_out} characters left out]"


def _find(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first of some fields, in the item itself or in one of the objects where clients put such things."""
    places = [fields]
    for name in _NESTED:
        inner = fields.get(name)
        if isinstance(inner, Mapping):
            places.append(inner)
            usage = inner.get("usage")
            if isinstance(usage, Mapping):
                places.append(usage)
    for place in places:
        for name in names:
            if place.get(name) is not None and not isinstance(place[name], dict | list):
                return place[name]
    return None


def _count(value: Any) -> int:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX
    return value if fine else 0


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
    return value if fine else None


def _name(value: Any) -> str:
    text = str(value) if isinstance(value, str | int) else ""
    return "".join(character for character in text if character.isprintable())[:NAME_CHARACTERS_MAX]

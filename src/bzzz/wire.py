"""Bytes on the mesh and the values they stand for: the predecessor's envelope and field names, with more.

An envelope is a JSON object: ``type``, ``from`` (peer id), ``timestamp`` (RFC 3339), ``data`` and
``hop_count``; this version adds ``incarnation`` and ``sequence``, which order a sender's messages and show
replays. Whatever does not fit is refused with a short reason that the caller counts; ``decode`` raises
nothing but ``PeerError``. ``encode`` keeps to the bounds that ``decode`` checks, so that what one node says
is never refused by another one of the same version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bzzz.core.message import (
    Announced,
    Availability,
    Capability,
    Discussion,
    Hint,
    Message,
    Skills,
    TaskAnnouncement,
    TaskClaim,
    TaskComplete,
    TaskProgress,
)
from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId, TaskType
from bzzz.errors import PayloadTooLarge, PeerError

MESSAGE_BYTES_MAX = 256 * 1024
TEXT_CHARS_MAX = 2_000
WORD_CHARS_MAX = 200
NAME_CHARS_MAX = 80
TASK_CHARS_MAX = 300
LIST_ITEMS_MAX = 256
DEPTH_MAX = 32
HOPS_MAX = 3
PRIORITY_MAX = 100
WHOLE_MAX = 2**53 - 1
"""What every JSON reader keeps exactly (RFC 8259, section 6)."""
DISCUSSION_KINDS = frozenset(
    {
        "meta_discussion",
        "task_help_request",
        "task_help_response",
        "coordination_request",
        "coordination_complete",
        "dependency_alert",
        "escalation_trigger",
        "meta_msg",
    }
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around a message. ``sequence`` is ``None`` from the predecessor's nodes."""

    peer: str
    wall_s: float
    incarnation: int
    sequence: int | None
    hop_count: int = 0


def encode(message: Message, envelope: Envelope) -> bytes:
    """The wire form of a message of this node.

    Raises:
        PayloadTooLarge: peers would refuse it; an announcement can be cut into smaller ones.
    """
    kind, data = _ENCODERS[type(message)](message, envelope)
    value: dict[str, Any] = {
        "type": kind,
        "from": envelope.peer,
        "timestamp": _rfc3339(envelope.wall_s),
        "data": data,
        "incarnation": envelope.incarnation,
        "sequence": envelope.sequence,
    }
    if isinstance(message, Discussion):
        value["hop_count"] = message.hop_count
    # A lone surrogate, which a forge's JSON may hold, has no UTF-8 form and becomes a question mark.
    payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    if len(payload) > MESSAGE_BYTES_MAX:
        raise PayloadTooLarge(len(payload), MESSAGE_BYTES_MAX)
    return payload


def decode(payload: bytes, peer: str) -> tuple[Envelope, Message]:
    """Read what ``peer`` signed.

    Raises:
        PeerError: with the reason ``oversized``, ``malformed``, ``forged`` (another sender's name in it),
            ``too_many_hops`` or ``unknown_type``.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise PeerError("oversized", f"{len(payload)} bytes from {peer}")
    try:
        value = json.loads(payload.decode(), parse_constant=_no_constant)
        _check_plain(value)
        if not isinstance(value, dict) or not isinstance(value.get("data"), dict):
            raise ValueError("not an envelope")
        if value.get("from") != peer:
            raise PeerError("forged", f"{peer} signed a message from {str(value.get('from'))[:80]!r}")
        kind = _text(value, "type")
        sequence = value.get("sequence")
        envelope = Envelope(
            peer=peer,
            wall_s=_seconds(_text(value, "timestamp")),
            incarnation=_count(value, "incarnation", 0),
            sequence=None if sequence is None else _count(value, "sequence"),
            hop_count=_count(value, "hop_count", 0),
        )
        if kind in DISCUSSION_KINDS:
            if envelope.hop_count > HOPS_MAX:
                raise PeerError("too_many_hops", f"{envelope.hop_count} from {peer}")
            return envelope, Discussion(kind, value["data"], envelope.hop_count)
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise PeerError("unknown_type", f"{kind[:80]!r} from {peer}")
        return envelope, decoder(value["data"], envelope)
    except (ValueError, OverflowError, RecursionError) as error:
        raise PeerError("malformed", f"{str(error)[:120]} from {peer}") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _check_plain(value: object) -> None:
    """Refuse what could not be written again: nesting without end, infinite numbers, half characters."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                item.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
            elif isinstance(item, float) and item in (float("inf"), float("-inf")):
                raise ValueError("a number is too large")
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {DEPTH_MAX}")


# --- out ------------------------------------------------------------------------------------------------


def _availability_out(message: Availability, envelope: Envelope) -> tuple[str, dict[str, Any]]:
    return "availability_broadcast", {
        "node_id": envelope.peer,
        "available_for_work": message.accepting and message.current_tasks < message.max_tasks,
        "current_tasks": message.current_tasks,
        "max_tasks": message.max_tasks,
        # A node that speaks is active now, as the predecessor's were.
        "last_activity": _rfc3339(message.last_activity_s or envelope.wall_s),
        "status": message.status,
        "timestamp": _rfc3339(envelope.wall_s),
        "agent_id": message.agent[:NAME_CHARS_MAX],
        "incarnation": message.incarnation,
        "tasks": [[str(task), epoch] for task, epoch in list(message.tasks.items())[:LIST_ITEMS_MAX]],
        "leaving": message.leaving,
        "accepting": message.accepting,
        **({} if message.skills is None else {"skills": _skills_out(message.skills)}),
    }


def _skills_out(skills: Skills) -> dict[str, Any]:
    return {
        "capabilities": _words_out(skills.capabilities),
        "models": _words_out(skills.models),
        "specialization": skills.specialization[:TEXT_CHARS_MAX],
        "version": skills.version[:TEXT_CHARS_MAX],
    }


def _capability_out(message: Capability, envelope: Envelope) -> tuple[str, dict[str, Any]]:
    return "capability_broadcast", {
        "node_id": envelope.peer,
        "capabilities": _words_out(message.capabilities),
        "models": _words_out(message.models),
        "version": message.version[:TEXT_CHARS_MAX],
        "specialization": message.specialization[:TEXT_CHARS_MAX],
        "timestamp": _rfc3339(envelope.wall_s),
        "reason": message.reason,
        "agent_id": message.agent[:NAME_CHARS_MAX],
        "incarnation": message.incarnation,
    }


def _announcement_out(message: TaskAnnouncement, _: Envelope) -> tuple[str, dict[str, Any]]:
    return "task_announcement", {"tasks": [_announced_out(announced) for announced in message.tasks]}


def _announced_out(announced: Announced) -> dict[str, Any]:
    task = announced.task
    return {
        "repository": task.id.repository,
        "number": task.id.number,
        "title": task.title[:TEXT_CHARS_MAX],
        "task_type": task.task_type.value,
        "priority": task.priority,
        "labels": _words_out(task.labels),
        "keywords": _words_out(task.keywords),
        "html_url": _whole_text(task.url),
        "updated_at": task.updated_at[:TEXT_CHARS_MAX],
        "digest": task.digest[:TEXT_CHARS_MAX],
        "open": announced.open,
        "claim": None if announced.claim is None else _hint_out(announced.claim),
    }


def _claim_out(message: TaskClaim, _: Envelope) -> tuple[str, dict[str, Any]]:
    return "task_claim", {
        "task": str(message.task),
        "agent_id": message.agent[:NAME_CHARS_MAX],
        "claim": _hint_out(message.claim),
    }


def _progress_out(message: TaskProgress, _: Envelope) -> tuple[str, dict[str, Any]]:
    return "task_progress", {
        "task": str(message.task),
        "epoch": message.epoch,
        "phase": message.phase[:TEXT_CHARS_MAX],
        "detail": message.detail[:TEXT_CHARS_MAX],
    }


def _complete_out(message: TaskComplete, _: Envelope) -> tuple[str, dict[str, Any]]:
    return "task_complete", {
        "task": str(message.task),
        "agent_id": message.agent[:NAME_CHARS_MAX],
        "claim": _hint_out(message.claim),
        "branch": _whole_text(message.branch),
        "pull_request": _whole_text(message.pull_request),
        "reason": message.reason[:TEXT_CHARS_MAX],
    }


def _discussion_out(message: Discussion, _: Envelope) -> tuple[str, dict[str, Any]]:
    return message.kind, dict(message.data)


def _words_out(words: Iterable[str]) -> list[str]:
    return [word[:WORD_CHARS_MAX] for word in words][:LIST_ITEMS_MAX]


def _whole_text(text: str) -> str:
    """An address or a name, which half of would be another one."""
    return text if len(text) <= TEXT_CHARS_MAX else ""


def _hint_out(hint: Hint) -> dict[str, Any]:
    return {
        "epoch": hint.epoch,
        "state": hint.state.value,
        "peer": hint.peer,
        "incarnation": hint.incarnation,
        "strikes": hint.strikes,
    }


_ENCODERS: Mapping[type, Callable[[Any, Envelope], tuple[str, dict[str, Any]]]] = {
    Availability: _availability_out,
    Capability: _capability_out,
    TaskAnnouncement: _announcement_out,
    TaskClaim: _claim_out,
    TaskProgress: _progress_out,
    TaskComplete: _complete_out,
    Discussion: _discussion_out,
}


# --- in -------------------------------------------------------------------------------------------------


def _availability_in(data: Mapping[str, Any], envelope: Envelope) -> Availability:
    tasks: dict[TaskId, int] = {}
    for item in _items(data, "tasks"):
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise ValueError("tasks is not a list of [task, epoch]")
        tasks[_task_id(item[0])] = _whole(item[1], "epoch")
    return Availability(
        agent=_text(data, "agent_id", _text(data, "node_id", envelope.peer))[:NAME_CHARS_MAX],
        incarnation=_count(data, "incarnation", 0),
        current_tasks=_count(data, "current_tasks", 0),
        max_tasks=_count(data, "max_tasks", 0),
        tasks=tasks,
        leaving=_flag(data, "leaving", False),
        accepting=_flag(data, "accepting", _flag(data, "available_for_work", False)),
        last_activity_s=_seconds(_text(data, "last_activity", "1970-01-01T00:00:00Z")),
        skills=_skills_in(data.get("skills")),
    )


def _skills_in(data: Any) -> Skills | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise ValueError("skills is not an object")
    return Skills(
        capabilities=_words(data, "capabilities"),
        models=_words(data, "models"),
        specialization=_text(data, "specialization", ""),
        version=_text(data, "version", ""),
    )


def _capability_in(data: Mapping[str, Any], envelope: Envelope) -> Capability:
    return Capability(
        agent=_text(data, "agent_id", _text(data, "node_id", envelope.peer))[:NAME_CHARS_MAX],
        incarnation=_count(data, "incarnation", 0),
        capabilities=_words(data, "capabilities"),
        models=_words(data, "models"),
        specialization=_text(data, "specialization", ""),
        version=_text(data, "version", ""),
        reason=_text(data, "reason", ""),
    )


def _announcement_in(data: Mapping[str, Any], _: Envelope) -> TaskAnnouncement:
    return TaskAnnouncement(tuple(_announced_in(item) for item in _items(data, "tasks")))


def _announced_in(item: object) -> Announced:
    if not isinstance(item, dict):
        raise ValueError("an announced task is not an object")
    number = _count(item, "number")
    task = Task(
        id=_task_id(f"{_text(item, 'repository')}#{number}"),
        title=_text(item, "title"),
        task_type=TaskType(_text(item, "task_type", "general")),
        priority=min(PRIORITY_MAX, _count(item, "priority", 0)),
        labels=_words(item, "labels"),
        keywords=_words(item, "keywords"),
        url=_text(item, "html_url", ""),
        updated_at=_text(item, "updated_at", ""),
        digest=_text(item, "digest", ""),
    )
    claim = item.get("claim")
    return Announced(task, _flag(item, "open", True), None if claim is None else _hint_in(claim))


def _claim_in(data: Mapping[str, Any], _: Envelope) -> TaskClaim:
    agent = _text(data, "agent_id", "")[:NAME_CHARS_MAX]
    return TaskClaim(_task_id(_text(data, "task")), _hint_in(data.get("claim")), agent)


def _progress_in(data: Mapping[str, Any], _: Envelope) -> TaskProgress:
    return TaskProgress(
        _task_id(_text(data, "task")), _count(data, "epoch"), _text(data, "phase"), _text(data, "detail", "")
    )


def _complete_in(data: Mapping[str, Any], _: Envelope) -> TaskComplete:
    return TaskComplete(
        task=_task_id(_text(data, "task")),
        claim=_hint_in(data.get("claim")),
        agent=_text(data, "agent_id", "")[:NAME_CHARS_MAX],
        branch=_text(data, "branch", ""),
        pull_request=_text(data, "pull_request", ""),
        reason=_text(data, "reason", ""),
    )


def _hint_in(value: object) -> Hint:
    if not isinstance(value, dict):
        raise ValueError("a claim is not an object")
    return Hint(
        epoch=_count(value, "epoch"),
        state=RecordState(_text(value, "state")),
        peer=_text(value, "peer"),
        incarnation=_count(value, "incarnation", 0),
        strikes=_count(value, "strikes", 0),
    )


_DECODERS: Mapping[str, Callable[[Mapping[str, Any], Envelope], Message]] = {
    "availability_broadcast": _availability_in,
    "capability_broadcast": _capability_in,
    "task_announcement": _announcement_in,
    "task_claim": _claim_in,
    "task_progress": _progress_in,
    "task_complete": _complete_in,
}


# --- fields ---------------------------------------------------------------------------------------------


def _text(value: Mapping[str, Any], key: str, default: str | None = None) -> str:
    found = value.get(key, default)
    if not isinstance(found, str):
        raise ValueError(f"{key} is not a string")
    if len(found) > TEXT_CHARS_MAX:
        raise ValueError(f"{key} is longer than {TEXT_CHARS_MAX} characters")
    return found


def _count(value: Mapping[str, Any], key: str, default: int | None = None) -> int:
    return _whole(value.get(key, default), key)


def _whole(found: object, key: str) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= WHOLE_MAX:
        raise ValueError(f"{key} is not a whole number")
    return found


def _flag(value: Mapping[str, Any], key: str, default: bool) -> bool:
    found = value.get(key, default)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is neither true nor false")
    return found


def _items(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key, [])
    if not isinstance(found, list) or len(found) > LIST_ITEMS_MAX:
        raise ValueError(f"{key} is not a list of at most {LIST_ITEMS_MAX}")
    return found


def _words(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    # The predecessor's Go nodes send null for an empty list.
    found = [] if value.get(key) is None else _items(value, key)
    if not all(isinstance(word, str) and len(word) <= WORD_CHARS_MAX for word in found):
        raise ValueError(f"{key} is not a list of words")
    return tuple(found)


def _task_id(text: str) -> TaskId:
    if len(text) > TASK_CHARS_MAX:
        raise ValueError("a task's name is too long")
    task = TaskId.parse(text)
    if task.number > WHOLE_MAX:
        raise ValueError("a task's number is too large")
    return task


def _rfc3339(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat().replace("+00:00", "Z")


def _seconds(text: str) -> float:
    # Go writes nanoseconds, which Python reads from 3.11 on by dropping digits.
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a timestamp has no time zone")
    return max(0.0, moment.timestamp())  # Go's zero time is of the year 1

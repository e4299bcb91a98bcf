"""What node and worker tell each other, as JSON: the attempt, the settings, the events.

The spec and the settings hold no secret. Events come from a process that hostile programs run beside, so
they are read strictly: a line that is not an event is refused, and the reader counts it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bzzz.agents.setting import AgentSettings
from bzzz.core.task import Comment, Issue, Repository, TaskId
from bzzz.ports import (
    AttemptEvent,
    AttemptFinished,
    AttemptProgressed,
    AttemptSpec,
    AttemptStarted,
    Outcome,
    Work,
)

EVENT_BYTES_MAX = 512 * 1024
SPEC_BYTES_MAX = 64 * 1024 * 1024


def spec_to_object(spec: AttemptSpec) -> dict[str, Any]:
    """The JSON form of an attempt."""
    return dataclasses.asdict(spec)


def spec_from_object(value: Mapping[str, Any]) -> AttemptSpec:
    """Read what ``spec_to_object`` gave.

    Raises:
        KeyError, TypeError: it is something else.
    """
    issue = dict(value["issue"])
    issue["labels"] = tuple(issue["labels"])
    issue["assignees"] = tuple(issue["assignees"])
    changed = {
        "task": TaskId(**value["task"]),
        "repository": Repository.from_object(value["repository"]),
        "issue": Issue(**issue),
        "comments": tuple(Comment(**comment) for comment in value["comments"]),
    }
    return AttemptSpec(**{**value, **changed})


def settings_to_object(settings: AgentSettings) -> dict[str, Any]:
    """The JSON form of the settings."""
    value = dataclasses.asdict(settings)
    value["folder"] = str(settings.folder)
    value["sandbox_paths"] = [str(path) for path in settings.sandbox_paths]
    return value


def settings_from_object(value: Mapping[str, Any]) -> AgentSettings:
    """Read what ``settings_to_object`` gave.

    Raises:
        KeyError, TypeError: it is something else.
    """
    changed = {
        "folder": Path(value["folder"]),
        "sandbox_paths": tuple(Path(path) for path in value["sandbox_paths"]),
        "trusted_associations": tuple(value["trusted_associations"]),
        "protocols": tuple(value["protocols"]),
    }
    return AgentSettings(**{**value, **changed})


def event_to_line(event: AttemptEvent, **more: Any) -> bytes:
    """One event as one line, with further fields beside it."""
    value: dict[str, Any] = {"event": type(event).__name__, **more}
    for field in dataclasses.fields(event):
        value[field.name] = getattr(event, field.name)
    if isinstance(event, AttemptFinished) and event.work is not None:
        work = event.work
        value["work"] = {
            "git_dir": str(work.git_dir), "commit": work.commit, "base": work.base, "branch": work.branch
        }  # fmt: skip
    return json.dumps(value, default=str).encode() + b"\n"


def event_from_line(line: bytes) -> tuple[AttemptEvent, Mapping[str, Any]]:
    """Read what ``event_to_line`` gave: the event, and all the fields of its object.

    Raises:
        ValueError: it is something else.
    """
    try:
        value = json.loads(line)
        kind = value["event"]
        if kind == "AttemptStarted":
            return AttemptStarted(str(value["attempt_id"]), str(value["agent"]), int(value["pid"])), value
        if kind == "AttemptProgressed":
            return AttemptProgressed(str(value["attempt_id"]), str(value["phase"]), str(value["detail"])), value
        if kind == "AttemptFinished":
            return _finished(value), value
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a line that is no event: {error!r}") from None
    raise ValueError(f"an event of unknown kind {kind!r}")


def _finished(value: Mapping[str, Any]) -> AttemptFinished:
    work = value["work"]
    retry = value["retry_after_s"]
    return AttemptFinished(
        attempt_id=str(value["attempt_id"]),
        outcome=Outcome(value["outcome"]),
        summary=str(value["summary"]),
        work=None if work is None else Work(Path(work["git_dir"]), work["commit"], work["base"], work["branch"]),
        check=dict(value["check"]),
        usage=dict(value["usage"]),
        question=str(value["question"]),
        retry_after_s=None if retry is None else float(retry),
        shown=dict(value.get("shown", {})),
    )


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that it is there entirely or not at all; where ``durable``, also after a power cut.

    Raises:
        OSError: it could not be written.
    """
    fresh = path.with_suffix(path.suffix + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    fresh.replace(path)


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object of ours; ``None`` where the file is not there or is not one."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(SPEC_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None

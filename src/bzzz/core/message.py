"""What nodes say to each other, as values. The wire form is made and checked in ``bzzz.wire``.

Nothing heard here is authority: a claim heard is a hint until the ledger says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId

COORDINATION_TOPIC = "bzzz/coordination/v1"
DISCUSSION_TOPIC = "antennae/meta-discussion/v1"
ESCALATION_TOPIC = "bzzz/meta/escalation"


def task_topic(task: TaskId) -> str:
    """The topic of one task, joined on claim and left at the end; named as the predecessor named it."""
    return f"bzzz/meta/issue/{task.number}"


@dataclass(frozen=True, slots=True)
class Skills:
    """What a node can do."""

    capabilities: tuple[str, ...]
    models: tuple[str, ...]
    specialization: str
    version: str


@dataclass(frozen=True, slots=True)
class Availability:
    """A node's heartbeat: how busy it is, which tasks it holds (``task`` to epoch), and again what it can do.

    ``leaving`` is its last word before an orderly end. ``skills`` are absent from a predecessor's, which tells
    them on change alone.
    """

    agent: str
    incarnation: int
    current_tasks: int
    max_tasks: int
    tasks: Mapping[TaskId, int] = field(default_factory=dict)
    leaving: bool = False
    accepting: bool = True
    last_activity_s: float = 0.0
    skills: Skills | None = None

    @property
    def status(self) -> str:
        """The predecessor's word: ``ready``, ``working`` or ``busy``."""
        if self.current_tasks >= self.max_tasks:
            return "busy"
        return "working" if self.current_tasks else "ready"


@dataclass(frozen=True, slots=True)
class Capability:
    """What a node can do; sent on change, and to whoever is new."""

    agent: str
    incarnation: int
    capabilities: tuple[str, ...]
    models: tuple[str, ...]
    specialization: str
    version: str
    reason: str = "startup"


@dataclass(frozen=True, slots=True)
class Hint:
    """What somebody says of a task's claim; believed only as far as costs nothing when it is wrong."""

    epoch: int
    state: RecordState
    peer: str
    incarnation: int = 0
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Announced:
    """One task of an announcement: open or no longer, and its claim as the watcher saw it."""

    task: Task
    open: bool = True
    claim: Hint | None = None


@dataclass(frozen=True, slots=True)
class TaskAnnouncement:
    """The watcher of a repository tells what there is to do, so that nobody else needs to ask the forge."""

    tasks: tuple[Announced, ...]


@dataclass(frozen=True, slots=True)
class TaskClaim:
    """Somebody holds a task now."""

    task: TaskId
    claim: Hint
    agent: str


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How an attempt goes; for people."""

    task: TaskId
    epoch: int
    phase: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TaskComplete:
    """A holder is through with a task: delivered, given back, or handed to a person."""

    task: TaskId
    claim: Hint
    agent: str
    branch: str = ""
    pull_request: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Discussion:
    """A message of the Antennae kinds (``task_help_request``, ``dependency_alert``, ...), as it came."""

    kind: str
    data: Mapping[str, Any]
    hop_count: int = 0


Message = Availability | Capability | TaskAnnouncement | TaskClaim | TaskProgress | TaskComplete | Discussion

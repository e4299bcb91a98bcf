"""What leaves a node's core: things to do, in order.

The shell carries them out in the order given. An effect that must be durable before the next one is sent
(``Remember``) stands before it; everything else may run at the same time, and answers by the event that
its docstring names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.message import Message
from bzzz.core.record import ClaimRecord, Version
from bzzz.core.task import Repository, Task, TaskId


@dataclass(frozen=True, slots=True)
class FindRepositories:
    """Ask Hive; answered by ``RepositoriesFound`` or ``RepositoriesNotFound``."""


@dataclass(frozen=True, slots=True)
class KeepRepositories:
    """Keep this list in the journal, for a start without Hive."""

    repositories: tuple[Repository, ...]


@dataclass(frozen=True, slots=True)
class ListTasks:
    """Read issues and claims of a repository; answered by ``TasksListed`` or ``TasksNotListed``."""

    repository: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Say something on the mesh."""

    topic: str
    message: Message


@dataclass(frozen=True, slots=True)
class JoinTopic:
    """Listen to a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class LeaveTopic:
    """Stop listening to a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class ProbePeer:
    """Check a peer's host at an address where it was reached; answered by ``ProbeEnded``."""

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfirmTask:
    """Read one issue again, and its claim if asked; answered by ``TaskConfirmed`` or ``TaskNotConfirmed``."""

    task: TaskId
    read_claim: bool


@dataclass(frozen=True, slots=True)
class Remember:
    """Write to the journal, durably, before any later effect: what this node is about to write or holds."""

    task: Task
    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing of this task is left to recover: drop it from the journal, and the attempt's folder."""

    task: TaskId
    epoch: int


@dataclass(frozen=True, slots=True)
class SwapClaim:
    """Append a record after ``expected``; answered by ``SwapEnded``. ``purpose`` is for counters."""

    task: TaskId
    expected: Version | None
    record: ClaimRecord
    purpose: str


@dataclass(frozen=True, slots=True)
class DeliverWork:
    """Publish the attempt's branch and the ``delivered`` record in one atomic push; answered by ``SwapEnded``."""

    task: TaskId
    expected: Version
    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class ReadClaim:
    """Read what stands; answered by ``ClaimRead`` or ``ClaimNotRead``."""

    task: TaskId


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run the agent; answered by ``AgentStarted`` ... ``AttemptEnded``."""

    task: Task
    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """End the agent, its work saved on this machine; ``AttemptEnded`` follows."""

    task: TaskId
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class SaveWork:
    """Push the attempt's work to its rescue ref; answered by ``WorkSaved`` or ``WorkNotSaved``."""

    task: TaskId
    epoch: int


@dataclass(frozen=True, slots=True)
class OpenPull:
    """Find or open the pull request of a delivery; answered by ``PullFound`` or ``PullNotFound``."""

    task: Task
    record: ClaimRecord


@dataclass(frozen=True, slots=True)
class Report:
    """Through the durable outbox, once: a projection for people, on the forge and in Hive.

    ``kind`` is ``claimed``, ``delivered``, ``released``, ``escalated``, ``asked``.
    """

    task: TaskId
    epoch: int
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for the log and the live view."""

    level: str
    text: str
    task: TaskId | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """An orderly end is complete: nothing of ours is held, the shells may close."""


Effect = (
    FindRepositories
    | KeepRepositories
    | ListTasks
    | Publish
    | JoinTopic
    | LeaveTopic
    | ProbePeer
    | ConfirmTask
    | Remember
    | Forget
    | SwapClaim
    | DeliverWork
    | ReadClaim
    | StartAttempt
    | StopAttempt
    | SaveWork
    | OpenPull
    | Report
    | Notice
    | Finish
)

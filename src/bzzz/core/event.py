"""What enters a node's core: one value for each thing that can happen.

Every answer carries what it is an answer to, so that a late one is known as late and ignored.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bzzz.core.message import Message
from bzzz.core.outcome import Outcome
from bzzz.core.record import ClaimRecord, Observation
from bzzz.core.task import Repository, Task, TaskId


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the journal knew of one claim when this node last ended.

    ``record`` is the newest record that this node wrote or tried to write. ``outcome`` is how the attempt
    ended, if it did; ``has_work`` whether something of it is on this machine. ``more_work`` says that, under
    the same claim, there is work of another attempt too, which is not in ``commit`` nor known to be saved.
    """

    task: Task
    record: ClaimRecord
    outcome: Outcome | None = None
    has_work: bool = False
    commit: str | None = None
    more_work: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The node is up: its mesh is listening and its journal is read."""

    repositories: tuple[Repository, ...] = ()
    recovered: tuple[Recovered, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed: at least up to the deadline that the core named."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The operator wants this node to end in order."""


@dataclass(frozen=True, slots=True)
class RepositoriesFound:
    """Hive's list of active repositories, whole."""

    repositories: tuple[Repository, ...]


@dataclass(frozen=True, slots=True)
class RepositoriesNotFound:
    """Hive did not answer as it should; what was known stays."""

    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RepositoryChanged:
    """A hint (webhook, Hive's stream) that a repository's issues changed; ``""`` stands for any."""

    repository: str


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """A person wants a task done anew that was delivered or escalated; ``comment`` is the id of the asking one."""

    number: int
    reason: str
    comment: int = 0


@dataclass(frozen=True, slots=True)
class TasksListed:
    """The admitted open issues of a repository, all of them, and its claims, all of them."""

    repository: str
    tasks: tuple[Task, ...]
    claims: tuple[tuple[int, Observation], ...] | None
    unchanged: bool = False
    asked: tuple[AskedAgain, ...] = ()


@dataclass(frozen=True, slots=True)
class TasksNotListed:
    """The forge or the git server did not answer as it should."""

    repository: str
    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A peer's signed message, decoded."""

    peer: str
    message: Message


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A connection to a peer stands; ``addresses`` are where it was reached or listens."""

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The last connection to a peer is gone."""

    peer: str


class Probed(enum.Enum):
    """What a direct check of a peer's host found: ``OTHER`` is another peer, proved, where it listened."""

    ANSWERED = "answered"
    REFUSED = "refused"
    OTHER = "other"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """The answer to ``ProbePeer``."""

    peer: str
    found: Probed


@dataclass(frozen=True, slots=True)
class TaskConfirmed:
    """The answer to ``ConfirmTask``: the issue as it is now, and the claim if it was asked for."""

    task: TaskId
    admitted: bool
    reason: str = ""
    claim_read: bool = False
    standing: Observation | None = None


@dataclass(frozen=True, slots=True)
class TaskNotConfirmed:
    """The forge or the ledger could not be read."""

    task: TaskId
    detail: str
    retry_after_ms: int | None = None


class SwapEnd(enum.Enum):
    """How a compare-and-swap ended."""

    WON = "won"
    LOST = "lost"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class SwapEnded:
    """The answer to ``SwapClaim`` and ``DeliverWork``, known by the record's nonce.

    ``UNAVAILABLE`` means that nothing was written; ``UNCERTAIN`` that nobody knows. ``standing`` is what
    stands now, where that is known.
    """

    task: TaskId
    nonce: str
    end: SwapEnd
    standing: Observation | None = None
    detail: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimRead:
    """The answer to ``ReadClaim``: what stands for a task."""

    task: TaskId
    standing: Observation | None


@dataclass(frozen=True, slots=True)
class ClaimNotRead:
    """The ledger could not be read."""

    task: TaskId
    detail: str
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The agent of an attempt is running."""

    task: TaskId
    epoch: int


@dataclass(frozen=True, slots=True)
class AgentProgressed:
    """Something about an attempt that people may want to see."""

    task: TaskId
    epoch: int
    phase: str
    detail: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt is over and its processes are gone; ``has_work`` says whether there is work to keep."""

    task: TaskId
    epoch: int
    outcome: Outcome
    summary: str
    has_work: bool
    commit: str | None = None
    question: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WorkSaved:
    """The answer to ``SaveWork``: unpublished work stands on the server under ``ref``."""

    task: TaskId
    epoch: int
    ref: str


@dataclass(frozen=True, slots=True)
class WorkNotSaved:
    """The work is still only here; ``final`` means that the server refuses it for good."""

    task: TaskId
    epoch: int
    detail: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class PullFound:
    """The pull request of a delivery is there, opened now or before."""

    task: TaskId
    url: str


@dataclass(frozen=True, slots=True)
class PullNotFound:
    """The pull request could not be opened yet."""

    task: TaskId
    detail: str
    retry_after_ms: int | None = None
    final: bool = False


Event = (
    Started
    | Ticked
    | StopAsked
    | RepositoriesFound
    | RepositoriesNotFound
    | RepositoryChanged
    | TasksListed
    | TasksNotListed
    | Heard
    | PeerUp
    | PeerDown
    | ProbeEnded
    | TaskConfirmed
    | TaskNotConfirmed
    | SwapEnded
    | ClaimRead
    | ClaimNotRead
    | AgentStarted
    | AgentProgressed
    | AttemptEnded
    | WorkSaved
    | WorkNotSaved
    | PullFound
    | PullNotFound
)

"""The edges of the system, as the runtime sees them: one Protocol a port, and the values they exchange.

Each port has a conformance suite under ``tests/conformance`` that every adapter passes. Adapters are
asyncio; they raise only errors from ``bzzz.errors``, and what they return is theirs no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bzzz.core.event import Probed
from bzzz.core.outcome import Outcome as Outcome
from bzzz.core.record import ClaimRecord, Observation, Version
from bzzz.core.task import Comment, Issue, Pull, Repository, Task, TaskId


class Clock(Protocol):
    """Time, injected."""

    def now_ms(self) -> int:
        """Monotonic milliseconds; never goes back, and is compared on this machine alone."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch, for people and envelopes; never read to decide."""


# --- mesh ---


@dataclass(frozen=True, slots=True)
class Received:
    """A message whose signature by ``peer`` (its author, not its forwarder) has been checked."""

    topic: str
    peer: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection to ``peer`` is up; ``addresses`` are multiaddrs where it listens, as far as known.

    It comes once more while the connection stands, where nothing was known of these at first.
    """

    peer: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The last connection to ``peer`` is gone."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransportRestarted:
    """The engine died and was started again; topics are joined anew, connections are being made anew."""

    reason: str


TransportEvent = Received | PeerConnected | PeerDisconnected | TransportRestarted


Probe = Probed
"""What a direct check of a peer at its listening address found."""


RequestHandler = Callable[[str, bytes], Awaitable[bytes]]
"""Takes a peer's proved id and what it asks, and gives the answer. An exception of it is counted, and not told."""


class Transport(Protocol):
    """Signed publish and subscribe among peers, and requests to one of them.

    What is published comes in no sure order, and may not come; who wrote it is sure. What must arrive is asked: a
    request ends in an answer or in an error.
    """

    @property
    def peer_id(self) -> str:
        """This node's own identity on the mesh, stable over restarts."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Concrete multiaddrs where this node listens, with ``/p2p/<peer id>``; empty before ``start``."""

    async def start(self) -> None:
        """Listen, then discover and dial.

        Raises:
            TransportError: the port is taken, the identity cannot be read, ...
        """

    async def stop(self) -> None:
        """End connections and tasks; a second call does nothing."""

    async def join(self, topic: str) -> None:
        """Receive what is published on ``topic``; joining twice is joining once."""

    async def leave(self, topic: str) -> None:
        """Stop receiving ``topic``; leaving what was not joined does nothing."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send to every peer that joined ``topic``; one's own messages do not come back.

        Raises:
            PayloadTooLarge: above the transport's ``payload_bytes_max``.
            TransportError: not started, or the engine is down.
        """

    def serve(self, kind: str, handler: RequestHandler) -> None:
        """Answer requests of ``kind`` from now on, before the start too; the last handler given counts.

        Raises:
            TransportError: it cannot be a kind: 1 to 64 of ``a-z``, ``0-9``, ``.``, ``_``, ``/``, ``-``.
        """

    async def request(self, peer: str, kind: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask one connected peer, over a stream of its own, and give its answer. Not sent a second time.

        Raises:
            PayloadTooLarge: above the bound of requests, which is larger than that of ``publish``.
            RequestFailed: no connection, no handler there, no room there or here, or no answer in time.
            TransportError: not started, the engine is down, or it cannot be a kind or a time.
        """

    async def dial(self, address: str) -> None:
        """Keep a connection to this multiaddr (``/ip4/../tcp/../p2p/..``); redialled with backoff.

        Raises:
            TransportError: not a multiaddr, or one without a peer id.
        """

    async def probe(self, address: str, timeout_s: float) -> Probe:
        """Check one multiaddr with a connection attempt, apart from existing connections.

        ``OTHER`` only where who answers has proved to be another peer than the address names; an engine that cannot
        tell says ``ANSWERED``, as for a process that is stopped, whose host answers for it.
        """

    async def receive(self) -> TransportEvent:
        """The next event, waiting for it. One reader at a time.

        Raises:
            TransportError: the transport was stopped.
        """

    def peers(self) -> Mapping[str, tuple[str, ...]]:
        """Connected peers and the addresses they are known by."""

    def counters(self) -> Mapping[str, int]:
        """Counts since start: received, published, and drops by reason (``dropped_<reason>``)."""


# --- ledger ---


@dataclass(frozen=True, slots=True)
class SwapResult:
    """The end of one compare-and-swap.

    ``won`` says whether the new record stands. ``standing`` is what stands now: the own record if won;
    if not, what was found (``None`` where the ref does not exist or could not be read as a record).
    """

    won: bool
    standing: Observation | None


@dataclass(frozen=True, slots=True)
class Work:
    """Finished work that only exists on this machine.

    ``git_dir`` is a repository that no agent ever wrote to and that has ``commit`` and, directly or by
    alternates, ``base``, which the server is known to have.
    """

    git_dir: Path
    commit: str
    base: str
    branch: str


class Ledger(Protocol):
    """The one authority for claims: a chain of records a task, appended by compare-and-swap.

    Every method may raise ``ServiceError`` (the git server is away, denies, limits, answers nonsense),
    and ``LedgerRefused`` where a retry does not help. The record's nonce is made by the caller.
    """

    async def read(self, repository: Repository, number: int) -> Observation | None:
        """What stands for one task; ``None`` if it was never claimed.

        Raises:
            LedgerRefused: what stands there is not a claim record; says so, names ref and commit.
        """

    async def list(self, repository: Repository) -> Mapping[int, Observation]:
        """All claims of a repository, by issue number; unreadable records are left out and counted."""

    async def swap(self, repository: Repository, expected: Version | None, record: ClaimRecord) -> SwapResult:
        """Append ``record`` after ``expected`` (``None``: as the first). One round trip when it is won.

        A lost answer is resolved by reading the ref: the own nonce there means won.

        Raises:
            LedgerUncertain: the write was sent, and reading failed too.
        """

    async def deliver(
        self, repository: Repository, expected: Version, record: ClaimRecord, work: Work
    ) -> SwapResult:
        """Atomically append ``record`` after ``expected`` AND create ``work.branch`` at ``work.commit``.

        Either both stand afterwards or neither.

        Raises:
            LedgerRefused: the server cannot push atomically, the branch exists with other content, a
                branch named ``bzzz`` blocks the name, the branch is protected, or the token is read-only.
            LedgerUncertain: as for ``swap``.
        """

    async def rescue(self, repository: Repository, number: int, epoch: int, work: Work) -> str:
        """Save unpublished work under ``refs/bzzz/rescue/<number>/<epoch>``; never overwrites.

        Returns:
            the ref it was saved under (with a suffix where other work was saved there before).
        """

    async def history(self, repository: Repository, number: int) -> Sequence[Observation]:
        """The whole chain of a task, oldest first."""

    def counters(self) -> Mapping[str, int]:
        """Counts since start: requests, swaps won, lost, uncertain, unreadable records."""

    async def close(self) -> None:
        """Release connections."""


# --- forge ---


@dataclass(frozen=True, slots=True)
class IssueListing:
    """Open issues with a label. ``unchanged`` means 304: ``issues`` is then the last listing again."""

    issues: tuple[Issue, ...]
    unchanged: bool
    budget_left: int | None = None
    budget_resets_in_s: float | None = None


class Forge(Protocol):
    """Issues and pull requests of repositories on one kind of forge.

    Every method may raise any ``ServiceError``. None of these writes is ever read to decide a claim.
    """

    async def list_issues(self, repository: Repository, label: str) -> IssueListing:
        """All open issues (no pull requests) that carry ``label``, all pages, conditional on ETags."""

    async def read_issue(self, repository: Repository, number: int) -> Issue:
        """One issue as it stands now."""

    async def list_comments(self, repository: Repository, number: int) -> Sequence[Comment]:
        """Comments of an issue, oldest first, bounded by ``comments_max``."""

    async def comment(self, repository: Repository, number: int, body: str, *, key: str) -> None:
        """Write a comment once: ``key`` is kept in it invisibly, and found there means already written."""

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        """Add labels; those that are there stay."""

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        """Remove a label; one that is not there is success."""

    async def find_pull(self, repository: Repository, branch: str) -> Pull | None:
        """The newest pull request, open or closed, whose head is ``branch`` of this repository."""

    async def list_pulls(self, repository: Repository) -> Sequence[Pull]:
        """The pull requests that changed last, open and closed, at most a page of them; conditional on its ETag."""

    async def open_pull(self, repository: Repository, *, branch: str, base: str, title: str, body: str) -> Pull:
        """Open a pull request; found by head branch first, so that asking twice makes one."""

    async def ask_reviewers(self, repository: Repository, number: int, reviewers: Sequence[str]) -> None:
        """Ask people to review a pull request; who was asked before stays asked.

        Raises:
            ServiceConflict: one of them cannot be asked there.
        """

    def counters(self) -> Mapping[str, int]:
        """Counts since start: requests, not_modified, writes, limited, errors."""

    async def close(self) -> None:
        """Release connections."""


# --- Hive ---


class Hive(Protocol):
    """Where repositories are discovered and work is reported. Bzzz goes on without it.

    Every method may raise any ``ServiceError``.
    """

    async def active_repositories(self) -> Sequence[Repository]:
        """Repositories that agents may work on now."""

    async def report_status(
        self, repository: Repository, number: int, status: str, metadata: Mapping[str, Any]
    ) -> None:
        """Tell what became of a task: ``in_progress``, ``completed``, ``failed`` or ``escalated``."""

    async def capture(self, kind: str, repository: Repository, number: int, body: Mapping[str, Any]) -> None:
        """Hand over what was done for a task: ``submit-work``, ``create-pr`` or ``log-prompt``.

        The same item may be sent again and counts once.
        """

    async def changes(self) -> str:
        """Wait for the next sign that a repository changed; returns its ``owner/name``.

        A hint that saves a polling interval, from a stream that this call opens where needed. An empty
        string means that the stream was (re)opened and anything may have changed.
        """

    async def close(self) -> None:
        """Release connections."""


# --- agents ---


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """Everything one attempt needs. Holds no secret: it is written to a file the worker reads.

    ``attempt_id`` is unique (it names the folder and marks the processes). ``agent`` is the agent's
    configuration as plain data, ``{"kind": "patch"}`` or ``{"kind": "command", "command": [...], ...}``.
    """

    attempt_id: str
    task: TaskId
    epoch: int
    repository: Repository
    issue: Issue
    comments: tuple[Comment, ...]
    branch: str
    agent: Mapping[str, Any]
    agent_name: str
    wall_s_max: float = 3600.0
    idle_s_max: float = 600.0
    output_bytes_max: int = 8 * 1024 * 1024
    extra_prompt: str = ""


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The agent itself is running now (the work tree is ready)."""

    attempt_id: str
    agent: str
    pid: int


@dataclass(frozen=True, slots=True)
class AttemptProgressed:
    """Something to show a person: ``phase`` is ``fetch``, ``agent``, ``check``, ``commit``."""

    attempt_id: str
    phase: str
    detail: str


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """The attempt is over, its processes are gone, and what it made is safe in ``work`` if not ``None``.

    ``work`` may be there whatever the outcome: unproved work is rescued, never deleted. ``check`` tells
    how the repository's check ended (command, exit status, seconds, the tail of its output). ``shown`` is what
    people may read of it afterwards, bounded: ``prompt``, ``answer``, ``diff``, ``files``.
    """

    attempt_id: str
    outcome: Outcome
    summary: str
    work: Work | None = None
    check: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""
    retry_after_s: float | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)


AttemptEvent = AttemptStarted | AttemptProgressed | AttemptFinished


class AgentRunner(Protocol):
    """Runs attempts, each in its own worker process, work tree and process group."""

    async def start(self, spec: AttemptSpec) -> None:
        """Begin; returns once the worker is spawned. What follows arrives by ``receive``.

        Raises:
            AgentError: the worker could not be spawned.
        """

    async def stop(self, attempt_id: str, reason: str) -> None:
        """End an attempt, saving its work first; its ``AttemptFinished`` follows. Unknown ids do nothing."""

    async def receive(self) -> AttemptEvent:
        """The next event of any attempt, waiting for it. One reader at a time."""

    async def recover(self) -> Sequence[AttemptFinished]:
        """At start: end every process a dead node left, and tell the attempts it left, with their work."""

    async def forget(self, attempt_id: str) -> None:
        """Delete an attempt's folder; only after its work is on the server or there was none."""

    async def close(self) -> None:
        """End all attempts, saving their work."""


# --- journal ---


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One report that people or Hive are still to get. ``key`` makes it one, however often it is sent."""

    id: int
    key: str
    task: TaskId
    epoch: int
    kind: str
    data: Mapping[str, Any]
    tries: int = 0


class Journal(Protocol):
    """What a node must still know after a crash. Every write is durable when the call returns."""

    def next_incarnation(self, least: int) -> int:
        """The number of this start, kept: above those of all starts before, and no less than ``least``.

        A journal that was lost or restored knows too few of them. So ``least`` is the wall clock in seconds: what
        peers remember of an earlier start is then lower all the same.
        """

    def repositories(self) -> Sequence[Repository]:
        """The list of repositories kept last."""

    def keep_repositories(self, repositories: Sequence[Repository]) -> None:
        """Replace the kept list."""

    def remember(self, task: Task, record: ClaimRecord) -> None:
        """Keep the newest record that this node wrote, or is about to write, for a task."""

    def remembered(self) -> Sequence[tuple[Task, ClaimRecord]]:
        """All tasks that were remembered and not forgotten."""

    def forget(self, task: TaskId, epoch: int) -> None:
        """Nothing of this claim is left to recover; other claims of the task stay."""

    def enqueue(self, task: TaskId, epoch: int, kind: str, data: Mapping[str, Any]) -> None:
        """Add a report to the outbox; the same task, epoch and kind again is the same report."""

    def pending(self, items_max: int) -> Sequence[OutboxItem]:
        """The oldest reports that are not delivered yet, in order."""

    def delivered(self, item_id: int) -> None:
        """This report arrived."""

    def postponed(self, item_id: int) -> None:
        """This report did not arrive; one more try is counted."""

    def outbox_length(self) -> int:
        """How many reports wait."""

    def close(self) -> None:
        """Close the file."""

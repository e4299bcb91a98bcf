"""The simulated claim ledger: content-addressed chains, compare-and-swap, and who is told of each write.

A version is the hash of a record's bytes and its parent, as a git commit is: the same record after the same
parent is the same version, so pushing it twice is pushing it once, and two claimers with equal records
would both see success. That is what nonces are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from bzzz.core.record import ClaimRecord, Observation, RecordState, Version
from bzzz.core.task import TaskId
from bzzz.simulation.flaw import Flaw


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a claim ref, a branch, or both, as the checkers see it.

    ``before`` and ``after`` are what the claim ref held; ``branch`` is the branch that the same push created.
    """

    task: TaskId
    by: str
    sent: ClaimRecord
    before: Observation | None
    after: Observation | None
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Swapped:
    """How a write ended at the ledger."""

    won: bool
    standing: Observation | None
    refused: str = ""


def version_of(record: ClaimRecord, parent: Version | None) -> Version:
    """The version that a record gets after its parent."""
    data = record.to_bytes() + b"\0" + (parent or "").encode()
    return Version(hashlib.blake2b(data, digest_size=20).hexdigest())


class ClaimLedger:
    """All claim refs and work branches of the simulated world; ``watched`` is told of each change."""

    def __init__(self, flaw: Flaw | None = None) -> None:
        self._flaw = flaw
        self._refs: dict[TaskId, Observation] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.chains: dict[TaskId, list[Observation]] = {}
        self.watched: Callable[[Write], None] = lambda _: None
        self.swaps_lost = 0

    def read(self, task: TaskId) -> Observation | None:
        """What stands for a task."""
        return self._refs.get(task)

    def claims(self) -> tuple[tuple[int, Observation], ...]:
        """All that stands, by issue number."""
        return tuple(sorted(((task.number, seen) for task, seen in self._refs.items()), key=lambda pair: pair[0]))

    def swap(self, expected: Version | None, record: ClaimRecord, by: str) -> Swapped:
        """Append a record if what is expected stands, or if the very same record stands already."""
        task = record.task
        before = self._refs.get(task)
        new = Observation(version_of(record, expected), record)
        if before is not None and before.version == new.version:
            return Swapped(True, before)
        if (before.version if before is not None else None) != expected:
            self.swaps_lost += 1
            return Swapped(False, before)
        if self._flaw is Flaw.RELEASE_BY_DELETION and record.state is RecordState.RELEASED:
            del self._refs[task]
            self.watched(Write(task, by, record, before, None))
            return Swapped(True, new)
        self._append(new)
        self.watched(Write(task, by, record, before, new))
        return Swapped(True, new)

    def deliver(self, expected: Version, record: ClaimRecord, by: str) -> Swapped:
        """Append a ``delivered`` record and create its branch, both or neither."""
        task = record.task
        before = self._refs.get(task)
        new = Observation(version_of(record, expected), record)
        name = (task.repository, record.branch or "")
        commit = record.commit or ""
        if before is not None and before.version == new.version:
            return Swapped(True, before)
        holds = before is not None and before.version == expected
        if self.branches.get(name, commit) != commit:
            return Swapped(False, before, refused=f"branch {record.branch} exists with other content")
        if self._flaw is Flaw.CLAIM_UNCHANGED:
            self.branches[name] = commit
            self.watched(Write(task, by, record, before, before, record.branch))
            return Swapped(True, new)
        if self._flaw is Flaw.EPOCH_UNCHECKED:
            holds = True
        if not holds:
            self.swaps_lost += 1
            if self._flaw is Flaw.NO_ATOMIC_PUSH:
                self.branches[name] = commit
                self.watched(Write(task, by, record, before, before, record.branch))
            return Swapped(False, before)
        self.branches[name] = commit
        self._append(new)
        self.watched(Write(task, by, record, before, new, record.branch))
        return Swapped(True, new)

    def _append(self, new: Observation) -> None:
        self._refs[new.record.task] = new
        self.chains.setdefault(new.record.task, []).append(new)

"""A ledger whose git server is a dictionary: for tests, simulations and a trial without any server.

``MemoryStore`` is the server, shared by any number of ``MemoryLedger`` clients in one process. Versions are
the very ids that git would give, computed from the record and its parent, so that what depends on
content-addressed versions (two equal records are one version, and both writers see success) is the same
here. A compare-and-swap is one step without an ``await`` in it; before it each client yields, so that
racing tasks do race.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bzzz.core.record import ClaimRecord, Observation, Version
from bzzz.core.task import Repository, TaskId
from bzzz.errors import LedgerRefused, ServiceDenied, ServiceMissing
from bzzz.gitformat.pack import GitObject
from bzzz.ledger.link import CLAIMS, Link, claim_number, claim_ref, make_link, parent_of, read_link, rescue_ref
from bzzz.ledger.receive_pack import RefUpdate, Report
from bzzz.ledger.settle import Decision, Verdict, settle
from bzzz.ports import SwapResult, Work

RESCUES_MAX = 100
_SERVICE = "ledger in memory"


@dataclass(slots=True)
class MemoryRepository:
    """What one repository holds: its refs, every object that was pushed, and protected branches' names."""

    refs: dict[str, str] = field(default_factory=dict)
    objects: dict[str, GitObject] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)


class MemoryStore:
    """The shared server: repositories by ``owner/name``."""

    def __init__(self) -> None:
        self.repositories: dict[str, MemoryRepository] = {}

    def add(self, key: str) -> MemoryRepository:
        """Make an empty repository; one that is there is returned as it is."""
        return self.repositories.setdefault(key, MemoryRepository())

    def push(self, held: MemoryRepository, updates: Sequence[RefUpdate], objects: Sequence[GitObject]) -> Report:
        """Carry out all of ``updates`` or none, as a git server does, and report in its words."""
        refusals = {update.ref: reason for update in updates if (reason := self._refuse(held, update))}
        if refusals:
            everyone = {update.ref: refusals.get(update.ref, "atomic transaction failed") for update in updates}
            return Report("ok", frozenset(), everyone, "")
        held.objects.update((item.id, item) for item in objects)
        held.refs.update((update.ref, update.new) for update in updates)
        return Report("ok", frozenset(update.ref for update in updates), {}, "")

    @staticmethod
    def _refuse(held: MemoryRepository, update: RefUpdate) -> str | None:
        if update.ref in held.protected:
            return "protected branch"
        blocking = next(
            (ref for ref in held.refs if update.ref.startswith(f"{ref}/") or ref.startswith(f"{update.ref}/")), None
        )
        if blocking is not None:
            return f"'{blocking}' exists; cannot create '{update.ref}'"
        standing = held.refs.get(update.ref)
        return None if standing == update.old else f"is at {standing} but expected {update.old}"


class MemoryLedger:
    """The ``Ledger`` port over a ``MemoryStore``; ``read_only`` is a token that may not write."""

    def __init__(self, store: MemoryStore, *, read_only: bool = False) -> None:
        self._store = store
        self._read_only = read_only
        self._counts: collections.Counter[str] = collections.Counter()
        self._counted_unreadable: set[tuple[str, str, str]] = set()

    async def read(self, repository: Repository, number: int) -> Observation | None:
        """See ``Ledger.read``."""
        held = await self._held(repository, f"reading the claim of {repository.key}#{number}")
        found = held.refs.get(claim_ref(number))
        if found is None:
            return None
        return self._observe(repository, held, number, Version(found))

    async def list(self, repository: Repository) -> Mapping[int, Observation]:
        """See ``Ledger.list``."""
        held = await self._held(repository, f"listing the claims of {repository.key}")
        found: dict[int, Observation] = {}
        for ref, version in list(held.refs.items()):
            if not ref.startswith(CLAIMS):
                continue
            number = claim_number(ref)
            try:
                if number is None:
                    raise LedgerRefused(f"{ref} of {repository.key} ends with no issue number")
                found[number] = self._observe(repository, held, number, Version(version))
            except LedgerRefused:
                if (repository.key, ref, version) not in self._counted_unreadable:
                    self._counted_unreadable.add((repository.key, ref, version))
                    self._counts["records_unreadable"] += 1
        return found

    async def swap(self, repository: Repository, expected: Version | None, record: ClaimRecord) -> SwapResult:
        """See ``Ledger.swap``."""
        return await self._append(repository, expected, record, None, f"writing the claim of {record.task}")

    async def deliver(
        self, repository: Repository, expected: Version, record: ClaimRecord, work: Work
    ) -> SwapResult:
        """See ``Ledger.deliver``."""
        branch = _update(f"refs/heads/{work.branch}", None, work.commit)
        try:
            return await self._append(repository, expected, record, branch, f"delivering {record.task}")
        except ServiceDenied as error:
            raise LedgerRefused(str(error)) from None

    async def rescue(self, repository: Repository, number: int, epoch: int, work: Work) -> str:
        """See ``Ledger.rescue``.

        Raises:
            LedgerRefused: ``RESCUES_MAX`` different works were saved for this epoch already.
        """
        held = await self._held(repository, f"saving the work of {repository.key}#{number}", write=True)
        for copy in range(RESCUES_MAX):
            ref = rescue_ref(number, epoch, copy + 1)
            if held.refs.get(ref) == work.commit:
                return ref
            if self._store.push(held, [_update(ref, None, work.commit)], ()).accepted:
                self._counts["rescues"] += 1
                return ref
        raise LedgerRefused(f"{repository.key}: {RESCUES_MAX} works are saved for {number}, epoch {epoch} already")

    async def history(self, repository: Repository, number: int) -> Sequence[Observation]:
        """See ``Ledger.history``."""
        held = await self._held(repository, f"reading the history of {repository.key}#{number}")
        found = held.refs.get(claim_ref(number))
        version = None if found is None else Version(found)
        links: list[Observation] = []
        while version is not None:
            links.append(self._observe(repository, held, number, version))
            version = parent_of(version, held.objects)
        return links[::-1]

    def counters(self) -> Mapping[str, int]:
        """See ``Ledger.counters``."""
        return dict(self._counts)

    async def close(self) -> None:
        """See ``Ledger.close``; there is nothing to release."""

    async def _held(self, repository: Repository, what: str, *, write: bool = False) -> MemoryRepository:
        await asyncio.sleep(0)
        self._counts["requests"] += 1
        held = self._store.repositories.get(repository.key)
        if held is None:
            raise ServiceMissing(_SERVICE, what, f"there is no repository {repository.key}")
        if write and self._read_only:
            raise ServiceDenied(_SERVICE, what, "this client may only read", 403)
        return held

    async def _append(
        self,
        repository: Repository,
        expected: Version | None,
        record: ClaimRecord,
        branch: RefUpdate | None,
        what: str,
    ) -> SwapResult:
        number = record.task.number
        if record.task != TaskId(repository.key, number) or number < 1:
            raise LedgerRefused(f"a record of {record.task} does not belong into {repository.key}")
        try:
            version, objects = make_link(Link(record, expected))
        except ValueError as error:
            raise LedgerRefused(f"{record.task}: {error}") from None
        claim = _update(claim_ref(number), expected, version)
        held = await self._held(repository, what, write=True)
        decision = self._push(held, claim, branch, objects)
        if decision.verdict is Verdict.WON:
            self._counts["swaps_won"] += 1
            return SwapResult(won=True, standing=Observation(version, record))
        if decision.verdict is Verdict.LOST:
            self._counts["swaps_lost"] += 1
            found = held.refs.get(claim.ref)
            try:
                standing = None if found is None else self._observe(repository, held, number, Version(found))
            except LedgerRefused:
                standing = None
            return SwapResult(won=False, standing=standing)
        self._counts["pushes_refused"] += 1
        raise LedgerRefused(f"{_SERVICE}: {what}: {decision.reason}")

    def _push(
        self, held: MemoryRepository, claim: RefUpdate, branch: RefUpdate | None, objects: Sequence[GitObject]
    ) -> Decision:
        updates = [claim] if branch is None else [claim, branch]
        decision = settle(claim, branch, self._store.push(held, updates, objects), held.refs)
        if decision.verdict is Verdict.BRANCH_THERE and branch is not None:
            branch = RefUpdate(branch.ref, branch.new, branch.new)
            decision = settle(claim, branch, self._store.push(held, [claim, branch], objects), held.refs)
        return decision

    @staticmethod
    def _observe(repository: Repository, held: MemoryRepository, number: int, version: Version) -> Observation:
        try:
            link = read_link(version, TaskId(repository.key, number), held.objects)
        except ValueError as error:
            raise LedgerRefused(
                f"{claim_ref(number)} of {repository.key} at {version} is not a claim record: {error}"
            ) from None
        return Observation(version, link.record)


def _update(ref: str, old: str | None, new: str) -> RefUpdate:
    try:
        return RefUpdate(ref, old, new)
    except ValueError as error:
        raise LedgerRefused(str(error)) from None

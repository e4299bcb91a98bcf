"""The ledger over git: one ref a task, moved by compare-and-swap, on any git server.

``refs/bzzz/claims/<number>`` in the task's own repository points at the newest link of its claim chain. A
swap is ONE request (``POST git-receive-pack`` with the expected old value named); reading is one listing and,
for a version not seen before, one fetch. Nothing here deletes a ref: a release is a record too, for a
deleted ref would start its epochs anew. What a push came to is decided in ``settle``, where the argument
about lost answers stands; this module carries its decisions out.

It is promised that a result is never guessed: a swap ends with the record known to stand, known not to, or
``LedgerUncertain``. Which record may follow which is left to the core, and leftover lock files to the server.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bzzz.core.record import ClaimRecord, Observation, Version
from bzzz.core.task import Repository, TaskId
from bzzz.errors import LedgerRefused, LedgerUncertain, ServiceDenied, ServiceError, ServiceFaulty
from bzzz.gitformat.pack import GitObject
from bzzz.ledger.link import CLAIMS, Link, claim_number, claim_ref, is_object_id, make_link, rescue_ref
from bzzz.ledger.push import Push, PushBound
from bzzz.ledger.reader import ReadBound, Reader, Unreadable, refuse_unreadable
from bzzz.ledger.receive_pack import RefUpdate, Report, read_capabilities, read_report
from bzzz.ledger.remote import AGENT, AnswerLost, Remote, RemoteBound, service_name
from bzzz.ledger.settle import Decision, Verdict, settle
from bzzz.ledger.work_pack import pack_work
from bzzz.ports import SwapResult, Work


@dataclass(frozen=True, slots=True)
class _Settled:
    won: bool
    refs: Mapping[str, str] | None


class GitRefLedger:
    """The ``Ledger`` port over git servers.

    Args:
        token_for: the token for a repository, asked at every request; ``None`` for none.
        remote_bound: bounds of each exchange.
        read_bound: bounds of reading.
        push_bound: bounds of pushing.
        sleep: waits that many seconds between pushes.
    """

    def __init__(
        self,
        token_for: Callable[[Repository], str | None],
        *,
        remote_bound: RemoteBound | None = None,
        read_bound: ReadBound | None = None,
        push_bound: PushBound | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._remote = Remote(token_for, remote_bound, counts=self._counts)
        self._reader = Reader(self._remote, self._counts, read_bound)
        self._bound = push_bound or PushBound()
        self._sleep = sleep
        self._capabilities: collections.OrderedDict[str, frozenset[str]] = collections.OrderedDict()

    async def read(self, repository: Repository, number: int) -> Observation | None:
        """See ``Ledger.read``."""
        what = f"reading the claim of {repository.key}#{number}"
        ref = claim_ref(number)
        found = (await self._reader.refs(repository, [ref], what)).get(ref)
        if found is None:
            return None
        version = Version(found)
        read = await self._reader.read(repository, number, version, what)
        if isinstance(read, Unreadable):
            raise refuse_unreadable(repository, number, version, read)
        return Observation(version, read)

    async def list(self, repository: Repository) -> Mapping[int, Observation]:
        """See ``Ledger.list``."""
        what = f"listing the claims of {repository.key}"
        refs = await self._reader.refs(repository, [CLAIMS], what)
        versions = {ref: Version(found) for ref, found in refs.items() if ref.startswith(CLAIMS)}
        reads = await self._reader.read_all(repository, versions, what)
        return {
            number: Observation(versions[ref], read)
            for ref, read in reads.items()
            if isinstance(read, ClaimRecord) and (number := claim_number(ref)) is not None
        }

    async def history(self, repository: Repository, number: int) -> Sequence[Observation]:
        """See ``Ledger.history``.

        Raises:
            LedgerRefused: a link of the chain is not a record of this task; it names the commit.
        """
        what = f"reading the history of {repository.key}#{number}"
        ref = claim_ref(number)
        found = (await self._reader.refs(repository, [ref], what)).get(ref)
        return [] if found is None else await self._reader.chain(repository, number, Version(found), what)

    async def swap(self, repository: Repository, expected: Version | None, record: ClaimRecord) -> SwapResult:
        """See ``Ledger.swap``; ``settle`` holds the argument for what a lost answer comes to.

        After ``LedgerUncertain``, or when this was cancelled, the record may stand now or later. Whoever wants
        the claim still swaps the SAME record again (or reads): a new nonce could lose to the old one's record.

        Raises:
            LedgerUncertain: it was sent, and neither an answer nor the ref could be had.
            ServiceFaulty: the server refused it several times without a reason, and the ref has not moved.
        """
        what = f"writing the claim of {record.task}"
        version, objects, claim = self._link(repository, expected, record)
        settled = await self._carry_out(Push(repository, what, claim, None, objects))
        return await self._result(repository, version, record, settled)

    async def deliver(
        self, repository: Repository, expected: Version, record: ClaimRecord, work: Work
    ) -> SwapResult:
        """See ``Ledger.deliver``. A token that may not write is ``LedgerRefused`` here."""
        what = f"delivering {record.task}"
        version, objects, claim = self._link(repository, expected, record)
        branch = _update(f"refs/heads/{work.branch}", None, work.commit)
        try:
            capabilities = await self._server_capabilities(repository, what)
            if "object-format=sha256" in capabilities:
                raise LedgerRefused(
                    f"{service_name(repository)}: {what}: repositories with SHA-256 are not supported"
                )
            if "atomic" not in capabilities:
                raise LedgerRefused(
                    f"{service_name(repository)}: {what} needs an atomic push, which this server does not offer; "
                    "turn on receive.advertiseAtomic there"
                )
            pack = await self._pack(work, capabilities)
            push = Push(repository, what, claim, branch, objects, pack)
            settled = await self._carry_out(push)
        except ServiceDenied as error:
            if error.status != 403:
                raise
            raise LedgerRefused(
                f"{service_name(repository)}: {what} was answered 403: the token may not push here; "
                "give it write access to contents"
            ) from None
        return await self._result(repository, version, record, settled)

    async def rescue(self, repository: Repository, number: int, epoch: int, work: Work) -> str:
        """See ``Ledger.rescue``. Saving the same commit again finds the ref it has.

        Raises:
            LedgerRefused: ``rescues_max`` different works were saved for this epoch already.
            LedgerUncertain: it was sent, and reading failed; saving it again is safe.
        """
        what = f"saving the work of {repository.key}#{number}, epoch {epoch}"
        first = rescue_ref(number, epoch)
        pack: bytes | None = None
        for _ in range(self._bound.rescues_max):
            saved = await self._reader.refs(repository, [first], what)
            names = [rescue_ref(number, epoch, copy + 1) for copy in range(self._bound.rescues_max)]
            for name in names:
                if saved.get(name) == work.commit:
                    return name
            free = next((name for name in names if name not in saved), None)
            if free is None:
                break
            if pack is None:
                pack = await self._pack(work, frozenset())
            push = Push(repository, what, None, _update(free, None, work.commit), (), pack)
            if (await self._carry_out(push)).won:
                self._counts["rescues"] += 1
                return free
        raise LedgerRefused(f"{repository.key}: {self._bound.rescues_max} works are saved under {first} already")

    def counters(self) -> Mapping[str, int]:
        """See ``Ledger.counters``."""
        return dict(self._counts)

    async def close(self) -> None:
        """See ``Ledger.close``."""
        await self._remote.close()

    def _link(
        self, repository: Repository, expected: Version | None, record: ClaimRecord
    ) -> tuple[Version, tuple[GitObject, ...], RefUpdate]:
        if record.task != TaskId(repository.key, record.task.number) or record.task.number < 1:
            raise LedgerRefused(f"a record of {record.task} does not belong into {repository.key}")
        try:
            version, objects = make_link(Link(record, expected))
        except ValueError as error:
            raise LedgerRefused(f"{record.task}: {error}") from None
        return version, objects, _update(claim_ref(record.task.number), expected, version)

    async def _result(
        self, repository: Repository, version: Version, record: ClaimRecord, settled: _Settled
    ) -> SwapResult:
        number, ref = record.task.number, claim_ref(record.task.number)
        if settled.won:
            self._counts["swaps_won"] += 1
            self._reader.remember(repository, ref, version, record)
            return SwapResult(won=True, standing=Observation(version, record))
        self._counts["swaps_lost"] += 1
        found = (settled.refs or {}).get(ref)
        if found is None:
            return SwapResult(won=False, standing=None)
        try:
            read = await self._reader.read(
                repository, number, Version(found), f"reading the claim of {record.task}"
            )
        except ServiceError:
            # That it is lost is known; who has it will be known by the next reading.
            self._counts["standing_unread"] += 1
            return SwapResult(won=False, standing=None)
        standing = None if isinstance(read, Unreadable) else Observation(Version(found), read)
        return SwapResult(won=False, standing=standing)

    async def _carry_out(self, push: Push) -> _Settled:
        """Push, and push again, until it is settled. Every branch of ``Verdict`` is handled here."""
        lost: ServiceError | None = None
        wait_s = self._bound.first_wait_s
        decision = Decision(Verdict.AGAIN)
        alone = False
        for attempt in range(self._bound.pushes_max):
            if attempt:
                self._counts["pushes_repeated"] += 1
                await self._sleep(wait_s)
                wait_s *= 2
            report, lost = await self._push_once(push, lost)
            if report is not None and report.stands(push.updates):
                return _Settled(won=True, refs=None)
            refs = await self._look(push, lost)
            decision = settle(push.claim, push.branch, report, refs)
            match decision.verdict:
                case Verdict.WON:
                    return _Settled(won=True, refs=refs)
                case Verdict.LOST:
                    return _Settled(won=False, refs=refs)
                case Verdict.BRANCH_ALONE:
                    alone = True
                    push = replace(push, claim=None, objects=())
                case Verdict.BRANCH_THERE if push.branch is not None:
                    push = replace(push, branch=replace(push.branch, old=push.branch.new))
                case Verdict.REFUSED | Verdict.FAULTY if lost is None:
                    raise self._refusal(push, decision, alone=alone)
                case _:
                    pass
        if lost is not None:
            raise self._uncertain(push, lost)
        raise self._refusal(push, decision, alone=alone)

    async def _push_once(self, push: Push, lost: ServiceError | None) -> tuple[Report | None, ServiceError | None]:
        """One request; returns the report, and the first reason for which an answer was lost so far."""
        try:
            answer = await self._remote.write(push.repository, push.body(AGENT), push.what)
        except ServiceError as error:
            if lost is None:
                raise
            raise self._uncertain(push, error) from None
        if isinstance(answer, AnswerLost):
            return None, lost or answer.cause
        try:
            return read_report(answer), lost
        except ValueError as error:
            self._counts["answers_lost"] += 1
            return None, lost or ServiceFaulty(service_name(push.repository), push.what, str(error))

    async def _look(self, push: Push, lost: ServiceError | None) -> Mapping[str, str]:
        for attempt in range(self._bound.looks_max):
            if attempt:
                await self._sleep(self._bound.first_wait_s * 2**attempt)
            try:
                return await self._reader.refs(push.repository, push.prefixes, push.what)
            except ServiceError as error:
                lost = lost or error
        raise self._uncertain(push, lost)

    def _uncertain(self, push: Push, cause: ServiceError | None) -> LedgerUncertain:
        self._counts["swaps_uncertain"] += 1
        return LedgerUncertain(
            f"{push.what}: it was sent, and what came of it is unknown; read the ref before deciding ({cause})"
        )

    def _refusal(self, push: Push, decision: Decision, *, alone: bool) -> Exception:
        """``alone``: the claim stands as delivered, and only its branch is refused (it is no atomic push then)."""
        name = service_name(push.repository)
        if alone:
            self._counts["pushes_refused"] += 1
            return LedgerRefused(f"{name}: {push.what}: {_HALF_DELIVERED}: {decision.reason}")
        if decision.verdict in {Verdict.FAULTY, Verdict.AGAIN}:
            return ServiceFaulty(name, push.what, decision.reason)
        self._counts["pushes_refused"] += 1
        return LedgerRefused(f"{name}: {push.what}: {decision.reason}")

    async def _server_capabilities(self, repository: Repository, what: str) -> frozenset[str]:
        known = self._capabilities.get(repository.git_url)
        if known is not None:
            return known
        try:
            known = read_capabilities(await self._remote.advertisement(repository, what))
        except ValueError as error:
            raise ServiceFaulty(service_name(repository), what, str(error)) from None
        self._capabilities[repository.git_url] = known
        while len(self._capabilities) > self._bound.servers_known_max:
            self._capabilities.popitem(last=False)
        return known

    async def _pack(self, work: Work, capabilities: frozenset[str]) -> bytes:
        if not (is_object_id(work.commit) and is_object_id(work.base)):
            raise LedgerRefused(f"{work.git_dir}: work must name its commit and base by their full ids")
        return await pack_work(
            work,
            thin=bool(capabilities) and "no-thin" not in capabilities,
            by_offset="ofs-delta" in capabilities,
            pack_bytes_max=self._bound.pack_bytes_max,
            timeout_s=self._bound.pack_timeout_s,
        )


_HALF_DELIVERED = (
    "the server moved the claim to delivered and refused the branch, so it does not push atomically (does it hide "
    "work branches by transfer.hideRefs?); allow the branch there and push the work by hand"
)


def _update(ref: str, old: str | None, new: str) -> RefUpdate:
    try:
        return RefUpdate(ref, old, new)
    except ValueError as error:
        raise LedgerRefused(str(error)) from None

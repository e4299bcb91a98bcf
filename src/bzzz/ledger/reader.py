"""Reads claim records from a git server, and believes none of them unseen.

Listing refs costs one request, and one more fetches all versions that were not seen before; a version's
content never changes, so what was read once is kept, up to ``records_cached_max``. A ref may point at
anything: what is no record of its task is told as ``Unreadable``, remembered, and counted once. One huge
object must not hide a repository's other claims, so a fetch that grows too large is halved until the
culprit stands alone.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord, Observation, Version
from bzzz.core.task import Repository, TaskId
from bzzz.errors import LedgerRefused, ServiceError, ServiceFaulty, ServiceNonsense
from bzzz.gitformat.pack import GitObject, PackTooLarge, read_pack
from bzzz.gitformat.pktline import ErrorPacket
from bzzz.ledger.link import claim_number, claim_ref, parent_of, read_link
from bzzz.ledger.remote import AGENT, Remote, TooLarge, service_name
from bzzz.ledger.upload_pack import fetch_request, ls_refs_request, read_fetch, read_refs

_ANSWER_BYTES_A_RECORD = 2 * RECORD_BYTES_MAX
_IN_THREAD_ABOVE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ReadBound:
    """Bounds of reading: versions kept, versions asked for at once, records in one chain."""

    records_cached_max: int = 16_384
    wants_max: int = 4_096
    history_records_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands at a claim ref is not a record of its task; ``reason`` says why."""

    reason: str


Read = ClaimRecord | Unreadable


class Reader:
    """Reads refs and records, and keeps what cannot change."""

    def __init__(self, remote: Remote, counts: collections.Counter[str], bound: ReadBound | None = None) -> None:
        self._remote = remote
        self._counts = counts
        self._bound = bound or ReadBound()
        self._cache: collections.OrderedDict[tuple[str, str, Version], Read] = collections.OrderedDict()

    async def refs(self, repository: Repository, prefixes: Sequence[str], what: str) -> dict[str, str]:
        """The refs that begin with any of ``prefixes``, name to object id.

        Raises:
            ServiceError: they could not be read.
        """
        request = ls_refs_request(prefixes, agent=AGENT)
        body = await self._remote.read(repository, request, what, self._remote.bound.answer_bytes_max)
        if isinstance(body, TooLarge):
            detail = f"its list of refs is above {body.bytes_max} bytes"
            raise ServiceNonsense(service_name(repository), what, detail)
        try:
            return read_refs(body)
        except ValueError as error:
            raise _nonsense(repository, what, error) from None

    async def read(self, repository: Repository, number: int, version: Version, what: str) -> Read:
        """The record at one version.

        Raises:
            ServiceError: it could not be read.
        """
        ref = claim_ref(number)
        return (await self.read_all(repository, {ref: version}, what))[ref]

    async def read_all(self, repository: Repository, refs: Mapping[str, Version], what: str) -> dict[str, Read]:
        """The records that claim refs point at, by ref; what is not known yet in one fetch.

        Raises:
            ServiceError: they could not be read.
        """
        known: dict[str, Read] = {}
        missing: list[str] = []
        for ref, version in refs.items():
            key = (repository.key, ref, version)
            if (read := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                known[ref] = read
            elif claim_number(ref) is None:
                known[ref] = self._believe(repository, ref, version, {})
            else:
                missing.append(ref)
        for start in range(0, len(missing), self._bound.wants_max):
            part = missing[start : start + self._bound.wants_max]
            objects = await self._fetch(repository, list({refs[ref]: None for ref in part}), what)
            for ref in part:
                known[ref] = self._believe(repository, ref, refs[ref], objects)
        return known

    async def chain(self, repository: Repository, number: int, tip: Version, what: str) -> list[Observation]:
        """The whole chain that ends at ``tip``, oldest first.

        Raises:
            LedgerRefused: a link is not a record of this task, or the chain is above the bounds.
            ServiceError: it could not be read.
        """
        objects = await self._fetch_pack(repository, [tip], None, what, self._remote.bound.answer_bytes_max)
        if isinstance(objects, TooLarge):
            raise LedgerRefused(f"{claim_ref(number)} of {repository.key}: its history is too large to read")
        links: list[Observation] = []
        version: Version | None = tip
        while version is not None:
            if len(links) >= self._bound.history_records_max:
                raise LedgerRefused(
                    f"{claim_ref(number)} of {repository.key}: its history is above {len(links)} records"
                )
            read = self._believe(repository, claim_ref(number), version, objects)
            if isinstance(read, Unreadable):
                raise refuse_unreadable(repository, number, version, read)
            links.append(Observation(version, read))
            version = parent_of(version, objects)
        return links[::-1]

    def remember(self, repository: Repository, ref: str, version: Version, read: Read) -> None:
        """Keep what was read, or written by oneself, forgetting what was longest not asked for."""
        self._cache[repository.key, ref, version] = read
        while len(self._cache) > self._bound.records_cached_max:
            self._cache.popitem(last=False)
            self._counts["records_forgotten"] += 1

    def _believe(
        self, repository: Repository, ref: str, version: Version, objects: Mapping[str, GitObject]
    ) -> Read:
        if (cached := self._cache.get((repository.key, ref, version))) is not None:
            return cached
        read: Read
        try:
            number = claim_number(ref)
            if number is None:
                raise ValueError("its name ends with no issue number")
            read = read_link(version, TaskId(repository.key, number), objects).record
        except ValueError as error:
            read = Unreadable(str(error))
            self._counts["records_unreadable"] += 1
        self.remember(repository, ref, version, read)
        return read

    async def _fetch(self, repository: Repository, wants: Sequence[Version], what: str) -> dict[str, GitObject]:
        """The objects of several versions; those that are alone too large are left out."""
        objects: dict[str, GitObject] = {}
        parts = [list(wants)]
        while parts:
            part = parts.pop()
            bytes_max = min(self._remote.bound.answer_bytes_max, (len(part) + 1) * _ANSWER_BYTES_A_RECORD)
            body = await self._fetch_pack(repository, part, 1, what, bytes_max)
            if isinstance(body, TooLarge):
                self._counts["fetches_halved"] += 1
                if len(part) > 1:
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
                continue
            objects |= body
        return objects

    async def _fetch_pack(
        self, repository: Repository, wants: Sequence[Version], depth: int | None, what: str, bytes_max: int
    ) -> dict[str, GitObject] | TooLarge:
        request = fetch_request(wants, depth=depth, agent=AGENT)
        body = await self._remote.read(repository, request, what, bytes_max)
        if isinstance(body, TooLarge):
            return body
        try:
            pack = read_fetch(body)
            if len(pack) > _IN_THREAD_ABOVE_BYTES:
                return await asyncio.to_thread(read_pack, pack)
            return read_pack(pack)
        except PackTooLarge:
            return TooLarge(bytes_max)
        except ValueError as error:
            raise _nonsense(repository, what, error) from None


def refuse_unreadable(repository: Repository, number: int, version: Version, read: Unreadable) -> LedgerRefused:
    """The error that names what stands where a record should."""
    return LedgerRefused(
        f"{claim_ref(number)} of {repository.key} at {version} is not a claim record: {read.reason}; "
        "somebody with push access put it there, and only they can put it right"
    )


def _nonsense(repository: Repository, what: str, error: ValueError) -> ServiceError:
    if isinstance(error, ErrorPacket):
        return ServiceFaulty(service_name(repository), what, str(error))
    return ServiceNonsense(service_name(repository), what, str(error))

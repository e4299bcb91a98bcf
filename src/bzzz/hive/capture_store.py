"""Captured items in the database: stored once, searched, summed, and bounded in number.

Synchronous and safe in threads, as ``HiveStore`` is, whose engines it shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select
from sqlalchemy.orm import Session, defer

from bzzz.hive.capture import Capture, CaptureKind, CaptureQuery, CaptureSums, StoredCapture, Usage
from bzzz.hive.database import at_once, glance, insert_new
from bzzz.hive.model import CaptureRow
from bzzz.ports import Clock

CAPTURES_MAX = 500_000
PAGE_ITEMS_MAX = 500
PAGE_BYTES_MAX = 8 * 1024 * 1024


class CaptureStore:
    """The captures of one database.

    Args:
        reader: an engine for reading.
        writer: an engine for writing.
        clock: for the times that people read.
        captures_max: how many items are kept; the oldest make room, counted.
    """

    def __init__(self, reader: Engine, writer: Engine, clock: Clock, captures_max: int = CAPTURES_MAX) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._glance = glance(reader)
        self._captures_max = captures_max
        self._oldest: int | None = None
        self._counts: Counter[str] = Counter(
            dict.fromkeys(("captured", "captured_again", "captures_dropped", "secrets_removed"), 0)
        )

    def counters(self) -> Mapping[str, int]:
        """Counts since start: items, repetitions, items dropped for room, secrets taken out."""
        return dict(self._counts)

    def add(self, capture: Capture) -> tuple[int, bool]:
        """Store one item once; see ``add_many``."""
        return self.add_many([capture])[0]

    def add_many(self, captures: Sequence[Capture]) -> Sequence[tuple[int, bool]]:
        """Store items once each, all of them or none.

        Returns:
            the id of each, and whether it is new.
        """
        now = datetime.fromtimestamp(self._clock.wall_s(), UTC)
        rows = {capture.digest: _row(capture, now) for capture in captures}
        dropped = 0
        with at_once(self._writer) as connection:
            new, old = self._insert(connection, rows)
            if new:
                dropped = self._make_room(connection, max(new.values()))
        stored = []
        for capture in captures:
            number = new.pop(capture.digest, None)
            if number is not None:
                old[capture.digest] = number  # the second of two that are the same is not new
                self._counts["secrets_removed"] += capture.redacted
            self._counts["captured_again" if number is None else "captured"] += 1
            stored.append((old[capture.digest], number is not None))
        self._counts["captures_dropped"] += dropped
        return stored

    def _insert(
        self, connection: Connection, rows: Mapping[str, Mapping[str, Any]]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Ids by digest: of what is new, and of what was there."""
        new: dict[str, int] = {}
        old: dict[str, int] = {}
        fresh = insert_new(self._writer, CaptureRow).returning(CaptureRow.digest, CaptureRow.id)
        while left := [row for digest, row in rows.items() if digest not in new and digest not in old]:
            new |= dict(connection.execute(fresh, left).all())
            rest = [row["digest"] for row in left if row["digest"] not in new]
            if rest:
                # One that is in neither was dropped for room between the two statements: it is new after all.
                there = select(CaptureRow.digest, CaptureRow.id).where(CaptureRow.digest.in_(rest))
                old |= dict(connection.execute(there).all())
        return new, old

    def _make_room(self, connection: Connection, newest: int) -> int:
        """Drop what is too old, where that is not known to be done; how many were dropped."""
        edge = newest - self._captures_max
        if self._oldest is None:
            self._oldest = connection.scalar(select(func.min(CaptureRow.id)))
        if self._oldest is None or self._oldest > edge:
            return 0
        gone = delete(CaptureRow).where(CaptureRow.id <= edge).returning(CaptureRow.id)
        dropped = len(connection.scalars(gone).all())
        self._oldest = edge + 1
        return dropped

    def page(self, query: CaptureQuery, items_max: int, *, bodies: bool = True) -> Sequence[StoredCapture]:
        """Items of a query in their order, as many as fit ``items_max`` and ``PAGE_BYTES_MAX``; at least one."""
        ascending = query.after is not None
        rows = select(CaptureRow).where(*_conditions(query))
        if query.after is not None:
            rows = rows.where(CaptureRow.id > query.after)
        if query.before is not None:
            rows = rows.where(CaptureRow.id < query.before)
        rows = rows.order_by(CaptureRow.id if ascending else CaptureRow.id.desc())
        if not bodies:
            rows = rows.options(defer(CaptureRow.body, raiseload=True))
        found: list[StoredCapture] = []
        size_bytes = 0
        with Session(self._reader) as session:
            for row in session.scalars(rows.limit(min(items_max, PAGE_ITEMS_MAX)).execution_options(yield_per=20)):
                size_bytes += row.size_bytes if bodies else 0
                if found and size_bytes > PAGE_BYTES_MAX:
                    break
                found.append(_read(row, bodies=bodies))
        return found

    def sums(self, query: CaptureQuery) -> CaptureSums:
        """Totals over all items of a query, whatever its ``after`` and ``before``."""
        columns = (CaptureRow.tokens_in, CaptureRow.tokens_out, CaptureRow.cost_microusd)
        totals = select(func.count(), *(func.coalesce(func.sum(column), 0) for column in columns))
        with Session(self._glance) as session:
            row = session.execute(totals.select_from(CaptureRow).where(*_conditions(query))).one()
        return CaptureSums(*(int(value) for value in row))

    def walk(self, query: CaptureQuery) -> Iterator[StoredCapture]:
        """All items of a query, oldest first, a page at a time."""
        after = query.after or 0
        while True:
            found = self.page(replace(query, after=after), PAGE_ITEMS_MAX)
            if not found:
                return
            yield from found
            after = found[-1].id


def utc(moment: datetime) -> datetime:
    """In UTC; a time without a zone is taken to be there already. Times at the ends of the calendar stay there."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)


def _conditions(query: CaptureQuery) -> list[ColumnElement[bool]]:
    row = CaptureRow
    wanted: list[tuple[Any, ColumnElement[bool]]] = [
        (query.kind, row.kind == query.kind),
        (query.project_id, row.project_id == query.project_id),
        (query.repository, func.lower(row.repository) == query.repository.lower()),
        (query.task_number, row.task_number == query.task_number),
        (query.agent, row.agent == query.agent),
        (query.model, row.model == query.model),
        (query.session, row.session == query.session),
    ]
    found = [condition for value, condition in wanted if value not in (None, "")]
    if query.since is not None:
        found.append(row.captured_at >= utc(query.since))
    if query.until is not None:
        found.append(row.captured_at < utc(query.until))
    return found


def _row(capture: Capture, now: datetime) -> dict[str, Any]:
    return {
        "digest": capture.digest,
        "kind": capture.kind,
        "project_id": capture.project_id,
        "repository": capture.repository,
        "task_number": capture.task_number,
        "agent": capture.agent,
        "model": capture.model,
        "session": capture.session,
        "tokens_in": capture.usage.tokens_in,
        "tokens_out": capture.usage.tokens_out,
        "cost_microusd": capture.usage.cost_microusd,
        "size_bytes": capture.size_bytes,
        "redacted": capture.redacted,
        "shortened": capture.shortened,
        "body": capture.body,
        "captured_at": now,
    }


def _read(row: CaptureRow, *, bodies: bool) -> StoredCapture:
    moment = utc(row.captured_at)
    capture = Capture(
        kind=cast("CaptureKind", row.kind),
        project_id=row.project_id,
        repository=row.repository,
        task_number=row.task_number,
        agent=row.agent,
        model=row.model,
        session=row.session,
        usage=Usage(row.tokens_in, row.tokens_out, row.cost_microusd),
        body=row.body if bodies else None,
        size_bytes=row.size_bytes,
        redacted=row.redacted,
        shortened=row.shortened,
        digest=row.digest,
    )
    return StoredCapture(row.id, capture, moment.isoformat(timespec="seconds").replace("+00:00", "Z"))

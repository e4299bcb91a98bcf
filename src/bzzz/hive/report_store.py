"""Reports of tasks in the database, and the clients that Hive took tasks for: what a report is read together with.

Synchronous and safe in threads, as ``HiveStore`` is, whose engines it shares. Reports come in batches (see
``batch``); each counts once, however often it is sent.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Integer,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bzzz.hive.database import at_once, glance, insert_new
from bzzz.hive.model import ClientClaimRow, ProjectRow, TaskReportRow
from bzzz.ports import Clock

REPORTS_PER_TASK_MAX = 200


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The newest report of one task. ``reported_at`` is ISO 8601 in UTC."""

    number: int
    status: str
    details: Mapping[str, Any]
    reported_at: str


@dataclass(frozen=True, slots=True)
class NewReport:
    """One report as it came."""

    project_id: int
    number: int
    status: str
    details: Mapping[str, Any]

    @property
    def task(self) -> tuple[int, int]:
        """Project and issue number."""
        return self.project_id, self.number

    @property
    def digest(self) -> str:
        """What makes two reports the same one: every field of them, in one canonical form."""
        value = [self.project_id, self.number, self.status, self.details]
        return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a report: ``new`` is ``None`` where there is no such project, false where it is there already.

    ``clients`` are those that Hive took the task for, or tried to; none where all of that has ended.
    """

    new: bool | None
    clients: Collection[str] = field(default_factory=frozenset)


class ReportStore:
    """The reports of one database.

    Args:
        reader: an engine for reading.
        writer: an engine for writing.
        clock: for the times that people read.
    """

    def __init__(self, reader: Engine, writer: Engine, clock: Clock) -> None:
        self._glance = glance(reader)
        self._writer = writer
        self._clock = clock

    def add(self, project_id: int, number: int, status: str, details: Mapping[str, Any]) -> bool | None:
        """Store one report once; see ``Stored.new``."""
        return self.add_many([NewReport(project_id, number, status, details)])[0].new

    def add_many(self, reports: Sequence[NewReport]) -> Sequence[Stored]:
        """Store reports, all of them or none.

        Raises:
            IntegrityError: another process removed the project of one at the same moment.
        """
        digests = [report.digest for report in reports]
        try:
            return self._add_many(reports, digests)
        except IntegrityError:
            return self._add_many(reports, digests)  # its project is gone by now

    def _add_many(self, reports: Sequence[NewReport], digests: Sequence[str]) -> Sequence[Stored]:
        rows = {digest: self._row(report, digest) for report, digest in zip(reports, digests, strict=True)}
        with at_once(self._writer) as connection:
            standing = _standing(connection, reports)
            known = [row for row in rows.values() if row["project_id"] in standing.projects]
            fresh = insert_new(self._writer, TaskReportRow).returning(TaskReportRow.digest)
            new = set(connection.scalars(fresh, known)) if known else set()
            for task in standing.full:
                _drop_oldest(connection, *task)
        stored = []
        for report, digest in zip(reports, digests, strict=True):
            is_new = digest in new if report.project_id in standing.projects else None
            new.discard(digest)  # the second of two that are the same is not new
            stored.append(Stored(is_new, standing.clients.get(report.task, ())))
        return stored

    def _row(self, report: NewReport, digest: str) -> dict[str, Any]:
        return {
            "project_id": report.project_id,
            "task_number": report.number,
            "status": report.status,
            "details": dict(report.details),
            "digest": digest,
            "reported_at": self._now(),
        }

    def newest(self, project_id: int) -> Mapping[int, TaskReport]:
        """The newest report of each task of a project, by issue number."""
        newest = (
            select(func.max(TaskReportRow.id))
            .where(TaskReportRow.project_id == project_id)
            .group_by(TaskReportRow.task_number)
        )
        with Session(self._glance) as session:
            rows = session.scalars(select(TaskReportRow).where(TaskReportRow.id.in_(newest)))
            return {row.task_number: _read(row) for row in rows}

    def statuses(self, project_id: int) -> Mapping[int, str]:
        """The newest status of each task of a project, by issue number: ``newest``, and quicker to read."""
        newest = (
            select(func.max(TaskReportRow.id))
            .where(TaskReportRow.project_id == project_id)
            .group_by(TaskReportRow.task_number)
        )
        columns = select(TaskReportRow.task_number, TaskReportRow.status).where(TaskReportRow.id.in_(newest))
        with Session(self._glance) as session:
            return dict(session.execute(columns).all())

    def of(self, project_id: int, number: int) -> Sequence[TaskReport]:
        """Every report of one task that is kept, oldest first."""
        query = select(TaskReportRow).where(
            TaskReportRow.project_id == project_id, TaskReportRow.task_number == number
        )
        with Session(self._glance) as session:
            return [_read(row) for row in session.scalars(query.order_by(TaskReportRow.id))]

    # --- claims taken for clients -----------------------------------------------------------------------

    def note_client(self, project_id: int, number: int, agent: str) -> None:
        """Remember that Hive takes a task for a client; once is enough."""
        row = ClientClaimRow(project_id=project_id, task_number=number, agent=agent, claimed_at=self._now())
        with suppress(IntegrityError), Session(self._writer) as session, session.begin():
            if agent not in session.scalars(select(ClientClaimRow.agent).where(*_of_task(project_id, number))):
                session.add(row)

    def clients_of(self, project_id: int, number: int) -> Collection[str]:
        """The clients that Hive took a task for, or tried to; none where all of that has ended."""
        with Session(self._glance) as session:
            return set(session.scalars(select(ClientClaimRow.agent).where(*_of_task(project_id, number))))

    def forget_clients(self, project_id: int, number: int) -> None:
        """A client's claim has ended."""
        with Session(self._writer) as session, session.begin():
            session.execute(delete(ClientClaimRow).where(*_of_task(project_id, number)))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_s(), UTC)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the database says of some reports before they are in it; ``full`` tasks have no room for them."""

    projects: Collection[int]
    clients: Mapping[tuple[int, int], Collection[str]]
    full: Collection[tuple[int, int]]


_QUESTIONS: CompoundSelect[Any] = union_all(
    select(literal_column("'project'"), ProjectRow.id, literal_column("0"), literal_column("''")).where(
        ProjectRow.id.in_(bindparam("project_ids", expanding=True))
    ),
    select(
        literal_column("'client'"), ClientClaimRow.project_id, ClientClaimRow.task_number, ClientClaimRow.agent
    ).where(tuple_(ClientClaimRow.project_id, ClientClaimRow.task_number).in_(bindparam("tasks", expanding=True))),
    select(literal_column("'full'"), TaskReportRow.project_id, TaskReportRow.task_number, literal_column("''"))
    .where(tuple_(TaskReportRow.project_id, TaskReportRow.task_number).in_(bindparam("tasks", expanding=True)))
    .group_by(TaskReportRow.project_id, TaskReportRow.task_number)
    .having(func.count() > bindparam("room", type_=Integer)),
)
"""Three questions in one trip; put together once, for that takes longer than to ask them."""


def _standing(connection: Connection, reports: Sequence[NewReport]) -> _Standing:
    asked = {
        "project_ids": list({report.project_id for report in reports}),
        "tasks": list({report.task for report in reports}),
        "room": REPORTS_PER_TASK_MAX - len(reports),
    }
    answers: Iterable[Any] = connection.execute(_QUESTIONS, asked)
    projects: set[int] = set()
    clients: dict[tuple[int, int], set[str]] = defaultdict(set)
    full: set[tuple[int, int]] = set()
    for what, project_id, number, agent in answers:
        if what == "project":
            projects.add(project_id)
        elif what == "client":
            clients[project_id, number].add(agent)
        else:
            full.add((project_id, number))
    return _Standing(projects, clients, full)


def _drop_oldest(connection: Connection, project_id: int, number: int) -> None:
    of_task = (TaskReportRow.project_id == project_id, TaskReportRow.task_number == number)
    newest = select(TaskReportRow.id).where(*of_task).order_by(TaskReportRow.id.desc())
    edge = connection.scalar(newest.offset(REPORTS_PER_TASK_MAX).limit(1))
    if edge is not None:
        connection.execute(delete(TaskReportRow).where(*of_task, TaskReportRow.id <= edge))


def _of_task(project_id: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return ClientClaimRow.project_id == project_id, ClientClaimRow.task_number == number


def iso(moment: datetime | None) -> str:
    """ISO 8601 in UTC with a ``Z``; SQLite gives times back without their zone, which was UTC."""
    if moment is None:
        return ""
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return zoned.isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(row: TaskReportRow) -> TaskReport:
    return TaskReport(row.task_number, row.status, row.details, iso(row.reported_at))

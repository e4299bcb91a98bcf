"""Reports of tasks in the database, and the clients that Hive took tasks for: what a report is read together with.

Synchronous and safe in threads, as ``HiveStore`` is, whose engines it shares. Reports come in batches (see
``batch``); each counts once, however often it is sent.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, func, insert, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

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
        self._reader = reader
        self._writer = writer
        self._clock = clock

    def add(self, project_id: int, number: int, status: str, details: Mapping[str, Any]) -> bool | None:
        """Store one report once; see ``Stored.new``."""
        return self.add_many([NewReport(project_id, number, status, details)])[0].new

    def add_many(self, reports: Sequence[NewReport]) -> Sequence[Stored]:
        """Store reports in one transaction.

        Raises:
            IntegrityError: another process stored one of several, or removed its project, at the same moment.
        """
        digests = [report.digest for report in reports]
        try:
            with Session(self._writer) as session, session.begin():
                return self._add_many(session, reports, digests)
        except IntegrityError:
            if len(reports) > 1:
                raise
        # Lost a race, against the same report or against the project's removal: look again.
        with Session(self._writer) as session, session.begin():
            return self._add_many(session, reports, digests)

    def _add_many(self, session: Session, reports: Sequence[NewReport], digests: Sequence[str]) -> Sequence[Stored]:
        tasks = {report.task for report in reports}
        of_projects = {report.project_id for report in reports}
        projects = set(session.scalars(select(ProjectRow.id).where(ProjectRow.id.in_(of_projects))))
        known = set(session.scalars(select(TaskReportRow.digest).where(TaskReportRow.digest.in_(digests))))
        rows: dict[str, dict[str, Any]] = {}
        new: list[bool | None] = []
        for report, digest in zip(reports, digests, strict=True):
            there = digest in known or digest in rows
            new.append(not there if report.project_id in projects else None)
            if new[-1]:
                rows[digest] = {
                    "project_id": report.project_id,
                    "task_number": report.number,
                    "status": report.status,
                    "details": dict(report.details),
                    "digest": digest,
                    "reported_at": self._now(),
                }
        if rows:
            session.execute(insert(TaskReportRow), list(rows.values()))
            self._drop_oldest(session, tasks)
        agents = select(ClientClaimRow).where(
            tuple_(ClientClaimRow.project_id, ClientClaimRow.task_number).in_(tasks)
        )
        clients: dict[tuple[int, int], set[str]] = defaultdict(set)
        for row in session.scalars(agents):
            clients[row.project_id, row.task_number].add(row.agent)
        return [Stored(one, clients.get(report.task, ())) for one, report in zip(new, reports, strict=True)]

    def newest(self, project_id: int) -> Mapping[int, TaskReport]:
        """The newest report of each task of a project, by issue number."""
        newest = (
            select(func.max(TaskReportRow.id))
            .where(TaskReportRow.project_id == project_id)
            .group_by(TaskReportRow.task_number)
        )
        with Session(self._reader) as session:
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
        with Session(self._reader) as session:
            return dict(session.execute(columns).all())

    def of(self, project_id: int, number: int) -> Sequence[TaskReport]:
        """Every report of one task that is kept, oldest first."""
        query = select(TaskReportRow).where(
            TaskReportRow.project_id == project_id, TaskReportRow.task_number == number
        )
        with Session(self._reader) as session:
            return [_read(row) for row in session.scalars(query.order_by(TaskReportRow.id))]

    def _drop_oldest(self, session: Session, tasks: Collection[tuple[int, int]]) -> None:
        task = tuple_(TaskReportRow.project_id, TaskReportRow.task_number)
        many = (
            select(TaskReportRow.project_id, TaskReportRow.task_number)
            .where(task.in_(tasks))
            .group_by(TaskReportRow.project_id, TaskReportRow.task_number)
            .having(func.count() > REPORTS_PER_TASK_MAX)
        )
        for project_id, number in session.execute(many).all():
            of_task = (TaskReportRow.project_id == project_id, TaskReportRow.task_number == number)
            newest = select(TaskReportRow.id).where(*of_task).order_by(TaskReportRow.id.desc())
            edge = session.scalar(newest.offset(REPORTS_PER_TASK_MAX).limit(1))
            session.execute(delete(TaskReportRow).where(*of_task, TaskReportRow.id <= edge))

    # --- claims taken for clients -----------------------------------------------------------------------

    def note_client(self, project_id: int, number: int, agent: str) -> None:
        """Remember that Hive takes a task for a client; once is enough."""
        row = ClientClaimRow(project_id=project_id, task_number=number, agent=agent, claimed_at=self._now())
        with suppress(IntegrityError), Session(self._writer) as session, session.begin():
            if agent not in session.scalars(select(ClientClaimRow.agent).where(*_of_task(project_id, number))):
                session.add(row)

    def clients_of(self, project_id: int, number: int) -> Collection[str]:
        """The clients that Hive took a task for, or tried to; none where all of that has ended."""
        with Session(self._reader) as session:
            return set(session.scalars(select(ClientClaimRow.agent).where(*_of_task(project_id, number))))

    def forget_clients(self, project_id: int, number: int) -> None:
        """A client's claim has ended."""
        with Session(self._writer) as session, session.begin():
            session.execute(delete(ClientClaimRow).where(*_of_task(project_id, number)))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_s(), UTC)


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

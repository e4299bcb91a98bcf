"""What Hive remembers: projects, reports of tasks, and the webhooks it has taken.

Synchronous and safe in threads; the server calls it in a thread pool, the CLI directly. Every method is one
transaction. What it gives out are plain values, never rows. Database failures come out as SQLAlchemy's
errors, which the server answers with 503.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bzzz.errors import UsageError
from bzzz.hive.capture_store import CAPTURES_MAX, CaptureStore
from bzzz.hive.database import exclusively, open_database, upgrade_database
from bzzz.hive.git_url import read_git_url
from bzzz.hive.key_store import KeyStore
from bzzz.hive.model import ClientClaimRow, ProjectRow, TaskReportRow, WebhookDeliveryRow
from bzzz.hive.project import FORGES, Project
from bzzz.hive.project_setting import SETTING_KEYS
from bzzz.ports import Clock

REPORTS_PER_TASK_MAX = 200
DELIVERIES_REMEMBERED_MAX = 10_000

_COLUMNS = {"owner": "git_owner", "repository": "git_repository", "branch": "git_branch"}
_IN_METADATA = ("api_url", "forge", *SETTING_KEYS)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The newest report of one task. ``reported_at`` is ISO 8601 in UTC."""

    number: int
    status: str
    details: Mapping[str, Any]
    reported_at: str


class HiveStore:
    """One database of Hive, upgraded when it is opened.

    Args:
        url: SQLAlchemy's database URL.
        clock: for the times that people read.
        captures_max: see ``CaptureStore``. ``captures`` is one, and ``keys`` a ``KeyStore``.

    Raises:
        SettingError: not a database URL that can be used.
        UsageError: the database cannot be opened or upgraded.
    """

    def __init__(self, url: str, clock: Clock, captures_max: int = CAPTURES_MAX) -> None:
        upgrade_database(url)
        self._reader, self._writer = open_database(url)
        self._clock = clock
        self.captures = CaptureStore(self._reader, self._writer, clock, captures_max)
        self.keys = KeyStore(self._reader, self._writer, clock)

    def close(self) -> None:
        """Release the connections."""
        self._reader.dispose()

    def __enter__(self) -> HiveStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self) -> None:
        """Ask the database for nothing, to see whether it answers."""
        with self._reader.connect() as connection:
            connection.execute(select(1))

    # --- projects ---------------------------------------------------------------------------------------

    def projects(self, *, active_only: bool = False) -> Sequence[Project]:
        """All projects by id, or only those with ``bzzz_enabled`` and a git address."""
        query = select(ProjectRow).order_by(ProjectRow.id)
        if active_only:
            query = query.where(
                ProjectRow.bzzz_enabled.is_(True), ProjectRow.git_url.is_not(None), ProjectRow.git_url != ""
            )
        with Session(self._reader) as session:
            return [read_row(row) for row in session.scalars(query)]

    def project(self, project_id: int) -> Project | None:
        """One project; ``None`` if there is none with this id."""
        with Session(self._reader) as session:
            row = session.get(ProjectRow, project_id)
            return None if row is None else read_row(row)

    def named(self, name: str) -> Project | None:
        """One project by its name."""
        with Session(self._reader) as session:
            row = session.scalar(select(ProjectRow).where(ProjectRow.name == name))
            return None if row is None else read_row(row)

    def add(self, draft: Mapping[str, Any]) -> Project:
        """Store a new project from the fields of ``project.draft_from``.

        Raises:
            UsageError: its name or its repository is another project's.
        """
        now = self._now()
        with Session(self._writer) as session, session.begin():
            exclusively(session.connection())
            self._refuse_taken(session, draft, 0)
            row = ProjectRow(created_at=now, bzzz_enabled=False, ready_to_claim=False)
            row.private_repo = row.github_token_required = False
            session.add(row)
            _write(row, draft, now)
            _flush(session, draft)
            return read_row(row)

    def change(self, project_id: int, fields: Mapping[str, Any]) -> Project | None:
        """Change the given fields (those of ``project.change_from``); ``None`` if there is no such project.

        Raises:
            UsageError: the new name or repository is another project's.
        """
        with Session(self._writer) as session, session.begin():
            exclusively(session.connection())
            row = session.get(ProjectRow, project_id, with_for_update=True)
            if row is None:
                return None
            self._refuse_taken(session, fields, project_id)
            _write(row, fields, self._now())
            _flush(session, fields)
            return read_row(row)

    def note_ready(self, project_id: int, *, ready: bool) -> None:
        """Remember whether the project had open tasks when that was last known."""
        query = update(ProjectRow).where(ProjectRow.id == project_id).values(ready_to_claim=ready)
        with Session(self._writer) as session, session.begin():
            session.execute(query)

    def remove(self, project_id: int) -> bool:
        """Delete a project with its reports; false if there was none. Its repository is not touched."""
        with Session(self._writer) as session, session.begin():
            session.execute(delete(TaskReportRow).where(TaskReportRow.project_id == project_id))
            session.execute(delete(ClientClaimRow).where(ClientClaimRow.project_id == project_id))
            gone = session.execute(delete(ProjectRow).where(ProjectRow.id == project_id).returning(ProjectRow.id))
            return gone.first() is not None

    def _refuse_taken(self, session: Session, fields: Mapping[str, Any], own_id: int) -> None:
        others = select(ProjectRow.name).where(ProjectRow.id != own_id)
        if "name" in fields and session.scalar(others.where(ProjectRow.name == fields["name"])):
            raise UsageError(f"the name {fields['name']!r} is another project's; choose another")
        if "owner" in fields:
            same = others.where(
                func.lower(ProjectRow.git_owner) == fields["owner"].lower(),
                func.lower(ProjectRow.git_repository) == fields["repository"].lower(),
            )
            taken = session.scalar(same)
            if taken is not None:
                key = f"{fields['owner']}/{fields['repository']}"
                raise UsageError(f"{key} is the project {taken!r} already; a mesh knows it by that one name")

    # --- reports ----------------------------------------------------------------------------------------

    def report(self, project_id: int, number: int, status: str, details: Mapping[str, Any]) -> bool | None:
        """Store a report once.

        Returns:
            true if it is new, false if the very same report is there already, ``None`` if there is no
            such project.
        """
        digest = report_digest(project_id, number, status, details)
        row = TaskReportRow(
            project_id=project_id,
            task_number=number,
            status=status,
            details=dict(details),
            digest=digest,
            reported_at=self._now(),
        )
        try:
            with Session(self._writer) as session, session.begin():
                if session.get(ProjectRow, project_id) is None:
                    return None
                if session.scalar(select(TaskReportRow.id).where(TaskReportRow.digest == digest)):
                    return False
                session.add(row)
                session.flush()
                self._drop_oldest(session, project_id, number)
        except IntegrityError:
            # Lost a race: against the same report, or against the project's removal.
            return None if self.project(project_id) is None else False
        return True

    def reports(self, project_id: int) -> Mapping[int, TaskReport]:
        """The newest report of each task of a project, by issue number."""
        newest = (
            select(func.max(TaskReportRow.id))
            .where(TaskReportRow.project_id == project_id)
            .group_by(TaskReportRow.task_number)
        )
        with Session(self._reader) as session:
            rows = session.scalars(select(TaskReportRow).where(TaskReportRow.id.in_(newest)))
            return {row.task_number: _read_report(row) for row in rows}

    def reports_of(self, project_id: int, number: int) -> Sequence[TaskReport]:
        """Every report of one task that is kept, oldest first."""
        query = select(TaskReportRow).where(
            TaskReportRow.project_id == project_id, TaskReportRow.task_number == number
        )
        with Session(self._reader) as session:
            return [_read_report(row) for row in session.scalars(query.order_by(TaskReportRow.id))]

    def _drop_oldest(self, session: Session, project_id: int, number: int) -> None:
        of_task = (TaskReportRow.project_id == project_id, TaskReportRow.task_number == number)
        newest = select(TaskReportRow.id).where(*of_task).order_by(TaskReportRow.id.desc())
        edge = session.scalar(newest.offset(REPORTS_PER_TASK_MAX).limit(1))
        if edge is not None:
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

    # --- webhooks ---------------------------------------------------------------------------------------

    def take_delivery(self, digest: str) -> bool:
        """Remember a webhook; false if it was taken before (among the last ``DELIVERIES_REMEMBERED_MAX``)."""
        try:
            with Session(self._writer) as session, session.begin():
                row = WebhookDeliveryRow(digest=digest)
                session.add(row)
                session.flush()
                old = WebhookDeliveryRow.id <= row.id - DELIVERIES_REMEMBERED_MAX
                session.execute(delete(WebhookDeliveryRow).where(old))
        except IntegrityError:
            return False
        return True

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_s(), UTC)


def _of_task(project_id: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return ClientClaimRow.project_id == project_id, ClientClaimRow.task_number == number


def report_digest(project_id: int, number: int, status: str, details: Mapping[str, Any]) -> str:
    """What makes two reports the same one: every field of them, in one canonical form."""
    canonical = json.dumps([project_id, number, status, details], sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def iso(moment: datetime | None) -> str:
    """ISO 8601 in UTC with a ``Z``; SQLite gives times back without their zone, which was UTC."""
    if moment is None:
        return ""
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return zoned.isoformat(timespec="seconds").replace("+00:00", "Z")


def read_row(row: ProjectRow) -> Project:
    """A project from a row that the predecessor may have written, with NULLs and without owner or name."""
    stored = row.metadata_ if isinstance(row.metadata_, dict) else {}
    url, owner, name, api_url, web_url, problem = row.git_url or "", "", "", "", "", ""
    try:
        address = read_git_url(url)
        url, owner, name = address.url, address.owner, address.repository
        api_url, web_url = address.api_url, address.web_url
    except ValueError as error:
        problem = str(error) if url else "it has no git address"
        url = ""  # what cannot be read might hold a password
    forge = stored.get("forge")
    return Project(
        id=row.id,
        name=row.name,
        description=row.description or "",
        status=row.status or "active",
        git_url=url,
        owner=row.git_owner or owner,
        repository=row.git_repository or name,
        branch=row.git_branch or "main",
        api_url=stored["api_url"] if isinstance(stored.get("api_url"), str) else api_url,
        web_url=web_url,
        forge=forge if forge in FORGES else "github",
        bzzz_enabled=bool(row.bzzz_enabled),
        ready_to_claim=bool(row.ready_to_claim),
        private_repo=bool(row.private_repo),
        github_token_required=bool(row.github_token_required),
        metadata=stored,
        tags=tuple(str(tag) for tag in row.tags) if isinstance(row.tags, list) else (),
        created_at=iso(row.created_at),
        updated_at=iso(row.updated_at),
        problem=problem,
    )


def _read_report(row: TaskReportRow) -> TaskReport:
    return TaskReport(row.task_number, row.status, row.details, iso(row.reported_at))


def _write(row: ProjectRow, fields: Mapping[str, Any], now: datetime) -> None:
    for key, value in fields.items():
        if key not in {"metadata", *_IN_METADATA}:
            setattr(row, _COLUMNS.get(key, key), value)
    if "owner" in fields:
        row.github_repo = f"{fields['owner']}/{fields['repository']}"
    stored = dict(row.metadata_) if isinstance(row.metadata_, dict) else {}
    if "metadata" in fields:
        kept = {key: stored[key] for key in _IN_METADATA if key in stored}
        stored = {**kept, **fields["metadata"]}
    elif "git_url" in fields and "api_url" not in fields:
        stored.pop("api_url", None)  # it belonged to the address before
    stored |= {key: fields[key] for key in _IN_METADATA if key in fields}
    row.metadata_ = {key: value for key, value in stored.items() if value or key not in SETTING_KEYS}
    row.updated_at = now


def _flush(session: Session, fields: Mapping[str, Any]) -> None:
    try:
        session.flush()
    except IntegrityError:
        raise UsageError(f"the name {fields.get('name')!r} is another project's; choose another") from None

"""What Hive remembers: projects and the webhooks it has taken; reports, captures and keys have stores of their own.

Synchronous and safe in threads; the server calls it in a thread pool, the CLI directly. Every method is one
transaction. What it gives out are plain values, never rows. Database failures come out as SQLAlchemy's
errors, which the server answers with 503.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from bzzz.errors import UsageError
from bzzz.hive.capture_store import CAPTURES_MAX, CaptureStore
from bzzz.hive.database import exclusively, glance, open_database, upgrade_database
from bzzz.hive.git_url import read_git_url
from bzzz.hive.key_store import KeyStore
from bzzz.hive.model import ClientClaimRow, ProjectRow, TaskReportRow, WebhookDeliveryRow
from bzzz.hive.project import FORGES, NO_ADDRESS, Project
from bzzz.hive.project_setting import SETTING_KEYS
from bzzz.hive.report_store import ReportStore, iso
from bzzz.ports import Clock

DELIVERIES_REMEMBERED_MAX = 10_000
PROJECTS_FRESH_S = 1.0

_COLUMNS = {"owner": "git_owner", "repository": "git_repository", "branch": "git_branch"}
_IN_METADATA = ("api_url", "forge", *SETTING_KEYS)


class HiveStore:
    """One database of Hive, upgraded when it is opened.

    Args:
        url: SQLAlchemy's database URL.
        clock: for the times that people read.
        captures_max: see ``CaptureStore``. ``captures`` is one, ``keys`` a ``KeyStore``, ``reports`` a
            ``ReportStore``.

    Raises:
        SettingError: not a database URL that can be used.
        UsageError: the database cannot be opened or upgraded.
    """

    def __init__(self, url: str, clock: Clock, captures_max: int = CAPTURES_MAX) -> None:
        upgrade_database(url)
        self._reader, self._writer = open_database(url)
        self._glance = glance(self._reader)
        self._clock = clock
        self._reading = threading.Lock()
        self._known: tuple[Sequence[Project], int, int] | None = None
        self._failed: tuple[SQLAlchemyError, int] | None = None
        self._generation = 0
        self.captures = CaptureStore(self._reader, self._writer, clock, captures_max)
        self.keys = KeyStore(self._reader, self._writer, clock)
        self.reports = ReportStore(self._reader, self._writer, clock)

    def close(self) -> None:
        """Release the connections."""
        self._reader.dispose()

    def __enter__(self) -> HiveStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self) -> None:
        """Ask the database for nothing, to see whether it answers."""
        with self._glance.connect() as connection:
            connection.execute(select(1))

    # --- projects ---------------------------------------------------------------------------------------

    def projects(self, *, active_only: bool = False) -> Sequence[Project]:
        """All projects by id, or only those with ``bzzz_enabled`` and a git address."""
        with self._reading:
            found = self.known_projects()
            if found is None:
                generation, now_ms = self._generation, self._clock.now_ms()
                if self._failed is not None and now_ms - self._failed[1] < PROJECTS_FRESH_S * 1000:
                    raise self._failed[0]
                try:
                    with Session(self._glance) as session:
                        rows = session.scalars(select(ProjectRow).order_by(ProjectRow.id))
                        found = tuple(read_row(row) for row in rows)
                except SQLAlchemyError as error:
                    # Those who waited for this reading would each wait as long for the same end.
                    self._failed = (error, self._clock.now_ms())
                    raise
                self._known, self._failed = (found, generation, now_ms), None
        return tuple(project for project in found if project.active) if active_only else found

    def known_projects(self) -> Sequence[Project] | None:
        """All projects, if that needs no reading: as this store wrote them, and else ``PROJECTS_FRESH_S`` old."""
        if self._known is None:
            return None
        found, generation, read_ms = self._known
        fresh = self._clock.now_ms() - read_ms < PROJECTS_FRESH_S * 1000
        return found if fresh and generation == self._generation else None

    def project(self, project_id: int) -> Project | None:
        """One project; ``None`` if there is none with this id."""
        return next((one for one in self.projects() if one.id == project_id), None)

    def named(self, name: str) -> Project | None:
        """One project by its name."""
        return next((one for one in self.projects() if one.name == name), None)

    def add(self, draft: Mapping[str, Any]) -> Project:
        """Store a new project from the fields of ``project.draft_from``.

        Raises:
            UsageError: its name or its repository is another project's.
        """
        now = self._now()
        with self._changing() as session:
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
        with self._changing() as session:
            exclusively(session.connection())
            row = session.get(ProjectRow, project_id, with_for_update=True)
            if row is None:
                return None
            self._refuse_taken(session, fields, project_id)
            _write(row, fields, self._now())
            _flush(session, fields)
            return read_row(row)

    def note_ready(self, ready: Mapping[int, bool]) -> None:
        """Remember whether projects had open tasks when that was last known."""
        with self._changing() as session:
            for value in set(ready.values()):
                ids = [number for number, has in ready.items() if has is value]
                session.execute(update(ProjectRow).where(ProjectRow.id.in_(ids)).values(ready_to_claim=value))

    def remove(self, project_id: int) -> bool:
        """Delete a project with its reports; false if there was none. Its repository is not touched."""
        with self._changing() as session:
            session.execute(delete(TaskReportRow).where(TaskReportRow.project_id == project_id))
            session.execute(delete(ClientClaimRow).where(ClientClaimRow.project_id == project_id))
            gone = session.execute(delete(ProjectRow).where(ProjectRow.id == project_id).returning(ProjectRow.id))
            return gone.first() is not None

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        """A transaction that changes projects; what is known of them is out of date when it ends."""
        try:
            with Session(self._writer) as session, session.begin():
                yield session
        finally:
            self._generation += 1

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


def read_row(row: ProjectRow) -> Project:
    """A project from a row that the predecessor may have written, with NULLs and without owner or name."""
    stored = row.metadata_ if isinstance(row.metadata_, dict) else {}
    url, owner, name, api_url, web_url, problem = row.git_url or "", "", "", "", "", ""
    try:
        address = read_git_url(url)
        url, owner, name = address.url, address.owner, address.repository
        api_url, web_url = address.api_url, address.web_url
    except ValueError as error:
        problem = str(error) if url else NO_ADDRESS
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

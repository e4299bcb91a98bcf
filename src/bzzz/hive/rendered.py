"""Answers that every node asks for again and again, rendered once: the active repositories, a project's tasks.

What did not change is not rendered anew: a project's page is put together from its tasks, each kept as the bytes it
was last sent as. An ``ETag`` (RFC 9110, 8.8.3) names what was sent, so who has it already is told so in a line.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from bzzz.core.record import Observation
from bzzz.core.task import Issue
from bzzz.hive.board import TaskBoard
from bzzz.hive.cache import SharedFetch
from bzzz.hive.project import Project
from bzzz.hive.report_store import ReportStore
from bzzz.hive.schema import RepositoryAnswer, TaskAnswer
from bzzz.hive.setting import HiveSettings
from bzzz.ports import Clock

ETAG_BYTES = 16
PIECES_AT_ONCE = 50
"""So many tasks of a page are looked at, and then others have their turn: with all of them new, some 5 ms."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer as it is sent."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Rendered:
        """With the ETag that belongs to it."""
        return cls(body, f'"{hashlib.blake2b(body, digest_size=ETAG_BYTES).hexdigest()}"')

    def answer(self, request: Request) -> Response:
        """The whole of it, or 304 where the client has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        given = request.headers.get("if-none-match", "")
        if given == "*" or self.etag in {tag.strip().removeprefix("W/") for tag in given.split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type="application/json", headers=headers)


class RepositoryPage:
    """The answer of ``active-repos``, kept until a project or whether it has tasks changes."""

    def __init__(self) -> None:
        self._known: tuple[Sequence[Project], Sequence[bool]] | None = None
        self._page = Rendered.of(b"")
        self._noting = False

    async def note(self, news: Mapping[int, bool], write: Callable[[Mapping[int, bool]], None]) -> None:
        """Have ``write`` keep which projects have tasks now; of many who find out at once, one does it."""
        if news and not self._noting:
            self._noting = True
            try:
                await run_in_threadpool(write, news)
            finally:
                self._noting = False

    def render(self, projects: Sequence[Project], ready: Sequence[bool]) -> Rendered:
        """The page for these projects; ``ready`` says of each whether it has open tasks."""
        if self._known != (projects, ready):
            answers = [
                RepositoryAnswer.of(project, ready=has).model_dump_json()
                for project, has in zip(projects, ready, strict=True)
            ]
            self._page = Rendered.of(f'{{"repositories":[{",".join(answers)}]}}'.encode())
            self._known = (projects, ready)
        return self._page


@dataclass(frozen=True, slots=True)
class _Piece:
    issue: Issue
    standing: Observation | None
    status: str | None
    text: str


@dataclass(frozen=True, slots=True)
class _Made:
    """What a page was made from, and the page."""

    project: Project
    issues: Sequence[Issue]
    claims: Mapping[int, Observation]
    statuses: Mapping[int, str]
    pieces: Mapping[int, _Piece]
    page: Rendered

    def serves(
        self,
        project: Project,
        issues: Sequence[Issue],
        claims: Mapping[int, Observation],
        statuses: Mapping[int, str],
    ) -> bool:
        """Whether a page made from these would be the same one; the board gives what did not change as it was."""
        same = self.issues is issues and self.claims is claims and self.project == project
        return same and self.statuses == statuses


class TaskPages:
    """The answers of ``projects/{id}/tasks``; for one event loop.

    Args:
        board: reads tasks and claims, and bounds how old they are.
        reports: what was last reported of them.
        clock: for the age of a page.
        settings: bounds.
    """

    def __init__(self, board: TaskBoard, reports: ReportStore, clock: Clock, settings: HiveSettings) -> None:
        self._board = board
        self._reports = reports
        self._pages = SharedFetch[Rendered](
            clock,
            ttl_s=min(settings.page_ttl_s, settings.claims_ttl_s),
            entries_max=settings.repositories_cached_max,
        )
        self._stale_s_max = settings.page_stale_s_max
        self._made: dict[int, _Made] = {}
        self._made_max = settings.repositories_cached_max

    async def get(self, project: Project) -> Rendered:
        """The page of one project.

        Raises:
            ValueError, ServiceError, LedgerError: as for ``TaskBoard.tasks``.
        """
        return await self._pages.get_renewing(str(project.id), lambda: self._render(project), self._stale_s_max)

    def forget(self, project: Project) -> None:
        """Something changed there."""
        self._pages.forget(str(project.id))

    async def close(self) -> None:
        """End renderings under way."""
        await self._pages.close()

    async def _render(self, project: Project) -> Rendered:
        issues, claims = await self._board.snapshot(project)
        statuses = await run_in_threadpool(self._reports.statuses, project.id)
        made = self._made.pop(project.id, None)
        if made is None or not made.serves(project, issues, claims, statuses):
            known = {} if made is None or made.project.key != project.key else made.pieces
            pieces: dict[int, _Piece] = {}
            for turn, issue in enumerate(issues, 1):
                number = issue.number
                pieces[number] = self._piece(
                    project, issue, claims.get(number), statuses.get(number), known.get(number)
                )
                if turn % PIECES_AT_ONCE == 0:
                    await asyncio.sleep(0)
            page = Rendered.of(f"[{','.join(piece.text for piece in pieces.values())}]".encode())
            made = _Made(project, issues, claims, statuses, pieces, page)
        while len(self._made) >= self._made_max:
            del self._made[next(iter(self._made))]
        self._made[project.id] = made
        return made.page

    def _piece(
        self,
        project: Project,
        issue: Issue,
        standing: Observation | None,
        status: str | None,
        known: _Piece | None,
    ) -> _Piece:
        if known is not None and (known.issue, known.standing, known.status) == (issue, standing, status):
            return known
        task = self._board.task(project, issue, standing)
        return _Piece(issue, standing, status, TaskAnswer.of(task, project.key, status).model_dump_json())

"""What the routes work with, in one place: the store, the board, the hub and the ports.

Every route gets it as an argument (``PartsIn``), so no route reaches for a global.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from bzzz.core.task import Repository
from bzzz.hive.batch import Batch
from bzzz.hive.board import TaskBoard
from bzzz.hive.capture import Capture
from bzzz.hive.change import ChangeHub
from bzzz.hive.inspection import Finding
from bzzz.hive.keyring import Keyring
from bzzz.hive.project import Project
from bzzz.hive.redact import Redactor
from bzzz.hive.rendered import RepositoryPage, TaskPages
from bzzz.hive.report_store import NewReport, Stored
from bzzz.hive.setting import HiveSettings
from bzzz.hive.store import HiveStore
from bzzz.ports import Clock, Forge, Ledger

if TYPE_CHECKING:
    from bzzz.hive.scenario.director import Director

_LOG = logging.getLogger("bzzz.hive")


Inspector = Callable[[Repository], Awaitable[Sequence[Finding]]]
"""Looks whether a repository is there and may be read and written."""


@dataclass(frozen=True, slots=True)
class HiveParts:
    """The parts of one running Hive.

    ``new_nonce`` makes a claim record's nonce. ``redactor`` takes secrets out of what is
    stored. ``refusals`` counts whom the gate sent away. ``reports`` and ``captures`` write what
    nodes bring. ``adopt`` is told of each
    project that is there or new. ``director`` plays a scenario, where there is one.
    """

    settings: HiveSettings
    store: HiveStore
    board: TaskBoard
    changes: ChangeHub
    forge: Forge
    ledger: Ledger
    clock: Clock
    new_nonce: Callable[[], str]
    webhook_secret: str | None
    redactor: Redactor
    keyring: Keyring
    refusals: Counter[str]
    reports: Batch[NewReport, Stored]
    captures: Batch[Capture, tuple[int, bool]]
    task_pages: TaskPages
    repository_page: RepositoryPage
    adopt: Callable[[Project], None] | None = None
    inspect: Inspector | None = None
    director: Director | None = None

    async def project(self, project_id: int) -> Project:
        """One project.

        Raises:
            HTTPException: 404, there is none with this id.
        """
        for project in await self.projects():
            if project.id == project_id:
                return project
        raise HTTPException(404, f"there is no project {project_id}")

    async def projects(self) -> Sequence[Project]:
        """All projects; what another process changed is seen ``PROJECTS_FRESH_S`` later at the latest."""
        known = self.store.known_projects()
        return await run_in_threadpool(self.store.projects) if known is None else known

    async def workable(self, project_id: int) -> Project:
        """One project that the forge and the ledger can be asked about.

        Raises:
            HTTPException: 404, there is none with this id; 409, it has no readable git address.
        """
        project = await self.project(project_id)
        if project.problem:
            raise HTTPException(409, f"agents cannot work on project {project.name!r}: {project.problem}")
        return project

    async def welcome(self, project: Project) -> None:
        """Let ``adopt`` prepare a project; its failure is said, and costs no more than what it prepares."""
        if self.adopt is None or project.problem:
            return
        try:
            await run_in_threadpool(self.adopt, project)
        except Exception as error:
            _LOG.warning("project %r could not be prepared on its forge: %s", project.name, error)

    def announce(self, project: Project) -> None:
        """A project's repository changed: read it anew, and wake the nodes."""
        if not project.problem:
            self.board.forget(project.to_repository())
            self.task_pages.forget(project)
            self.changes.publish(project.key)


async def _parts(request: Request) -> HiveParts:
    # Not awaiting anything, but FastAPI calls what is no coroutine in a thread: two changes of threads a request.
    return cast("HiveParts", request.app.state.hive)


PartsIn = Annotated[HiveParts, Depends(_parts)]

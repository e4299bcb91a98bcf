"""What nodes discover: the repositories they may work on, and the tasks of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.concurrency import run_in_threadpool

from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import Project
from bzzz.hive.schema import NUMBER_MAX, ErrorAnswer, RepositoriesAnswer, RepositoryAnswer, TaskAnswer

_LOG = logging.getLogger("bzzz.hive")

router = APIRouter()


@router.get("/api/bzzz/active-repos")
async def active_repositories(parts: PartsIn) -> RepositoriesAnswer:
    """Enabled projects with a git address; one that cannot be read does not hide the others."""
    projects = await run_in_threadpool(parts.store.projects, active_only=True)
    usable = _usable(projects)
    answers = await asyncio.gather(*(_answer(parts, project) for project in usable))
    return RepositoriesAnswer(repositories=answers)


@router.get(
    "/api/bzzz/projects/{project_id}/tasks", responses={404: {"model": ErrorAnswer}, 409: {"model": ErrorAnswer}}
)
async def tasks(parts: PartsIn, project_id: Annotated[int, Path(ge=1, le=NUMBER_MAX)]) -> list[TaskAnswer]:
    """Open issues with the task label, as the forge tells them, joined with their claims."""
    project = await parts.workable(project_id)
    found = await parts.board.tasks(project)
    reports = await run_in_threadpool(parts.store.reports, project_id)
    return [TaskAnswer.of(task, project.key, reports.get(task.issue.number)) for task in found]


def _usable(projects: Sequence[Project]) -> Sequence[Project]:
    usable: dict[str, Project] = {}
    for project in projects:
        other = usable.get(project.key.lower())
        reason = project.problem or (f"{project.key} is project {other.name!r} already" if other else "")
        if reason:
            _LOG.warning("project %r (%d) is left out: %s", project.name, project.id, reason)
        else:
            usable[project.key.lower()] = project
    return tuple(usable.values())


async def _answer(parts: HiveParts, project: Project) -> RepositoryAnswer:
    known = await parts.board.ready(project)
    if known is None:
        return RepositoryAnswer.of(project, ready=project.ready_to_claim)
    if known != project.ready_to_claim:
        await run_in_threadpool(parts.store.note_ready, project.id, ready=known)
    return RepositoryAnswer.of(project, ready=known)

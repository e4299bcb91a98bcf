"""What nodes discover: the repositories they may work on, and the tasks of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from bzzz.hive.part import PartsIn
from bzzz.hive.project import Project
from bzzz.hive.schema import NUMBER_MAX, ErrorAnswer, RepositoriesAnswer, TaskAnswer

_LOG = logging.getLogger("bzzz.hive")

router = APIRouter()

KNOWN: dict[str, Any] = {"description": "what the ETag in If-None-Match names is what there is"}


@router.get("/api/bzzz/active-repos", response_model=RepositoriesAnswer, responses={304: KNOWN})
async def active_repositories(parts: PartsIn, request: Request) -> Response:
    """Enabled projects with a git address; one that cannot be read does not hide the others."""
    usable = _usable([project for project in await parts.projects() if project.active])
    known = [parts.board.ready_now(project) for project in usable]
    if None in known:
        known = await asyncio.gather(*(parts.board.ready(project) for project in usable))
    news = {
        project.id: has
        for project, has in zip(usable, known, strict=True)
        if has is not None and has != project.ready_to_claim
    }
    await parts.repository_page.note(news, parts.store.note_ready)
    ready = [news.get(project.id, project.ready_to_claim) for project in usable]
    return parts.repository_page.render(usable, ready).answer(request)


@router.get(
    "/api/bzzz/projects/{project_id}/tasks",
    response_model=list[TaskAnswer],
    responses={304: KNOWN, 404: {"model": ErrorAnswer}, 409: {"model": ErrorAnswer}},
)
async def tasks(
    parts: PartsIn, request: Request, project_id: Annotated[int, Path(ge=1, le=NUMBER_MAX)]
) -> Response:
    """Open issues with the task label, as the forge tells them, joined with their claims."""
    project = await parts.workable(project_id)
    return (await parts.task_pages.get(project)).answer(request)


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

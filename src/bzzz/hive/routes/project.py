"""Projects: which repositories agents may work on."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from fastapi.concurrency import run_in_threadpool

from bzzz.hive.part import PartsIn
from bzzz.hive.project import change_from, draft_from
from bzzz.hive.schema import (
    NUMBER_MAX,
    DoneAnswer,
    ErrorAnswer,
    ProjectAnswer,
    ProjectChange,
    ProjectDraft,
    ProjectsAnswer,
)
from bzzz.hive.setting import METADATA_BYTES_MAX

router = APIRouter()

ANSWERS: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}, 409: {"model": ErrorAnswer}}
ProjectIdIn = Annotated[int, Path(ge=1, le=NUMBER_MAX)]


@router.get("/api/bzzz/projects")
async def list_projects(parts: PartsIn) -> ProjectsAnswer:
    """All projects, also those that are disabled."""
    projects = await run_in_threadpool(parts.store.projects)
    return ProjectsAnswer(projects=[ProjectAnswer.of(project) for project in projects])


@router.post("/api/bzzz/projects", status_code=201, responses={409: {"model": ErrorAnswer}})
async def add_project(parts: PartsIn, draft: ProjectDraft) -> ProjectAnswer:
    """Add a project; it is enabled unless ``bzzz_enabled`` says otherwise."""
    fields = _checked(draft, parts.settings.forge_base_url)
    project = await run_in_threadpool(parts.store.add, fields)
    await parts.welcome(project)
    parts.announce(project)
    return ProjectAnswer.of(project)


@router.get("/api/bzzz/projects/{project_id}", responses={404: {"model": ErrorAnswer}})
async def show_project(parts: PartsIn, project_id: ProjectIdIn) -> ProjectAnswer:
    """One project."""
    return ProjectAnswer.of(await parts.project(project_id))


@router.patch("/api/bzzz/projects/{project_id}", responses=ANSWERS)
async def change_project(parts: PartsIn, project_id: ProjectIdIn, change: ProjectChange) -> ProjectAnswer:
    """Change the fields that are given."""
    project = await run_in_threadpool(parts.store.change, project_id, _checked(change, None))
    if project is None:
        raise HTTPException(404, f"there is no project {project_id}")
    await parts.welcome(project)
    parts.announce(project)
    return ProjectAnswer.of(project)


@router.delete("/api/bzzz/projects/{project_id}", responses={404: {"model": ErrorAnswer}})
async def remove_project(parts: PartsIn, project_id: ProjectIdIn) -> DoneAnswer:
    """Forget a project and its reports; its repository, issues and claims stay as they are."""
    project = await parts.project(project_id)
    if not await run_in_threadpool(parts.store.remove, project_id):
        raise HTTPException(404, f"there is no project {project_id}")
    parts.announce(project)
    return DoneAnswer()


def _checked(change: ProjectChange, forge_base_url: str | None) -> dict[str, Any]:
    fields = change.model_dump()
    try:
        if change.metadata and len(json.dumps(change.metadata, allow_nan=False)) > METADATA_BYTES_MAX:
            raise HTTPException(413, f"metadata: at most {METADATA_BYTES_MAX} bytes")
        return change_from(fields) if forge_base_url is None else draft_from(fields, forge_base_url)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None

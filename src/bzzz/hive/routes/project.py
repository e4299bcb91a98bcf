"""Projects: which repositories agents may work on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.concurrency import run_in_threadpool

from bzzz.hive.inspection import trouble
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import change_from, draft_from, repository_of
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
CheckIn = Annotated[bool, Query(description="look whether the repository can be read and written")]
ProjectIdIn = Annotated[int, Path(ge=1, le=NUMBER_MAX)]


@router.get("/api/bzzz/projects")
async def list_projects(parts: PartsIn) -> ProjectsAnswer:
    """All projects, also those that are disabled."""
    projects = await parts.projects()
    return ProjectsAnswer(projects=[ProjectAnswer.of(project) for project in projects])


@router.post("/api/bzzz/projects", status_code=201, responses={409: {"model": ErrorAnswer}})
async def add_project(parts: PartsIn, draft: ProjectDraft, *, check: CheckIn = True) -> ProjectAnswer:
    """Add a project; it is enabled unless ``bzzz_enabled`` says otherwise.

    422 says which fails, where the repository is not there or the token may not read or write it.
    """
    fields = _checked(draft, parts.settings.forge_base_url)
    if check:
        await _inspect(parts, fields)
    project = await run_in_threadpool(parts.store.add, fields)
    await parts.welcome(project)
    parts.announce(project)
    return ProjectAnswer.of(project)


@router.get("/api/bzzz/projects/{project_id}", responses={404: {"model": ErrorAnswer}})
async def show_project(parts: PartsIn, project_id: ProjectIdIn) -> ProjectAnswer:
    """One project."""
    return ProjectAnswer.of(await parts.project(project_id))


@router.patch("/api/bzzz/projects/{project_id}", responses=ANSWERS)
async def change_project(
    parts: PartsIn, project_id: ProjectIdIn, change: ProjectChange, *, check: CheckIn = True
) -> ProjectAnswer:
    """Change the fields that are given; a new place is looked at as for a new project."""
    fields = _checked(change, None)
    if check and fields.keys() & {"git_url", "api_url", "forge"}:
        before = await parts.project(project_id)
        known = {"git_url": before.git_url, "owner": before.owner, "repository": before.repository}
        await _inspect(parts, {**known, "api_url": before.api_url, "forge": before.forge, **_moved(fields)})
    project = await run_in_threadpool(parts.store.change, project_id, fields)
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


def _moved(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """A change of place: a new git address brings its own REST root, unless one is given."""
    return {"api_url": None, **fields} if "git_url" in fields else fields


async def _inspect(parts: HiveParts, fields: Mapping[str, Any]) -> None:
    """Refuse a repository that cannot be worked on.

    Raises:
        HTTPException: 422, naming what fails.
    """
    if parts.inspect is None or not fields.get("git_url"):
        return
    wrong = trouble(await parts.inspect(repository_of(fields)))
    if wrong:
        raise HTTPException(
            422, f"the repository cannot be worked on: {wrong} (to add it all the same: check=false)"
        )


def _checked(change: ProjectChange, forge_base_url: str | None) -> dict[str, Any]:
    fields = change.model_dump()
    try:
        if change.metadata and len(json.dumps(change.metadata, allow_nan=False)) > METADATA_BYTES_MAX:
            raise HTTPException(413, f"metadata: at most {METADATA_BYTES_MAX} bytes")
        return change_from(fields) if forge_base_url is None else draft_from(fields, forge_base_url)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None

"""Captured material: the predecessor's seven calls that bring it, and the search.

Each call may be repeated: the same item is one item, whether its content says so or an ``Idempotency-Key``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, HTTPException, Path, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import JsonValue, StringConstraints

from bzzz.hive.capture import Capture, CaptureKind, CaptureQuery, prepare
from bzzz.hive.capture_schema import (
    CaptureAnswer,
    CapturesAnswer,
    CoordinationItem,
    DiscussionItem,
    LoggedAnswer,
    PromptItem,
    SumsAnswer,
    WorkAnswer,
    WorkItem,
)
from bzzz.hive.capture_store import PAGE_ITEMS_MAX
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import Project
from bzzz.hive.schema import NUMBER_MAX, ErrorAnswer

PAGE_ITEMS = 50

router = APIRouter()

TOO_LARGE: Mapping[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "a field is missing, or the body is not JSON"},
    413: {"model": ErrorAnswer, "description": "too large, even with its long texts shortened"},
}
ANSWERS: dict[int | str, dict[str, Any]] = {**TOO_LARGE, 404: {"model": ErrorAnswer}}

ProjectIdIn = Annotated[int, Path(ge=1, le=NUMBER_MAX)]
KeyIn = Annotated[
    str,
    Header(alias="Idempotency-Key", max_length=200, description="the client's own name for this item"),
]
NameIn = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
IdIn = Annotated[int | None, Query(ge=0, le=NUMBER_MAX)]


@router.post("/api/bzzz/projects/{project_id}/submit-work", responses=ANSWERS)
async def submit_work(parts: PartsIn, project_id: ProjectIdIn, item: WorkItem, key: KeyIn = "") -> WorkAnswer:
    """Stores work that a client did; it publishes nothing, and grants and ends no claim."""
    project = await parts.project(project_id)
    capture_id, new = await store(parts, "submit-work", item.body(), project, key)
    return WorkAnswer(work_id=f"work_{capture_id}", message="the work is stored", new=new, capture_id=capture_id)


@router.post("/api/bzzz/projects/{project_id}/coordination-discussion", responses=ANSWERS)
async def coordination_discussion(
    parts: PartsIn, project_id: ProjectIdIn, item: DiscussionItem, key: KeyIn = ""
) -> LoggedAnswer:
    """Stores a discussion about a project."""
    project = await parts.project(project_id)
    return await _log(parts, "coordination-discussion", item.body(), project, key)


@router.post("/api/bzzz/projects/{project_id}/log-prompt", responses=ANSWERS)
async def log_prompt(parts: PartsIn, project_id: ProjectIdIn, item: PromptItem, key: KeyIn = "") -> LoggedAnswer:
    """Stores a prompt that an agent was given."""
    project = await parts.project(project_id)
    return await _log(parts, "log-prompt", item.body(), project, key)


@router.post("/api/bzzz/coordination-log", responses=dict(TOO_LARGE))
async def coordination_log(parts: PartsIn, item: CoordinationItem, key: KeyIn = "") -> LoggedAnswer:
    """Stores coordination beyond one project."""
    return await _log(parts, "coordination-log", item.body(), None, key)


@router.post("/api/bzzz/chat-log", responses=dict(TOO_LARGE))
async def chat_log(parts: PartsIn, item: Annotated[JsonValue, Body()], key: KeyIn = "") -> LoggedAnswer:
    """Stores whatever JSON a chat workflow sends."""
    return await _log(parts, "chat-log", item, None, key)


@router.post("/api/bzzz/antennae-log", responses=dict(TOO_LARGE))
async def antennae_log(parts: PartsIn, item: Annotated[JsonValue, Body()], key: KeyIn = "") -> LoggedAnswer:
    """Stores whatever JSON an Antennae workflow sends."""
    return await _log(parts, "antennae-log", item, None, key)


@router.get("/api/bzzz/captures", responses={404: {"model": ErrorAnswer}})
async def search(
    parts: PartsIn,
    *,
    project: Annotated[NameIn, Query(description="a project's name, OWNER/NAME or id")] = "",
    task: Annotated[int | None, Query(ge=1, le=NUMBER_MAX)] = None,
    agent: NameIn = "",
    model: NameIn = "",
    session: NameIn = "",
    kind: CaptureKind | None = None,
    since: Annotated[datetime | None, Query(description="from this time on")] = None,
    until: Annotated[datetime | None, Query(description="before this time")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = PAGE_ITEMS,
    before: IdIn = None,
    after: IdIn = None,
    bodies: bool = True,
) -> CapturesAnswer:
    """Items newest first, or with ``after`` oldest first; the sums are over everything that was found."""
    project_id, repository = await _place(parts, project)
    query = CaptureQuery(
        kind=kind or "",
        project_id=project_id,
        repository=repository,
        task_number=task,
        agent=agent,
        model=model,
        session=session,
        since=since,
        until=until,
        after=after,
        before=before,
    )
    captures = parts.store.captures
    found = await run_in_threadpool(captures.page, query, limit, bodies=bodies)
    sums = await run_in_threadpool(captures.sums, query)
    return CapturesAnswer(
        captures=[CaptureAnswer.of(one) for one in found],
        sums=SumsAnswer.of(sums),
        next=found[-1].id if found else None,
    )


async def store(
    parts: HiveParts, kind: CaptureKind, body: Any, project: Project | None, key: str
) -> tuple[int, bool]:
    """Prepare and store an item, in a thread: secrets are looked for in all of it.

    Raises:
        HTTPException: 413, it is too large; 422, it is no JSON.
    """
    return await parts.captures.put(await run_in_threadpool(_prepared, parts, kind, body, project, key))


def _prepared(parts: HiveParts, kind: CaptureKind, body: Any, project: Project | None, key: str) -> Capture:
    try:
        return prepare(
            kind,
            body,
            parts.redactor.fresh(),
            project_id=None if project is None else project.id,
            repository="" if project is None or project.problem else project.key,
            key=key,
        )
    except ValueError as error:
        status = 413 if "above" in str(error) else 422
        raise HTTPException(status, f"{kind}: {error}") from None


async def _log(parts: HiveParts, kind: CaptureKind, body: Any, project: Project | None, key: str) -> LoggedAnswer:
    capture_id, new = await store(parts, kind, body, project, key)
    return LoggedAnswer(new=new, capture_id=capture_id)


async def _place(parts: HiveParts, project: str) -> tuple[int | None, str]:
    """What to search for a project: its id, or the repository of one that may be gone."""
    if not project:
        return None, ""
    for known in await parts.projects():
        if project in {known.name, str(known.id)} or project.lower() == known.key.lower():
            return known.id, ""
    if "/" in project:
        return None, project
    if project.isascii() and project.isdigit() and int(project) <= NUMBER_MAX:
        return int(project), ""
    raise HTTPException(404, f"there is no project {project[:80]!r}; name it, or give OWNER/NAME")

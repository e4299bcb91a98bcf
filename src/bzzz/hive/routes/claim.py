"""``POST .../claim``: takes the claim ref for clients that cannot take it themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from bzzz.core.task import TaskId
from bzzz.errors import ServiceMissing
from bzzz.hive.board import carries
from bzzz.hive.claim import next_record
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import Project
from bzzz.hive.schema import NUMBER_MAX, ClaimAnswer, ClaimedAnswer, ClaimRequest, ErrorAnswer
from bzzz.hive.standing import taken

router = APIRouter()

ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer},
    404: {"model": ErrorAnswer},
    409: {"model": ClaimedAnswer | ErrorAnswer},
}


@router.post("/api/bzzz/projects/{project_id}/claim", responses=ANSWERS, response_model=ClaimAnswer)
async def claim(
    parts: PartsIn, project_id: Annotated[int, Path(ge=1, le=NUMBER_MAX)], wanted: ClaimRequest
) -> ClaimAnswer | JSONResponse:
    """One GET to make sure that the task is there and open, then the ref; 409 tells who holds it."""
    project = await parts.workable(project_id)
    repository = project.to_repository()
    task = TaskId(repository.key, wanted.task_number)
    await _check_open(parts, project, wanted.task_number)
    standing = await parts.ledger.read(repository, task.number)
    noted_s = int(parts.clock.wall_s())
    record = next_record(
        standing,
        task,
        wanted.agent_id,
        nonce=parts.new_nonce(),
        noted_at=datetime.fromtimestamp(noted_s, UTC).isoformat().replace("+00:00", "Z"),
        ttl_s=parts.settings.claim_ttl_s,
    )
    if record is None:
        assert standing is not None  # noqa: S101 - nothing standing can always be claimed
        return await taken(parts, repository, standing)
    # Before the swap: a claim that is taken and not remembered would only go stale, never be moved on.
    await run_in_threadpool(parts.store.reports.note_client, project.id, task.number, wanted.agent_id)
    result = await parts.ledger.swap(repository, None if standing is None else standing.version, record)
    if not result.won or result.standing is None:
        return await taken(parts, repository, result.standing)
    parts.announce(project)
    return ClaimAnswer(
        claim_id=str(result.standing.version),
        epoch=record.epoch,
        claimed_at=noted_s,
        holder=record.holder.peer,
    )


async def _check_open(parts: HiveParts, project: Project, number: int) -> None:
    repository = project.to_repository()
    try:
        issue = await parts.forge.read_issue(repository, number)
    except ServiceMissing as error:
        raise HTTPException(404, f"there is no issue {repository.key}#{number}: {error}") from None
    labels = project.labels(parts.settings.task_label)
    if issue.is_pull or not carries(issue, labels):
        raise HTTPException(
            404, f"{repository.key}#{number} is not a task: it lacks a label of {', '.join(labels)}"
        )
    if issue.state != "open":
        raise HTTPException(409, f"{repository.key}#{number} is {issue.state}")

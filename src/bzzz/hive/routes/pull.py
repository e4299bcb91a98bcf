"""``POST .../create-pr``: a pull request for a client that cannot open one itself, or a note of one that is there.

Hive opens one only for whoever holds the task through Hive, so that it publishes nothing for a claim that has moved
on; a node, which holds its claims itself, opens its own and tells of it here.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse

from bzzz.core.record import RecordState
from bzzz.core.task import Pull
from bzzz.errors import ServiceConflict, ServiceMissing
from bzzz.hive.capture_schema import PullAnswer, PullItem
from bzzz.hive.claim import PEER_PREFIX
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import Project
from bzzz.hive.routes.capture import ANSWERS, KeyIn, ProjectIdIn, store
from bzzz.hive.schema import NUMBER_MAX, ClaimedAnswer, ErrorAnswer
from bzzz.hive.standing import taken

router = APIRouter()

TITLE_CHARACTERS_MAX = 250
BODY_CHARACTERS_MAX = 60_000

PULL_ANSWERS: dict[int | str, dict[str, Any]] = {**ANSWERS, 409: {"model": ClaimedAnswer | ErrorAnswer}}
_NUMBER = re.compile(r"https?://[^\s]{1,400}/(\d{1,9})/?\Z")


@router.post("/api/bzzz/projects/{project_id}/create-pr", responses=PULL_ANSWERS, response_model=PullAnswer)
async def create_pr(
    parts: PartsIn, project_id: ProjectIdIn, item: PullItem, key: KeyIn = ""
) -> PullAnswer | JSONResponse:
    """Finds or opens the pull request of ``branch_name``, unless ``pr_url`` names it; and stores the item."""
    if item.pr_url:
        project = await parts.project(project_id)
        url, number = item.pr_url, item.pr_number or _number_of(item.pr_url)
        message = "the pull request is stored"
    else:
        project = await parts.workable(project_id)
        refused = await _refused(parts, project, item)
        if refused is not None:
            return refused
        opened = await _open(parts, project, item)
        url, number = opened.url, opened.number
        message = f"pull request #{number} is {opened.state}"
    body = {**item.body(), "pr_url": url, "pr_number": number}
    capture_id, new = await store(parts, "create-pr", body, project, key)
    return PullAnswer(pr_number=number, pr_url=url, message=message, new=new, capture_id=capture_id)


def _number_of(url: str) -> int:
    found = _NUMBER.match(url)
    if found is None or not 1 <= int(found[1]) <= NUMBER_MAX:
        raise HTTPException(422, "pr_url: an http or https address that ends in the number, or give pr_number")
    return int(found[1])


async def _refused(parts: HiveParts, project: Project, item: PullItem) -> JSONResponse | None:
    """Why Hive opens nothing: the task is not this agent's."""
    if not item.branch_name:
        raise HTTPException(422, "branch_name: name the branch that was pushed, or pr_url")
    repository = project.to_repository()
    standing = await parts.ledger.read(repository, item.task_number)
    if standing is None:
        detail = f"{repository.key}#{item.task_number} is nobody's: claim it first"
        raise HTTPException(409, detail)
    record = standing.record
    holds = record.state in {RecordState.HELD, RecordState.DELIVERED}
    if holds and record.holder.peer == PEER_PREFIX + item.agent_id:
        return None
    return await taken(parts, repository, standing)


async def _open(parts: HiveParts, project: Project, item: PullItem) -> Pull:
    closes = f"Closes #{item.task_number}"
    body = parts.redactor.fresh().text(item.description[:BODY_CHARACTERS_MAX])
    if closes.lower() not in body.lower():
        body = f"{body}\n\n{closes}".strip()
    title = " ".join(parts.redactor.fresh().text(item.title).split())[:TITLE_CHARACTERS_MAX]
    try:
        return await parts.forge.open_pull(
            project.to_repository(),
            branch=item.branch_name,
            base=project.branch,
            title=title or f"Task #{item.task_number}",
            body=body,
        )
    except (ServiceConflict, ServiceMissing) as error:
        raise HTTPException(409, f"the pull request was not opened: {error}") from None

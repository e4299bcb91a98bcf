"""``PUT .../status``: what became of a task. The same report twice is one report.

A report is stored first; then a claim that Hive took for that client is moved on (see ``settle``).
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from bzzz.hive.part import PartsIn
from bzzz.hive.report_store import NewReport
from bzzz.hive.schema import NUMBER_MAX, ErrorAnswer, StatusAnswer, StatusRequest
from bzzz.hive.setting import METADATA_BYTES_MAX
from bzzz.hive.settle import Told, settle

router = APIRouter()


@router.put(
    "/api/bzzz/projects/{project_id}/status", responses={404: {"model": ErrorAnswer}, 413: {"model": ErrorAnswer}}
)
async def status(
    parts: PartsIn, project_id: Annotated[int, Path(ge=1, le=NUMBER_MAX)], report: StatusRequest
) -> StatusAnswer:
    """Stores the report. It moves no claim but one that Hive took for this client."""
    try:
        details = parts.redactor.fresh().value(report.details())
        size_bytes = len(json.dumps(details, allow_nan=False))
    except ValueError as error:
        raise HTTPException(422, f"metadata: {error}") from None
    if size_bytes > METADATA_BYTES_MAX:
        raise HTTPException(413, f"metadata: {size_bytes} bytes are above {METADATA_BYTES_MAX}")
    stored = await parts.reports.put(NewReport(project_id, report.task_number, report.status, details))
    if stored.new is None:
        raise HTTPException(404, f"there is no project {project_id}")
    if not stored.clients:
        return StatusAnswer(new=stored.new)
    project = await parts.project(project_id)
    told = Told(report.task_number, report.status, details, report.agent())
    return StatusAnswer(new=stored.new, claim=await settle(parts, project, told, stored.clients))

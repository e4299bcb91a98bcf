"""What a client is told of a claim that stands in its way: who has it, and since when."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from bzzz.core.record import Observation
from bzzz.core.task import Repository
from bzzz.errors import BzzzError
from bzzz.hive.claim import held_since
from bzzz.hive.part import HiveParts
from bzzz.hive.schema import ClaimedAnswer


async def taken(parts: HiveParts, repository: Repository, standing: Observation | None) -> JSONResponse:
    """The 409 for a claim that is somebody's; ``standing`` is ``None`` where it could not be read."""
    if standing is None:
        detail = "another claim came first, and could not be read; ask again"
        nobody = {"error": "already_claimed", "detail": detail, "claimed_by": "", "claimed_at": None}
        return JSONResponse({**nobody, "state": "", "epoch": 0}, 409)
    record = standing.record
    try:
        history = list(await parts.ledger.history(repository, record.task.number))
    except BzzzError:
        history = []  # only the time is lost
    answer = ClaimedAnswer(
        error="already_claimed",
        detail=f"{record.task} is {record.state.value} by {record.holder.agent} (epoch {record.epoch})",
        claimed_by=record.holder.agent,
        claimed_at=held_since(standing, history),
        state=record.state.value,
        epoch=record.epoch,
    )
    return JSONResponse(answer.model_dump(), 409)

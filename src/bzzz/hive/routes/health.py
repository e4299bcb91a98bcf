"""``GET /health``: whether Hive is up; open to everyone, so that a load balancer can ask."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from bzzz import __version__
from bzzz.hive.part import PartsIn
from bzzz.hive.schema import HealthAnswer

router = APIRouter()


@router.get("/health")
async def health(parts: PartsIn) -> HealthAnswer:
    """Answers 200 as long as the process serves; ``degraded`` means that the database does not."""
    try:
        await run_in_threadpool(parts.store.ping)
        status = "healthy"
    except SQLAlchemyError:
        status = "degraded"
    now = datetime.fromtimestamp(parts.clock.wall_s(), UTC)
    return HealthAnswer.model_validate(
        {
            "status": status,
            "service": "hive",
            "timestamp": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "version": __version__,
            "counters": {
                **parts.changes.counters(),
                **parts.board.counters(),
                **parts.store.captures.counters(),
                **parts.reports.counters(),
                **parts.captures.counters(),
                **parts.refusals,
            },
        }
    )

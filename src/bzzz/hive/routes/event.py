"""``GET /api/bzzz/events``: changes, pushed to the nodes as server-sent events.

The first event, ``ready``, says that from now on no change is missed. Each ``change`` names a repository;
an empty name means that anything may have changed. Comments keep the connection alive (every 15 s).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent

from bzzz.hive.part import PartsIn
from bzzz.hive.schema import ErrorAnswer

router = APIRouter()


async def _admit(parts: PartsIn) -> None:
    if parts.changes.full:
        parts.changes.refuse()
        raise HTTPException(503, "too many nodes listen already; poll instead", {"Retry-After": "60"})


@router.get(
    "/api/bzzz/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_admit)],
    responses={503: {"model": ErrorAnswer}},
)
async def events(parts: PartsIn) -> AsyncIterator[ServerSentEvent]:
    """Stream changes until the client leaves or Hive stops."""
    with parts.changes.subscribe() as subscription:
        yield ServerSentEvent(event="ready", data={})
        async for repository in subscription:
            yield ServerSentEvent(event="change", data={"repository": repository})

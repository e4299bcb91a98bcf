"""``POST /api/bzzz/webhooks/github`` and ``/gitea``: a forge says that something happened, and nodes are woken.

A webhook only wakes; what happened is read from the forge. It has no API key: its signature is its key. Only
the body is signed, so it is the body, and not the delivery's id, that must not come twice; the last
``DELIVERIES_REMEMBERED_MAX`` are remembered, and one older than those can do no more than wake a node.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from bzzz.hive.access import (
    GITEA_SIGNATURE_HEADER,
    SIGNATURE_HEADER,
    gitea_signature_matches,
    signature_matches,
)
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.schema import ErrorAnswer, WebhookAnswer

PATH = "/api/bzzz/webhooks/github"
GITEA_PATH = "/api/bzzz/webhooks/gitea"

router = APIRouter()

ANSWERS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": meaning}
    for code, meaning in {
        400: "not a webhook's JSON",
        403: "no secret is set, or the signature is wrong",
        409: "taken before",
        413: "too large",
    }.items()
}


@router.post(PATH, status_code=202, responses=ANSWERS)
async def github(parts: PartsIn, request: Request) -> WebhookAnswer:
    """Takes GitHub's webhook, and the embedded forge's, which is the same."""
    return await _take(parts, request, "x-github-event", SIGNATURE_HEADER, signature_matches)


@router.post(GITEA_PATH, status_code=202, responses=ANSWERS)
async def gitea(parts: PartsIn, request: Request) -> WebhookAnswer:
    """Takes Gitea's webhook, and Forgejo's, which is the same."""
    return await _take(parts, request, "x-gitea-event", GITEA_SIGNATURE_HEADER, gitea_signature_matches)


async def _take(
    parts: HiveParts, request: Request, event_header: str, header: str, matches: Callable[[str, bytes, str], bool]
) -> WebhookAnswer:
    if parts.webhook_secret is None:
        raise HTTPException(403, "webhooks are off: set hive.webhook_secret_file")
    body = await request.body()
    if not matches(parts.webhook_secret, body, request.headers.get(header, "")):
        raise HTTPException(403, f"{header} is missing or does not fit; is the secret the same there?")
    event = request.headers.get(event_header, "")
    key = _repository_of(body)
    if not await run_in_threadpool(parts.store.take_delivery, hashlib.sha256(event.encode() + body).hexdigest()):
        raise HTTPException(409, "this delivery was taken before")
    if event == "ping" or not key:
        return WebhookAnswer(repository=None)
    for project in await parts.projects():
        if project.active and project.key.lower() == key.lower():
            parts.announce(project)
            return WebhookAnswer(repository=project.key)
    return WebhookAnswer(repository=None)


def _repository_of(body: bytes) -> str:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON; choose the content type application/json there") from None
    repository = payload.get("repository") if isinstance(payload, dict) else None
    name = repository.get("full_name") if isinstance(repository, dict) else None
    return name if isinstance(name, str) else ""

"""Tells a webhook (n8n and the like) that a person is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from bzzz.errors import ServiceFaulty, ServiceUnavailable

HOOK_TIMEOUT_S = 10.0


class EscalationHook:
    """Posts each escalation as JSON; the outbox repeats it until it arrived.

    Args:
        url: where to; an empty one does nothing.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, escalation: Mapping[str, Any]) -> None:
        """Send one.

        Raises:
            ServiceUnavailable: no answer.
            ServiceFaulty: any answer but success; the hook is the operator's, so it is worth repeating.
        """
        if not self._url:
            return
        host = urlsplit(self._url).hostname  # the rest of a webhook's address may be secret
        content = json.dumps(dict(escalation), default=str).encode()
        try:
            async with httpx.AsyncClient(timeout=HOOK_TIMEOUT_S) as client:
                answer = await client.post(self._url, content=content, headers={"Content-Type": "application/json"})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceUnavailable(f"escalation webhook {host}", "POST", type(error).__name__) from None
        if not answer.is_success:
            raise ServiceFaulty(f"escalation webhook {host}", "POST", status=answer.status_code)

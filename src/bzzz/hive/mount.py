"""An application mounted in Hive (the embedded forge), with its own start and stop.

A mount routes requests but not ASGI's lifespan, so a mounted application would never be told to start or to
stop. ``Guest`` speaks the lifespan protocol to it (asgi.readthedocs.io, "Lifespan Protocol") and hands its
state on to its requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bzzz.errors import UsageError


class Guest:
    """One mounted application."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        self._path = path
        self._app = app
        self._state: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, in ASGI's terms."""
        await self._app({**scope, "state": dict(self._state)}, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start it, and stop it at the end.

        Raises:
            UsageError: it says that it cannot start.
        """
        inbox: asyncio.Queue[Message] = asyncio.Queue()
        outbox: asyncio.Queue[Message] = asyncio.Queue()
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }

        async def speak() -> None:
            await self._app(scope, inbox.get, outbox.put)

        life = asyncio.create_task(speak(), name=f"lifespan of {self._path}")
        try:
            await inbox.put({"type": "lifespan.startup"})
            started = await self._next(life, outbox)
            if started is not None and started["type"] == "lifespan.startup.failed":
                last = (started.get("message") or "").strip().splitlines()[-1:]
                raise UsageError(f"what is mounted at {self._path} cannot start: {''.join(last)}")
            yield
            if started is not None:
                await inbox.put({"type": "lifespan.shutdown"})
                await self._next(life, outbox)
        finally:
            if not life.done():
                await asyncio.wait({life}, timeout=1.0)
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    @staticmethod
    async def _next(life: asyncio.Task[None], outbox: asyncio.Queue[Message]) -> Message | None:
        """Its next message; ``None`` where it ended, or raised because it knows no lifespan."""
        answer = asyncio.create_task(outbox.get())
        await asyncio.wait({life, answer}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None if outbox.empty() else outbox.get_nowait()

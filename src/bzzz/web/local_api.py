"""The local HTTP API: read-only, on loopback, for the CLI, the monitor and whoever likes JSON.

========================  =====================================================
``GET /status``           this node
``GET /peers``            the others
``GET /tasks``            tasks, claims and pull requests
``GET /events``           a live stream of events (server-sent events), ``?after=ID`` to go on after one
``GET /events/history``   the events kept, as JSON
========================  =====================================================

A page in a browser must not read this by a name of its own that points at loopback (DNS rebinding), so
only requests to loopback's own names are answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bzzz.ports import Journal, Transport
from bzzz.runtime.node import Node
from bzzz.web.status import node_status, peers_status, tasks_status

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def create_local_api(node: Node, transport: Transport, journal: Journal) -> Starlette:
    """The ASGI app over a running node."""

    async def status(_: Request) -> Response:
        return JSONResponse(node_status(node, transport, journal.outbox_length()))

    async def peers(_: Request) -> Response:
        return JSONResponse({"peers": peers_status(node, transport)})

    async def tasks(_: Request) -> Response:
        return JSONResponse({"tasks": tasks_status(node)})

    async def history(request: Request) -> Response:
        return JSONResponse({"events": list(node.events.history(_after(request)))})

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            async for event in node.events.follow(_after(request)):
                yield f"id: {event['id']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    routes: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/status", status),
        ("/peers", peers),
        ("/tasks", tasks),
        ("/events/history", history),
        ("/events", events),
    ]
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes])
    app.add_middleware(_LoopbackOnly)
    return app


class _LoopbackOnly:
    """Refuses requests that were made to another name than loopback's."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if name not in LOOPBACK_NAMES:
                detail = "this interface answers to loopback names only"
                await JSONResponse({"error": "forbidden", "detail": detail}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _after(request: Request) -> int:
    text = request.query_params.get("after", "") or request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0

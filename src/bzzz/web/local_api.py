"""The local HTTP API: read-only, on loopback, for the CLI, the monitor and whoever likes JSON.

========================  =====================================================
``GET /status``           this node
``GET /peers``            the others
``GET /tasks``            tasks, claims and pull requests
``GET /events``           a live stream of events (server-sent events), ``?after=ID`` to go on after one
``GET /events/history``   the events kept, as JSON
========================  =====================================================

A page in a browser must not read this by a name of its own that points at loopback (DNS rebinding), so
only requests to loopback's own names are answered. A node that is ending answers 503.
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

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
STREAMS_MAX = 64


class PlainJson(JSONResponse):
    """JSON in ASCII: what forges and peers wrote may hold half a character, which UTF-8 cannot carry."""

    def render(self, content: Any) -> bytes:
        """Any text, and nothing that is no JSON."""
        return _json(content).encode()


def create_local_api(node: Node, transport: Transport, journal: Journal) -> Starlette:
    """The ASGI app over a running node."""

    async def status(_: Request) -> Response:
        return PlainJson(node_status(node, transport, journal.outbox_length()))

    async def peers(_: Request) -> Response:
        return PlainJson({"peers": peers_status(node, transport)})

    async def tasks(_: Request) -> Response:
        return PlainJson({"tasks": tasks_status(node)})

    async def history(request: Request) -> Response:
        return PlainJson({"events": list(node.events.history(_after(request)))})

    streams = 0

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                async for event in node.events.follow(_after(request)):
                    yield f"id: {event['id']}\nevent: {event['kind']}\ndata: {_json(event)}\n\n"
            finally:
                streams -= 1

        if streams >= STREAMS_MAX:
            detail = f"{STREAMS_MAX} streams are open already; close one"
            return PlainJson({"error": "too many streams", "detail": detail}, 503)
        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    routes: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/status", status),
        ("/peers", peers),
        ("/tasks", tasks),
        ("/events/history", history),
        ("/events", events),
    ]
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes])
    app.add_middleware(_Gate, node=node)
    return app


class _Gate:
    """Refuses requests that were made to another name than loopback's, and all once the node has ended."""

    def __init__(self, app: Any, node: Node) -> None:
        self._app = app
        self._node = node

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
            refusal = None
            if not hosts or not all(_is_loopback(host) for host in hosts):
                detail = "this interface answers to loopback names only"
                refusal = PlainJson({"error": "forbidden", "detail": detail}, 403)
            elif self._node.closed:
                refusal = PlainJson({"error": "stopping", "detail": "this node is ending"}, 503)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return (name if port.isascii() and port.isdigit() else host).lower() in LOOPBACK_NAMES


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), default=str)


def _after(request: Request) -> int:
    text = request.query_params.get("after", "") or request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0

"""The uvicorn server that Hive runs in: as usual, but event streams end when it stops.

uvicorn waits for open connections before it tells an application to stop, and a node keeps its event stream
open for ever: so the streams are ended first.
"""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from bzzz.hive.part import HiveParts
from bzzz.hive.setting import HiveSettings


class HiveServer(uvicorn.Server):
    """Serves an application made by ``create_hive``.

    Args:
        app: the application.
        settings: where to listen (unless sockets are given to ``serve``), and how long a stop may take.
    """

    def __init__(self, app: FastAPI, settings: HiveSettings) -> None:
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            # Longer than nodes are silent: a report must not cost a connection.
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_s_max)),
        )
        super().__init__(config)
        self._parts: HiveParts = app.state.hive

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then stop as uvicorn does."""
        self._parts.changes.close()
        await super().shutdown(sockets)

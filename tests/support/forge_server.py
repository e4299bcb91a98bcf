"""An embedded forge on a free loopback port, for tests of everything that needs a real forge."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn

from bzzz.core.task import Repository
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, create_forge


@dataclass(frozen=True)
class ForgeServer:
    """A running forge: where it is, and an admin token of the login ``bzzz``."""

    base_url: str
    api_url: str
    token: str
    forge: EmbeddedForge

    def git_url(self, owner: str, name: str) -> str:
        """Where git clones a repository from, with the token in it."""
        scheme, _, rest = self.base_url.partition("://")
        return f"{scheme}://bzzz:{self.token}@{rest}/{owner}/{name}.git"

    def repository(self, owner: str = "hive", name: str = "demo", **files: str) -> Repository:
        """Make a repository with a first commit, as Hive would tell it."""
        info = self.forge.create_repository(owner, name, files=files or {"README.md": f"# {name}\n"})
        return Repository(1, f"{owner}/{name}", owner, name, info.git_url, info.api_url)


@contextmanager
def serve(app: Any) -> Iterator[int]:
    """Serve an ASGI app on a free loopback port in a thread; gives the port."""
    with listening() as (listener, port), serve_on(app, listener):
        yield port


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """A bound socket, so that an app may know its port before it is made.

    asyncio turns Nagle's delay off only for sockets that name TCP as their protocol: without it, each answer
    takes 44 ms.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        yield listener, listener.getsockname()[1]


@contextmanager
def serve_on(app: Any, listener: socket.socket) -> Iterator[None]:
    """Serve an ASGI app on a bound socket in a thread."""
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, ws="none", loop="asyncio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not started.wait(10):
            raise RuntimeError("the test server did not start")
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def running_forge(data_dir: Path, **settings: Any) -> Iterator[ForgeServer]:
    """Start an embedded forge over ``data_dir``; ``settings`` are those of ``EmbeddedForgeSettings``."""
    with listening() as (listener, port):
        chosen = replace(EmbeddedForgeSettings(data_dir, f"http://127.0.0.1:{port}"), **settings)
        app = create_forge(chosen)
        forge: EmbeddedForge = app.state.forge
        try:
            with serve_on(app, listener):
                yield ForgeServer(chosen.base_url, chosen.api_url, forge.create_token(scope="admin"), forge)
        finally:
            forge.close()

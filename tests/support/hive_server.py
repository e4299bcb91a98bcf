"""A Hive on a free loopback port, in the test's own event loop, over a forge and a ledger in memory.

For every test that needs a Hive: ``async with running_hive(tmp_path) as hive`` and then ``hive.url``. The forge and
the ledger can be exchanged for real ones.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp
from tests.support.hive_world import SmallForge, SmallLedger

from bzzz.core.task import TaskType
from bzzz.hive.app import create_hive
from bzzz.hive.part import HiveParts, Inspector
from bzzz.hive.project import Project, draft_from
from bzzz.hive.scenario.director import Director
from bzzz.hive.server import HiveServer
from bzzz.hive.setting import HiveSettings
from bzzz.ports import Forge, Ledger


class RealClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_s(self) -> float:
        return time.time()


def classify(labels: Sequence[str], title: str, body: str) -> TaskType:
    """Stands for the product's classifier where a test does not care."""
    return TaskType.BUG if "bug" in labels or "bug" in title.lower() + body.lower() else TaskType.GENERAL


@dataclass(frozen=True)
class RunningHive:
    """One Hive that serves."""

    url: str
    parts: HiveParts
    server: HiveServer
    serving: asyncio.Task[None]
    forge: SmallForge
    ledger: SmallLedger

    def add_project(self, name: str = "shop", repository: str = "acme/shop", **fields: Any) -> int:
        """Put a project into the database; gives its id."""
        draft = {"name": name, "git_url": f"http://forge.test/{repository}.git", **fields}
        return self.parts.store.add(draft_from(draft, "")).id

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """A plain HTTP client of this Hive; close it."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False)

    async def stop(self) -> None:
        """Stop it as a signal would."""
        self.server.should_exit = True
        await self.serving


def free_socket(host: str = "127.0.0.1") -> socket.socket:
    """A bound socket on a port that nobody else has; see ``compose_hive`` for why it names its protocol."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, 0))
    return listening


@asynccontextmanager
async def running_hive(
    folder: Path,
    *,
    forge: Forge | None = None,
    ledger: Ledger | None = None,
    mounts: Mapping[str, ASGIApp] | None = None,
    listening: socket.socket | None = None,
    adopt: Callable[[Project], None] | None = None,
    inspect: Inspector | None = None,
    director: Director | None = None,
    **settings: Any,
) -> AsyncIterator[RunningHive]:
    """Serve a Hive while the context lasts; ``settings`` are those of ``HiveSettings``."""
    small_forge, small_ledger = SmallForge(), SmallLedger()
    listening = listening or free_socket()
    host, port = listening.getsockname()
    defaults = HiveSettings(
        data_dir=folder, host=host, port=port, listing_ttl_s=0.0, claims_ttl_s=0.0, page_stale_s_max=0.0
    )
    app = create_hive(
        replace(defaults, **settings),
        forge=forge or small_forge,
        ledger=ledger or small_ledger,
        clock=RealClock(),
        classify=classify,
        mounts=mounts,
        adopt=adopt,
        inspect=inspect,
        director=director,
    )
    server = HiveServer(app, app.state.hive.settings)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            if serving.done():
                serving.result()
                raise RuntimeError("the Hive ended before it served")
            await asyncio.sleep(0.002)
        yield RunningHive(f"http://{host}:{port}", app.state.hive, server, serving, small_forge, small_ledger)
    finally:
        server.should_exit = True
        await serving

"""Hive's server application, put together: store, board, change hub, routes, access gate and guests.

``create_hive`` takes its forge and ledger as ports and what to mount as ASGI applications, so it knows no
adapter. It opens and upgrades the database at once, which fails in one clear line before anything listens.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from bzzz import __version__
from bzzz.hive.access import Gate, host_of
from bzzz.hive.batch import Batch
from bzzz.hive.board import Classifier, TaskBoard
from bzzz.hive.change import ChangeHub
from bzzz.hive.failure import FAILURES, install
from bzzz.hive.keyring import Keyring
from bzzz.hive.mount import Guest
from bzzz.hive.part import HiveParts, Inspector
from bzzz.hive.project import Project
from bzzz.hive.rate import RateLimit
from bzzz.hive.redact import Redactor
from bzzz.hive.rendered import RepositoryPage, TaskPages
from bzzz.hive.routes import capture, claim, event, health, page, pull, repository, status, webhook
from bzzz.hive.routes import key as key_routes
from bzzz.hive.routes import project as project_routes
from bzzz.hive.routes import scenario as scenario_routes
from bzzz.hive.scenario.director import Director
from bzzz.hive.scenario.fault import FaultGate
from bzzz.hive.setting import REQUEST_BYTES_MAX, HiveSettings, read_keys, read_secret
from bzzz.hive.store import HiveStore
from bzzz.ports import Clock, Forge, Ledger

NONCE_BYTES = 16

_LOG = logging.getLogger("bzzz.hive")


def _new_nonce() -> str:
    return secrets.token_hex(NONCE_BYTES)


def create_hive(
    settings: HiveSettings,
    *,
    forge: Forge,
    ledger: Ledger,
    clock: Clock,
    classify: Classifier,
    mounts: Mapping[str, ASGIApp] | None = None,
    new_nonce: Callable[[], str] = _new_nonce,
    adopt: Callable[[Project], None] | None = None,
    secret_values: Sequence[str] = (),
    inspect: Inspector | None = None,
    director: Director | None = None,
) -> FastAPI:
    """The application of one Hive; serve it with ``bzzz.hive.server.HiveServer``.

    The forge and the ledger stay the caller's: they are not closed here. ``app.state.hive`` is a
    ``HiveParts``, whose ``changes.publish`` tells the nodes of a change that somebody else noticed.

    Args:
        settings: where, for whom, and with which bounds.
        forge: reads issues.
        ledger: reads and takes claims.
        clock: ages and the times people read.
        classify: the product's classifier of tasks.
        mounts: path to application, ``{"/forge": app}``; started and stopped with Hive, with access rules
            of their own.
        new_nonce: makes the nonce of a claim record.
        adopt: called in a thread with each project that is there at the start, or is added or changed later,
            to prepare it on a forge of ours (its webhook).
        secret_values: other secrets of this Hive (forge tokens), to be taken out of what is stored.
        inspect: looks at the repository of a project that is added or moved; ``None`` believes whoever adds it.
        director: plays a scenario while the application runs; its faults befall every call.

    Raises:
        SettingError: a secret's file or the database URL is wrong.
        UsageError: the database cannot be opened or upgraded.
    """
    keys = read_keys(settings.key_file)
    webhook_secret = read_secret(settings.webhook_secret_file, "hive.webhook_secret_file")
    store = HiveStore(settings.database, clock, settings.captures_max)
    if not keys and not store.keys.any():
        _LOG.warning("no API key is set: only clients on this machine are served; make one: bzzz hive key create")
    board = TaskBoard(forge, ledger, classify, clock, settings)
    parts = HiveParts(
        settings=settings,
        store=store,
        board=board,
        changes=ChangeHub(subscribers_max=settings.subscribers_max, pending_max=settings.pending_changes_max),
        forge=forge,
        ledger=ledger,
        clock=clock,
        new_nonce=new_nonce,
        webhook_secret=webhook_secret,
        redactor=Redactor([*keys, webhook_secret or "", *secret_values]),
        keyring=Keyring(store.keys, clock, keys),
        refusals=Counter(),
        reports=Batch("reports", store.reports.add_many),
        captures=Batch("captures", store.captures.add_many),
        task_pages=TaskPages(board, store.reports, clock, settings),
        repository_page=RepositoryPage(),
        adopt=adopt,
        inspect=inspect,
        director=director,
    )
    guests = {path: Guest(path, app) for path, app in (mounts or {}).items()}
    app = FastAPI(
        title="Bzzz Hive",
        version=__version__,
        summary="Which repositories agents may work on, and what became of their tasks",
        lifespan=_lifespan(parts, guests),
        redoc_url=None,
    )
    app.state.hive = parts
    for path, guest in guests.items():
        app.mount(path, guest)
    app.include_router(_routes())
    app.add_middleware(
        Gate,
        keyring=parts.keyring,
        clock=clock,
        rate=RateLimit(settings.rate_per_s, settings.rate_burst),
        wrong_rate=RateLimit(settings.wrong_rate_per_s, settings.wrong_rate_burst),
        counts=parts.refusals,
        own_hosts=frozenset({host_of(settings.public_url)}) - {""},
        open_paths=frozenset({"/health", webhook.PATH, webhook.GITEA_PATH}),
        open_prefixes=tuple(guests),
    )
    if director is not None:
        app.add_middleware(FaultGate, box=director.box, forge_prefix=next(iter(guests), "/forge"))
    install(app)
    return app


def _routes() -> APIRouter:
    everything = APIRouter(max_body_size=REQUEST_BYTES_MAX, responses=dict(FAILURES))
    for module in (
        health,
        repository,
        claim,
        status,
        project_routes,
        capture,
        pull,
        key_routes,
        scenario_routes,
        webhook,
        event,
        page,
    ):
        everything.include_router(module.router)
    return everything


def _lifespan(parts: HiveParts, guests: Mapping[str, Guest]) -> Any:
    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(run_in_threadpool, parts.store.close)
            stack.push_async_callback(parts.keyring.close)
            stack.push_async_callback(parts.captures.close)
            stack.push_async_callback(parts.reports.close)
            stack.push_async_callback(parts.task_pages.close)
            stack.push_async_callback(parts.board.close)
            stack.callback(parts.changes.close)
            for guest in guests.values():
                await stack.enter_async_context(guest.running())
            for known in await run_in_threadpool(parts.store.projects, active_only=True):
                await parts.welcome(known)
            if parts.director is not None:
                playing = asyncio.create_task(parts.director.run(parts), name="hive scenario")
                stack.push_async_callback(_end, playing)
            yield

    return running


async def _end(playing: asyncio.Task[None]) -> None:
    playing.cancel()
    results = await asyncio.gather(playing, return_exceptions=True)
    if isinstance(results[0], Exception):
        _LOG.error("the scenario ended early: %r", results[0])

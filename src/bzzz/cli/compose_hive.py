"""The composition root of a Hive: its forge and ledger clients, and the embedded forge that it mounts.

The embedded forge is treated as any other forge: it is reached over HTTP with a token, and its webhooks are
real ones. Only who hands out that token and who sets those webhooks is settled here, so that a Hive works
without anything being configured.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from bzzz.core.capability import task_type
from bzzz.core.task import Repository
from bzzz.errors import SettingError, UsageError
from bzzz.forge.client import GitHubForge
from bzzz.forge.embedded import EmbeddedForgeSettings, create_forge
from bzzz.hive.app import create_hive
from bzzz.hive.inspection import inspect_repository
from bzzz.hive.log import install_log
from bzzz.hive.project import Project
from bzzz.hive.routes.webhook import PATH as WEBHOOK_PATH
from bzzz.hive.scenario.director import Director
from bzzz.hive.scenario.fault import FaultBox
from bzzz.hive.scenario.script import Scenario
from bzzz.hive.server import HiveServer
from bzzz.hive.setting import HiveSettings, password_of, read_keys, read_secret
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.runtime.clock import SystemClock

FORGE_PATH = "/forge"
LISTEN_BACKLOG = 512
GARBAGE_LOOKS = (2_000, 10, 200)
"""After so many new objects a look for garbage among them, after so many looks one at what they left, and after so
many of those one at everything. Answers wait for each look, about a microsecond an object: short looks harm nobody,
and with thousands of tasks in memory a look at everything has to be rare. Only cycles need looking for."""
THREAD_TURN_S = 0.001
"""How long a thread may keep the interpreter while others want it. Answers are made in one thread, what it waits
for in others: with Python's own 5 ms, each change of threads on a busy machine could take that long."""
HOOK_EVENTS = ("issues", "issue_comment", "pull_request", "push")
GITHUB_API_URL = "https://api.github.com"
GITHUB_URL = "https://github.com"


@dataclass(frozen=True, slots=True)
class Play:
    """A scenario to be played, and how much faster than it is written."""

    scenario: Scenario
    speed: float = 1.0


async def serve_hive(settings: HiveSettings, github_token: str | None, play: Play | None = None) -> None:
    """Join a Hive with its adapters, and serve until a signal comes; see ``bzzz.cli.hive.serve``."""
    listening = _listen(settings)
    clock = SystemClock()
    forge_url = settings.public_url + FORGE_PATH
    settings = replace(
        settings,
        forge_base_url=forge_url,
        webhook_secret_file=settings.webhook_secret_file
        or _kept(settings.data_dir / "webhook.secret", lambda: secrets.token_hex(32)),
    )
    forge_settings = EmbeddedForgeSettings(data_dir=settings.data_dir / "forge", base_url=forge_url)
    forge_app = create_forge(forge_settings)
    token_file = _kept(
        settings.data_dir / "forge.token",
        lambda: str(forge_app.state.forge.create_token("hive", scope="write", label="Hive")),
    )
    forge_token = read_secret(token_file, "the embedded forge's token")
    secret_values = [secret for secret in (forge_token, github_token, password_of(settings.database)) if secret]
    install_log([*secret_values, *read_keys(settings.key_file), _webhook_secret(settings) or ""])

    def token_for(repository: Repository) -> str | None:
        if belongs(repository, GITHUB_API_URL, GITHUB_URL):
            return github_token
        return forge_token if belongs(repository, forge_settings.api_url, forge_url) else None

    def adopt(project: Project) -> None:
        if project.api_url == forge_settings.api_url:
            secret = _webhook_secret(settings)
            url = settings.public_url + WEBHOOK_PATH
            forge_app.state.forge.ensure_hook(project.owner, project.repository, url, secret, HOOK_EVENTS)

    director = None
    if play is not None:
        director = Director(play.scenario, forge_app.state.forge, FaultBox(clock), speed=play.speed)
    forge = GitHubForge(token_for, clock)
    ledger = GitRefLedger(token_for)
    try:
        hive = create_hive(
            settings,
            forge=forge,
            ledger=ledger,
            clock=clock,
            classify=task_type,
            mounts={FORGE_PATH: forge_app},
            adopt=adopt,
            secret_values=secret_values,
            director=director,
            inspect=lambda repository: inspect_repository(repository, token_for(repository)),
        )
        typer.echo(f"Hive serves at {settings.public_url}, its forge at {forge_url}")
        if play is not None:
            typer.echo(f"It plays the scenario {play.scenario.name!r}: {play.scenario.about}")
        # What is there by now stays; it is never looked at for garbage again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_LOOKS)
        sys.setswitchinterval(THREAD_TURN_S)
        await HiveServer(hive, settings).serve(sockets=[listening])
    finally:
        await forge.close()
        await ledger.close()


def belongs(repository: Repository, api_url: str, git_root: str) -> bool:
    """Whether a repository is of one forge by both of its addresses, so that its token goes nowhere else.

    Whoever may add a project names both; a token chosen by one of them would be sent to the other.
    """
    return repository.api_url == api_url and repository.git_url.startswith(git_root + "/")


def _webhook_secret(settings: HiveSettings) -> str | None:
    return read_secret(settings.webhook_secret_file, "hive.webhook_secret_file")


def _listen(settings: HiveSettings) -> socket.socket:
    if not settings.base_url and _is_everywhere(settings.host):
        allowed = "with it, --base-url says how nodes reach this Hive: http://NAME:PORT"
        raise SettingError("hive serve", "--host", settings.host, allowed)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's delay off; without, each answer can take 40 ms more.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(LISTEN_BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        place, reason = f"{settings.host}:{settings.port}", error.strerror or error
        raise UsageError(f"Hive cannot listen on {place}: {reason}; choose another --port") from None


def _is_everywhere(host: str) -> bool:
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _kept(path: Path, make: Callable[[], str]) -> Path:
    """A file with a secret of this Hive's own; made once, for this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(make() + "\n")
    return path

"""The composition root of a Hive: its forge and ledger clients, and the embedded forge that it mounts.

The embedded forge is treated as any other forge: it is reached over HTTP with a token, and its webhooks are
real ones. Only who hands out that token and who sets those webhooks is settled here, so that a Hive works
without anything being configured.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from pathlib import Path

from bzzz.cli.token import GITHUB_HOSTS
from bzzz.core.capability import task_type
from bzzz.core.task import Repository
from bzzz.errors import UsageError
from bzzz.forge.client import GitHubForge
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, create_forge
from bzzz.hive.app import create_hive
from bzzz.hive.routes.webhook import PATH as WEBHOOK_PATH
from bzzz.hive.server import HiveServer
from bzzz.hive.setting import HiveSettings
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.runtime.clock import SystemClock

FORGE_PATH = "/forge"
OWN_LABEL = "this Hive"
HOOK_EVENTS = ("issues", "issue_comment", "pull_request", "push")
HOOK_CHECK_S = 2.0


async def serve_hive(settings: HiveSettings, github_token: str | None) -> None:
    """Serve a Hive with its embedded forge until a signal comes.

    Raises:
        UsageError: a setting is wrong, or the database or the embedded forge cannot be opened.
    """
    settings = replace(settings, webhook_secret_file=settings.webhook_secret_file or _own_secret(settings.data_dir))
    forge_url = settings.public_url + FORGE_PATH
    embedded = EmbeddedForge(EmbeddedForgeSettings(data_dir=settings.data_dir / "forge", base_url=forge_url))
    own_token = _own_token(embedded)

    def token_for(repository: Repository) -> str | None:
        if repository.git_url.startswith(forge_url + "/"):
            return own_token
        api_host = repository.api_url.removeprefix("https://").partition("/")[0]
        git_host = repository.git_url.removeprefix("https://").partition("/")[0]
        return github_token if {api_host, git_host} <= GITHUB_HOSTS else None

    clock = SystemClock()
    forge = GitHubForge(token_for, clock)
    ledger = GitRefLedger(token_for)
    hooks: asyncio.Task[None] | None = None
    try:
        hive = create_hive(
            replace(settings, forge_base_url=forge_url),
            forge=forge,
            ledger=ledger,
            clock=clock,
            classify=task_type,
            mounts={FORGE_PATH: create_forge(embedded.settings, embedded)},
        )
        secret = settings.webhook_secret_file.read_text().strip() if settings.webhook_secret_file else ""
        hooks = asyncio.create_task(_keep_hooks(embedded, settings.public_url + WEBHOOK_PATH, secret))
        await HiveServer(hive, settings).serve()
    finally:
        if hooks is not None:
            hooks.cancel()
            await asyncio.gather(hooks, return_exceptions=True)
        await forge.close()
        await ledger.close()
        embedded.close()


async def _keep_hooks(embedded: EmbeddedForge, url: str, secret: str) -> None:
    """Let every repository of the embedded forge tell this Hive what happens, new ones too."""
    hooked: set[tuple[str, str]] = set()
    while True:
        for info in await asyncio.to_thread(embedded.list_repositories):
            key = (info.owner, info.name)
            if key not in hooked:
                await asyncio.to_thread(embedded.ensure_hook, info.owner, info.name, url, secret, HOOK_EVENTS)
                hooked.add(key)
        await asyncio.sleep(HOOK_CHECK_S)


def _own_token(embedded: EmbeddedForge) -> str:
    """A token for this run; those of earlier runs end."""
    for token in embedded.list_tokens():
        if token.label == OWN_LABEL:
            embedded.revoke_token(token.id)
    return embedded.create_token("bzzz-hive", scope="write", label=OWN_LABEL)


def _own_secret(data_dir: Path) -> Path:
    """A file with this Hive's own webhook secret, made at its first start."""
    path = data_dir / "webhook.secret"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    except OSError as error:
        raise UsageError(f"{path}: the webhook secret cannot be kept: {error.strerror}") from None
    return path

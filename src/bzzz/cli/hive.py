"""``bzzz hive``: runs a Hive. Its projects are ``bzzz hive project``, in ``hive_project``.

``serve`` is the composition root of a Hive: the one place where its forge, its ledger and the embedded forge
are chosen and joined.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bzzz.cli.hive_project import project_app
from bzzz.core.task import Repository
from bzzz.errors import SettingError, UsageError
from bzzz.hive.project import Project
from bzzz.hive.setting import HiveSettings, read_secret

FORGE_PATH = "/forge"
HOOK_EVENTS = ("issues", "issue_comment", "pull_request", "push")
GITHUB_API_URL = "https://api.github.com"
GITHUB_URL = "https://github.com"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Hive: which repositories agents may work on, and what became of their tasks.",
)
app.add_typer(project_app, name="project")


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """See ``bzzz.ports.Clock``."""
        return time.monotonic_ns() // 1_000_000

    def wall_s(self) -> float:
        """See ``bzzz.ports.Clock``."""
        return time.time()


@app.command("serve")
def serve_command(
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder of the database and the embedded forge.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8740,
    base_url: Annotated[str, typer.Option(help="How others reach this Hive; else host and port.")] = "",
    database_url: Annotated[
        str, typer.Option(envvar="BZZZ_HIVE_DATABASE_URL", help="Else an SQLite file in the data folder.")
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(envvar="BZZZ_HIVE_API_KEY_FILE", help="API keys, one a line; without it, loopback only."),
    ] = None,
    webhook_secret_file: Annotated[
        Path | None, typer.Option(envvar="BZZZ_HIVE_WEBHOOK_SECRET_FILE", help="Else webhooks are off.")
    ] = None,
    github_token_file: Annotated[
        Path | None, typer.Option(envvar=["BZZZ_GITHUB_TOKEN_FILE", "GITHUB_TOKEN_FILE"], help="For github.com.")
    ] = None,
    task_label: Annotated[str, typer.Option(help="The label that makes an issue a task.")] = "bzzz-task",
) -> None:
    """Serve a Hive with its embedded forge.

    Example: bzzz hive serve --data-dir ~/.local/share/bzzz/hive

    For a team: bzzz hive serve --data-dir /var/lib/bzzz --host 0.0.0.0
    --base-url http://hive.lan:8740 --key-file /etc/bzzz/hive-keys
    """
    settings = HiveSettings(
        data_dir=data_dir.expanduser().resolve(),
        database_url=database_url,
        host=host,
        port=port,
        base_url=base_url,
        key_file=key_file,
        webhook_secret_file=webhook_secret_file,
        task_label=task_label,
    )
    serve(settings, github_token=read_secret(github_token_file, "github_token_file"))


def serve(settings: HiveSettings, github_token: str | None = None) -> None:
    """Join a Hive with its adapters and the embedded forge, and serve until a signal comes.

    Args:
        settings: of Hive; where no ``forge_base_url`` but the default is named, it becomes the embedded forge.
        github_token: for repositories on github.com, and sent nowhere else.

    Raises:
        UsageError: a setting is wrong, or the database or the embedded forge cannot be opened.
    """
    asyncio.run(_serve(settings, github_token))


async def _serve(settings: HiveSettings, github_token: str | None) -> None:
    # Imported only here: a command that lists projects must not wait for forge, ledger and server.
    from bzzz.hive.app import create_hive  # noqa: PLC0415 - as said
    from bzzz.hive.routes.webhook import PATH as WEBHOOK_PATH  # noqa: PLC0415 - as said
    from bzzz.hive.server import HiveServer  # noqa: PLC0415 - as said

    listening = _listen(settings)
    embedded = importlib.import_module("bzzz.forge.embedded")
    clock = SystemClock()
    forge_url = settings.public_url + FORGE_PATH
    settings = replace(
        settings,
        forge_base_url=forge_url,
        webhook_secret_file=settings.webhook_secret_file
        or _kept(settings.data_dir / "webhook.secret", lambda: secrets.token_hex(32)),
    )
    forge_settings = embedded.EmbeddedForgeSettings(data_dir=settings.data_dir / "forge", base_url=forge_url)
    forge_app: Any = embedded.create_forge(forge_settings)
    token_file = _kept(
        settings.data_dir / "forge.token",
        lambda: str(forge_app.state.forge.create_token("hive", scope="write", label="Hive")),
    )
    forge_token = read_secret(token_file, "the embedded forge's token")

    def token_for(repository: Repository) -> str | None:
        if belongs(repository, GITHUB_API_URL, GITHUB_URL):
            return github_token
        return forge_token if belongs(repository, forge_settings.api_url, forge_url) else None

    def adopt(project: Project) -> None:
        if project.api_url == forge_settings.api_url:
            secret = read_secret(settings.webhook_secret_file, "hive.webhook_secret_file")
            url = settings.public_url + WEBHOOK_PATH
            forge_app.state.forge.ensure_hook(project.owner, project.repository, url, secret, HOOK_EVENTS)

    forge: Any = importlib.import_module("bzzz.forge.client").GitHubForge(token_for, clock)
    ledger: Any = importlib.import_module("bzzz.ledger.git_ref").GitRefLedger(token_for)
    try:
        hive = create_hive(
            settings,
            forge=forge,
            ledger=ledger,
            clock=clock,
            classify=importlib.import_module("bzzz.core.capability").task_type,
            mounts={FORGE_PATH: forge_app},
            adopt=adopt,
        )
        typer.echo(f"Hive serves at {settings.public_url}, its forge at {forge_url}")
        await HiveServer(hive, settings).serve(sockets=[listening])
    finally:
        await forge.close()
        await ledger.close()


def belongs(repository: Repository, api_url: str, git_root: str) -> bool:
    """Whether a repository is of one forge by both of its addresses, so that its token goes nowhere else.

    Whoever may add a project names both; a token chosen by one of them would be sent to the other.
    """
    return repository.api_url == api_url and repository.git_url.startswith(git_root + "/")


def _listen(settings: HiveSettings) -> socket.socket:
    if not settings.base_url and _is_everywhere(settings.host):
        allowed = "with it, --base-url says how nodes reach this Hive: http://NAME:PORT"
        raise SettingError("hive serve", "--host", settings.host, allowed)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
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

"""``bzzz hive``: runs a Hive. Its projects are ``bzzz hive project``, in ``hive_project``.

What a Hive is made of is joined in ``compose_hive``, which is imported only when one is served.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from bzzz.cli.hive_project import project_app
from bzzz.hive.setting import HiveSettings, read_secret

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Hive: which repositories agents may work on, and what became of their tasks.\n\n"
    "Example:  bzzz hive serve --data-dir /var/lib/bzzz",
)
app.add_typer(project_app, name="project")


@app.command("serve")
def serve_command(
    *,
    data_dir: Annotated[
        Path, typer.Option(envvar="BZZZ_DATA_DIR", help="Folder of the database and the embedded forge.")
    ] = Path("~/.local/share/bzzz"),
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

    Example: bzzz hive serve

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
    # A command that lists projects must not wait for forge, ledger and server.
    from bzzz.cli.compose_hive import serve_hive

    asyncio.run(serve_hive(settings, github_token))

"""``bzzz hive``: runs a Hive. Its projects are ``bzzz hive project``, in ``hive_project``.

What a Hive is made of is joined in ``compose_hive``, which is imported only when one is served.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from bzzz.cli.hive_capture import captures_command, export_command
from bzzz.cli.hive_key import key_app
from bzzz.cli.hive_project import project_app
from bzzz.errors import SettingError
from bzzz.hive.setting import HiveSettings, credential, has_password, read_secret

ScenarioOption = Annotated[
    str, typer.Option(help="Play a scenario on the embedded forge: calm, cross-repo, storm, or a .toml file.")
]
SpeedOption = Annotated[float, typer.Option(min=0.01, max=1000, help="How much faster than the scenario says.")]

DATABASE_VARIABLE = "BZZZ_HIVE_DATABASE_URL"

app = typer.Typer(
    rich_markup_mode=None,
    help="Hive: which repositories agents may work on, and what became of their tasks.\n\n"
    "Example:  bzzz hive serve --data-dir /var/lib/bzzz",
)


@app.callback(invoke_without_command=True)
def hive(ctx: typer.Context, *, scenario: ScenarioOption = "", scenario_speed: SpeedOption = 1.0) -> None:
    """Hive: which repositories agents may work on, and what became of their tasks.

    Example: bzzz hive --scenario calm
    """
    if ctx.invoked_subcommand is not None:
        return
    if not scenario:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
    # A folder of its own for each run: a scenario begins with an empty forge.
    name = f"scenario-{Path(scenario).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path("~/.local/share/bzzz").expanduser() / name
    serve(HiveSettings(data_dir=folder), None, scenario, scenario_speed)


app.add_typer(project_app, name="project")
app.add_typer(key_app, name="key")
app.command("export")(export_command)
app.command("captures")(captures_command)


@app.command("serve")
def serve_command(
    ctx: typer.Context,
    *,
    data_dir: Annotated[
        Path, typer.Option(envvar="BZZZ_DATA_DIR", help="Folder of the database and the embedded forge.")
    ] = Path("~/.local/share/bzzz"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8740,
    base_url: Annotated[str, typer.Option(help="How others reach this Hive; else host and port.")] = "",
    database_url: Annotated[
        str, typer.Option(envvar=DATABASE_VARIABLE, help="Else an SQLite file in the data folder.")
    ] = "",
    database_url_file: Annotated[
        Path | None,
        typer.Option(envvar="BZZZ_HIVE_DATABASE_URL_FILE", help="File with the URL, where it holds a password."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(envvar="BZZZ_HIVE_API_KEY_FILE", help="API keys, one a line; more by 'bzzz hive key'."),
    ] = None,
    webhook_secret_file: Annotated[
        Path | None, typer.Option(envvar="BZZZ_HIVE_WEBHOOK_SECRET_FILE", help="Else one is made.")
    ] = None,
    github_token_file: Annotated[
        Path | None, typer.Option(envvar=["BZZZ_GITHUB_TOKEN_FILE", "GITHUB_TOKEN_FILE"], help="For github.com.")
    ] = None,
    rate_per_s: Annotated[float, typer.Option(min=0, help="Calls a second of one key; 0 sets no limit.")] = 50.0,
    task_label: Annotated[str, typer.Option(help="The label that makes an issue a task.")] = "bzzz-task",
    scenario: ScenarioOption = "",
    scenario_speed: SpeedOption = 1.0,
) -> None:
    """Serve a Hive with its embedded forge.

    Secrets come from files: those named here, or systemd credentials called hive-keys, hive-webhook-secret,
    github-token and hive-database-url.

    Example: bzzz hive serve

    For a team: bzzz hive serve --data-dir /var/lib/bzzz --host 0.0.0.0
    --base-url http://hive.lan:8740 --key-file /etc/bzzz/hive-keys

    To try nodes: bzzz hive serve --data-dir /tmp/storm --scenario storm
    """
    settings = HiveSettings(
        data_dir=data_dir.expanduser().resolve(),
        database_url=_database_url(ctx, database_url, database_url_file),
        host=host,
        port=port,
        base_url=base_url,
        key_file=key_file or credential("hive-keys", os.environ),
        webhook_secret_file=webhook_secret_file or credential("hive-webhook-secret", os.environ),
        rate_per_s=rate_per_s,
        rate_burst=max(1, round(rate_per_s * 4)),
        task_label=task_label,
    )
    token_file = github_token_file or credential("github-token", os.environ)
    serve(settings, read_secret(token_file, "github_token_file"), scenario, scenario_speed)


def _database_url(ctx: typer.Context, given: str, file: Path | None) -> str:
    """The database URL in force.

    Raises:
        SettingError: a password on the command line, where every user of this machine could read it.
    """
    # What a child process must not inherit.
    os.environ.pop(DATABASE_VARIABLE, None)
    source = ctx.get_parameter_source("database_url")
    if given and source is not None and source.name == "COMMANDLINE" and has_password(given):
        allowed = "name a file that holds the URL: --database-url-file"
        raise SettingError("--database-url", "hive.database_url", "a URL with a password", allowed)
    if given:
        return given
    return read_secret(file or credential("hive-database-url", os.environ), "hive.database_url_file") or ""


def serve(
    settings: HiveSettings, github_token: str | None = None, scenario: str = "", scenario_speed: float = 1.0
) -> None:
    """Join a Hive with its adapters and the embedded forge, and serve until a signal comes.

    Args:
        settings: of Hive; where no ``forge_base_url`` but the default is named, it becomes the embedded forge.
        github_token: for repositories on github.com, and sent nowhere else.
        scenario: the name or file of a scenario to play, or empty.
        scenario_speed: how much faster than written.

    Raises:
        UsageError: a setting is wrong, or the database or the embedded forge cannot be opened.
    """
    # A command that lists projects must not wait for forge, ledger and server.
    from bzzz.cli.compose_hive import Play, serve_hive
    from bzzz.hive.scenario.script import load_scenario

    play = Play(load_scenario(scenario), scenario_speed) if scenario else None
    asyncio.run(serve_hive(settings, github_token, play))

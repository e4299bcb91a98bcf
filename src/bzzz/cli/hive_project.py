"""``bzzz hive project``: adds, lists and changes projects, on a running Hive or in its database file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bzzz.cli.hive_place import (
    DEFAULT_URL,
    DatabaseOption,
    JsonOption,
    KeyOption,
    SystemClock,
    UrlOption,
    api_key,
    database_url,
)
from bzzz.cli.project_option import (
    AgentOption,
    CommandOption,
    LabelOption,
    LimitOption,
    NoCheckOption,
    ReviewerOption,
    read_projects,
    settings_given,
)
from bzzz.errors import BzzzError, UsageError
from bzzz.hive.answer import one_line
from bzzz.hive.desk import HttpDesk, ProjectDesk, StoreDesk, find
from bzzz.hive.schema import ProjectAnswer

WIDTH_MAX = 80

project_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The repositories that agents may work on; on a running Hive (--url), or in its database (--database).",
)

NameArgument = Annotated[str, typer.Argument(help="The project's name, OWNER/NAME or id.")]


@project_app.command("add")
def add(
    *,
    name: Annotated[str, typer.Argument(help="What people call the project.")],
    git_url: Annotated[str, typer.Option(help="Where git clones it from.")] = "",
    repository: Annotated[str, typer.Option(help="OWNER/NAME on the forge that Hive embeds.")] = "",
    branch: Annotated[str, typer.Option(help="The branch that work starts from and returns to.")] = "main",
    description: Annotated[str, typer.Option(help="A line for people.")] = "",
    forge: Annotated[str, typer.Option(help="The forge's dialect: github or gitea.")] = "github",
    api_url: Annotated[str, typer.Option(help="The forge's REST root, where it cannot be derived.")] = "",
    private: Annotated[bool, typer.Option("--private", help="A token is needed to read it.")] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="Add it, but let no agent work on it yet.")] = False,
    label: LabelOption = None,
    check_command: CommandOption = None,
    agent: AgentOption = None,
    limit: LimitOption = None,
    reviewer: ReviewerOption = None,
    no_check: NoCheckOption = False,
    forge_url: Annotated[
        str, typer.Option(help="With --database: the forge where --repository is looked for.")
    ] = "https://github.com",
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Add a project; agents may work on it at once. Hive looks whether it can read and write the repository.

    Example: bzzz hive project add shop --git-url https://github.com/acme/shop.git

    Example: bzzz hive project add shop --repository acme/shop
    """
    if bool(git_url) == bool(repository):
        raise UsageError("give either --git-url or --repository")
    fields: dict[str, Any] = {
        "name": name,
        "git_url": git_url or None,
        "github_repo": repository or None,
        "branch": branch,
        "description": description or None,
        "forge": forge,
        "api_url": api_url or None,
        "private_repo": private,
        "github_token_required": private,
        "bzzz_enabled": not disabled,
        **settings_given(label, check_command, agent, limit, reviewer),
    }
    project = _desk(url, key_file, database, forge_url, may_create=True).add(fields, check=not no_check)
    _tell(project, f"added {project.name!r}: {project.git_url}", as_json=as_json)


@project_app.command("set")
def set_command(
    *,
    name: NameArgument,
    branch: Annotated[str | None, typer.Option(help="The branch that work starts from and returns to.")] = None,
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    git_url: Annotated[str | None, typer.Option(help="Where git clones it from now.")] = None,
    label: LabelOption = None,
    check_command: CommandOption = None,
    agent: AgentOption = None,
    limit: LimitOption = None,
    reviewer: ReviewerOption = None,
    no_check: NoCheckOption = False,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change a project's settings; what is not given stays, and an empty text takes a setting away.

    Example: bzzz hive project set shop --label bzzz-task --check-command "make test" --limit wall_s_max=1800
    """
    fields = {"branch": branch, "description": description, "git_url": git_url}
    fields |= settings_given(label, check_command, agent, limit, reviewer)
    if all(value is None for value in fields.values()):
        raise UsageError("nothing to change; see: bzzz hive project set --help")
    project = _desk(url, key_file, database).change(name, fields, check=not no_check)
    _tell(project, f"changed {project.name!r}", as_json=as_json)


@project_app.command("import")
def import_command(
    *,
    file: Annotated[Path, typer.Argument(help="TOML with [[project]] tables, or YAML or JSON with a list.")],
    no_check: NoCheckOption = False,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Add many projects from a file; those that are there already by their name are changed.

    Each is tried, whatever becomes of the others; the status is 1 where one failed.

    Example: bzzz hive project import projects.toml
    """
    desk = _desk(url, key_file, database, may_create=True)
    known = {project.name for project in desk.list()} if not database or Path(database).exists() else set()
    results = []
    for fields in read_projects(file):
        name, verb = str(fields.get("name", "")), "added"
        try:
            if name in known:
                verb = "changed"
                desk.change(name, fields, check=not no_check)
            else:
                desk.add(fields, check=not no_check)
                known.add(name)
            results.append({"name": name, "result": verb, "detail": ""})
        except BzzzError as error:
            results.append({"name": name, "result": "failed", "detail": str(error)})
    if as_json:
        _print_json(results)
    else:
        for one in results:
            typer.echo(one_line(f"{one['result']} {one['name']!r} {one['detail']}".strip()))
    if any(one["result"] == "failed" for one in results):
        raise typer.Exit(1)


@project_app.command("list")
def list_command(
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """List all projects.

    Example: bzzz hive project list --url http://hive.lan:8740 --key-file ~/.config/bzzz/hive-key
    """
    projects = _desk(url, key_file, database).list()
    if as_json:
        _print_json([project.model_dump() for project in projects])
    elif not projects:
        typer.echo("no projects yet; add one with: bzzz hive project add NAME --git-url URL")
    else:
        _console().print(_table(projects))


@project_app.command("show")
def show(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one project.

    Example: bzzz hive project show shop --json
    """
    project = find(_desk(url, key_file, database).list(), name)
    if as_json:
        _print_json(project.model_dump())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for field, value in project.model_dump().items():
        shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
        table.add_row(Text(field, style="dim"), Text(one_line(shown), overflow="fold"))
    _console().print(table)


@project_app.command("enable")
def enable(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let agents work on a project.

    Example: bzzz hive project enable shop
    """
    project = _desk(url, key_file, database).change(name, {"bzzz_enabled": True})
    _tell(project, f"{project.name!r} is enabled", as_json=as_json)


@project_app.command("disable")
def disable(
    name: NameArgument,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let no agent begin anything more on a project; what is under way goes on.

    Example: bzzz hive project disable shop
    """
    project = _desk(url, key_file, database).change(name, {"bzzz_enabled": False})
    _tell(project, f"{project.name!r} is disabled", as_json=as_json)


@project_app.command("remove")
def remove(
    *,
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Forget a project and the reports about it; its repository, issues and claims stay.

    Example: bzzz hive project remove shop --yes
    """
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Forget {name!r} and its reports?")):
        raise UsageError("nothing was removed; say --yes to remove it without being asked")
    project = _desk(url, key_file, database).remove(name)
    _tell(project, f"removed {project.name!r}", as_json=as_json)


def _desk(
    url: str,
    key_file: Path | None,
    database: str,
    forge_url: str = "https://github.com",
    *,
    may_create: bool = False,
) -> ProjectDesk:
    if database:
        return StoreDesk(database_url(database, may_create=may_create), SystemClock(), forge_url)
    return HttpDesk(url, api_key(key_file), SystemClock())


def _tell(project: ProjectAnswer, line: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(project.model_dump())
    else:
        typer.echo(one_line(line))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _console() -> Console:
    return Console(width=min(Console().width, WIDTH_MAX), highlight=False)


def _table(projects: Sequence[ProjectAnswer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "repository", "branch", "agents"):
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for project in projects:
        state = "disabled"
        if project.bzzz_enabled:
            state = "unusable" if project.problem else "tasks open" if project.ready_to_claim else "no open task"
        cells = (str(project.id), project.name, project.key, project.branch, state)
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table

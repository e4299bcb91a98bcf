"""``bzzz forge``: run the embedded forge, and administer its repositories, issues and tokens.

Administration works on the data folder directly, whether the forge is running or not; a running forge sees
what is written here at once, and its webhooks tell of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bzzz.errors import UsageError
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, create_forge
from bzzz.forge.embedded.account import Actor, Scope
from bzzz.forge.embedded.name import visible
from bzzz.forge.embedded.setting import default_data_dir, last_base_url

WIDTH_WITHOUT_TERMINAL = 80
STDIN_BYTES_MAX = 1024 * 1024

app = typer.Typer(
    help="The embedded forge: git hosting, issues and pull requests without GitHub.\n\n"
    "Example:  bzzz forge import ~/src/shop --owner team",
    no_args_is_help=True,
)
repo_app = typer.Typer(help="Repositories of the embedded forge.", no_args_is_help=True)
issue_app = typer.Typer(help="Issues of the embedded forge.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens of the embedded forge.", no_args_is_help=True)
app.add_typer(repo_app, name="repo")
app.add_typer(issue_app, name="issue")
app.add_typer(token_app, name="token")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The forge's folder.", show_default="$BZZZ_DATA_DIR/forge"),
]
Base = Annotated[
    str,
    typer.Option("--base-url", metavar="URL", help="Where it is reached.", show_default="where it was last served"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Slug = Annotated[str, typer.Argument(metavar="OWNER/NAME")]
BASE_URL = "http://127.0.0.1:8081"


@contextmanager
def opened(data: Path | None, base_url: str = "") -> Iterator[EmbeddedForge]:
    """The forge over ``data``, closed afterwards."""
    folder = data or default_data_dir()
    forge = EmbeddedForge(EmbeddedForgeSettings(folder, base_url or last_base_url(folder) or BASE_URL))
    try:
        yield forge
    finally:
        forge.close()


def slug(text: str) -> tuple[str, str]:
    """Split ``OWNER/NAME``.

    Raises:
        UsageError: it has another form.
    """
    owner, slash, name = text.partition("/")
    if not slash or not owner or not name:
        raise UsageError(f"{text!r} is not of the form OWNER/NAME")
    return owner, name


def show(value: Any, as_json: bool, columns: Sequence[tuple[str, str]], empty: str) -> None:
    """Print rows as JSON or as a table (``columns`` are key and heading) that fits the terminal."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        return
    out = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    if not value:
        out.print(empty, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for key, heading in columns:
        table.add_column(heading, overflow="fold", ratio=None if key in ("number", "id") else 1)
    for row in value:
        table.add_row(*(escape(visible("" if row.get(key) is None else str(row[key]))) for key, _ in columns))
    out.print(table)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A git repository, bare or with a work tree.")],
    *,
    owner: Annotated[str, typer.Option(help="Its owner on the forge.")] = "bzzz",
    name: Annotated[str, typer.Option(help="Its name on the forge.", show_default="the folder's name")] = "",
    data: Data = None,
    base_url: Base = "",
    as_json: Json = False,
) -> None:
    """Bring in an existing repository with all its branches and tags.

    Nothing of its configuration or hooks is run. Example:  bzzz forge import ~/src/shop --owner team
    """
    chosen = name or path.expanduser().resolve().name.removesuffix(".git")
    with opened(data, base_url) as forge:
        info = forge.import_repository(path, owner, chosen)
        show(
            [asdict(info)],
            as_json,
            (("name", "REPOSITORY"), ("default_branch", "BRANCH"), ("git_url", "CLONE")),
            "",
        )


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8081,
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="Where it is reached.", show_default="http://HOST:PORT")
    ] = "",
    data: Data = None,
) -> None:
    """Serve the forge until it is interrupted.

    Example:  bzzz forge serve --port 8081
    """
    shown = f"[{host}]" if ":" in host else host
    settings = EmbeddedForgeSettings(data or default_data_dir(), base_url or f"http://{shown}:{port}")
    forge_app = create_forge(settings)
    typer.echo(f"forge at {settings.base_url}/ (API {settings.api_url}, data {settings.data_dir})")
    try:
        uvicorn.run(forge_app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)
    finally:
        forge_app.state.forge.close()


@repo_app.command("create")
def repo_create(
    repository: Slug,
    *,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Readable with a token alone.")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Without a first commit.")] = False,
    data: Data = None,
    base_url: Base = "",
    as_json: Json = False,
) -> None:
    """Make a repository.

    Example:  bzzz forge repo create team/shop
    """
    owner, name = slug(repository)
    files = None if empty else {"README.md": f"# {name}\n"}
    with opened(data, base_url) as forge:
        info = forge.create_repository(owner, name, description=description, private=private, files=files)
    show([asdict(info)], as_json, (("name", "REPOSITORY"), ("git_url", "CLONE")), "")


@repo_app.command("list")
def repo_list(data: Data = None, base_url: Base = "", as_json: Json = False) -> None:
    """List repositories.

    Example:  bzzz forge repo list --json
    """
    with opened(data, base_url) as forge:
        rows = [
            {
                **asdict(info),
                "repository": f"{info.owner}/{info.name}",
                "access": "private" if info.private else "public",
            }
            for info in forge.list_repositories()
        ]
    columns = (
        ("repository", "REPOSITORY"), ("access", "ACCESS"), ("default_branch", "BRANCH"),
        ("open_issues", "ISSUES"), ("open_pulls", "PULLS"),
    )  # fmt: skip
    show(rows, as_json, columns, "There is no repository yet; make one with: bzzz forge repo create OWNER/NAME")


@issue_app.command("create")
def issue_create(
    repository: Slug,
    *,
    title: Annotated[str, typer.Option(help="Its title.")],
    body: Annotated[str, typer.Option(help="Its text; - reads standard input.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="A label; may be given again.")] = None,
    author: Annotated[str, typer.Option(help="Whose issue it is.", show_default="the owner")] = "",
    data: Data = None,
    base_url: Base = "",
    as_json: Json = False,
) -> None:
    """Open an issue; with the label bzzz-task, agents may take it.

    Example:  bzzz forge issue create team/shop --title "Totals are wrong" --label bzzz-task
    """
    owner, name = slug(repository)
    text = sys.stdin.read(STDIN_BYTES_MAX) if body == "-" else body
    actor = Actor(author, Scope.WRITE) if author else None
    with opened(data, base_url) as forge:
        value = forge.create_issue(owner, name, title, text, labels=label or (), actor=actor)
    show(
        [value] if not as_json else value,
        as_json,
        (("number", "NUMBER"), ("title", "TITLE"), ("html_url", "URL")),
        "",
    )


@issue_app.command("list")
def issue_list(
    repository: Slug,
    *,
    state: Annotated[str, typer.Option(help="open, closed or all.")] = "open",
    label: Annotated[str, typer.Option(help="Only those with this label.")] = "",
    data: Data = None,
    base_url: Base = "",
    as_json: Json = False,
) -> None:
    """List issues, oldest first.

    Example:  bzzz forge issue list team/shop --label bzzz-task
    """
    if state not in ("open", "closed", "all"):
        raise UsageError(f"--state {state!r} is not allowed; use open, closed or all")
    with opened(data, base_url) as forge:
        found = forge.list_issues(*slug(repository), state=state, label=label)
    rows = (
        found if as_json else [{**each, "labels": ", ".join(x["name"] for x in each["labels"])} for each in found]
    )
    columns = (("number", "NUMBER"), ("state", "STATE"), ("title", "TITLE"), ("labels", "LABELS"))
    show(rows, as_json, columns, "There is no such issue.")


@token_app.command("create")
def token_create(
    login: Annotated[str, typer.Option(help="Whose token it is.")] = "bzzz",
    scope: Annotated[
        str, typer.Option(help="read, issue, write or admin; each includes those before it.")
    ] = "write",
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it to this file, readable by you alone.")] = None,
    data: Data = None,
) -> None:
    """Make a token and print it; it is kept as a hash and cannot be shown again.

    Example:  bzzz forge token create --scope write --out ~/.config/bzzz/forge-token
    """
    with opened(data) as forge:
        secret = forge.create_token(login, scope=scope, label=label)
    if out is None:
        typer.echo(secret)
        return
    try:
        out.expanduser().touch(mode=0o600)
        out.expanduser().chmod(0o600)
        out.expanduser().write_text(secret + "\n")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}; the token was made, revoke it") from None


@token_app.command("list")
def token_list(data: Data = None, as_json: Json = False) -> None:
    """List tokens, without their secrets.

    Example:  bzzz forge token list
    """
    with opened(data) as forge:
        rows = [{**asdict(info), "state": "revoked" if info.revoked else "valid"} for info in forge.list_tokens()]
    columns = (
        ("id", "ID"), ("login", "LOGIN"), ("scope", "SCOPE"), ("state", "STATE"), ("label", "LABEL"),
        ("created_at", "CREATED"),
    )  # fmt: skip
    show(rows, as_json, columns, "There is no token yet; make one with: bzzz forge token create")


@token_app.command("revoke")
def token_revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="Its number in the list.")], data: Data = None
) -> None:
    """End a token at once.

    Example:  bzzz forge token revoke 3
    """
    with opened(data) as forge:
        forge.revoke_token(token_id)
    typer.echo(f"token {token_id} is revoked")

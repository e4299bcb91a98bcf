"""``bzzz hive key``: makes, lists and revokes API keys, on a running Hive or in its database."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bzzz.cli.hive_place import (
    DEFAULT_URL,
    DatabaseOption,
    JsonOption,
    KeyOption,
    SystemClock,
    UrlOption,
    api_key,
    open_store,
)
from bzzz.cli.table import show
from bzzz.errors import UsageError
from bzzz.hive.key import Role, check_key_name
from bzzz.hive.link import HiveLink

_KEYS = "/api/bzzz/keys"

key_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="API keys: who may read (read), claim and report (node), or change everything (admin).",
)


@key_app.command("create")
def create(
    *,
    name: Annotated[str, typer.Argument(help="What people call the key: the node's or the person's name.")],
    role: Annotated[str, typer.Option(help="read, node or admin.")] = "node",
    out: Annotated[Path | None, typer.Option(help="Write the key to this new file, for its owner alone.")] = None,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key; it is shown this once, and Hive keeps only its hash.

    Example: bzzz hive key create walnut --role node --out walnut.key
    """
    try:
        check_key_name(name)
        wanted = Role.parse(role)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if out is not None and out.expanduser().exists():
        raise UsageError(f"{out} is there already; name a new file")
    if database:
        from bzzz.hive.routes.key import KeyAnswer, new_key

        key = new_key()
        with open_store(database) as store:
            made = {**KeyAnswer.of(store.keys.add(name, wanted, key)).model_dump(), "key": key}
    else:
        made = _ask(url, key_file, "POST", _KEYS, {"name": name, "role": wanted.word})
    if out is not None:
        _write(out.expanduser(), made.pop("key"))
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    elif out is not None:
        typer.echo(f"made the {wanted.word} key {name!r}; it is in {out}")
    else:
        typer.echo(made["key"])


@key_app.command("list")
def list_command(
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """List all keys, revoked ones too; never the keys themselves.

    Example: bzzz hive key list
    """
    if database:
        from bzzz.hive.routes.key import KeyAnswer

        with open_store(database) as store:
            keys = [KeyAnswer.of(info).model_dump() for info in store.keys.list()]
    else:
        keys = _ask(url, key_file, "GET", _KEYS)["keys"]
    if as_json:
        typer.echo(json.dumps(keys, indent=2))
        return
    rows = [{**key, "state": "revoked" if key["revoked_at"] else "in force"} for key in keys]
    columns = [(name, name.replace("_at", "").replace("shown", "begins")) for name in ("name", "role", "shown")]
    columns += [("created_at", "created"), ("used_at", "used"), ("state", "state")]
    show(columns, rows, "no keys yet: only clients on Hive's own machine are served")


@key_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
) -> None:
    """End a key: at once on a running Hive, within seconds where another process changed the database.

    Example: bzzz hive key revoke walnut
    """
    if database:
        with open_store(database) as store:
            if store.keys.revoke(name) is None:
                raise UsageError(f"no key {name!r} is in force")
    else:
        _ask(url, key_file, "DELETE", f"{_KEYS}/{quote(name, safe='')}")
    typer.echo(f"revoked {name!r}")


def _ask(url: str, key_file: Path | None, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    async def visit() -> Any:
        link = HiveLink(url, api_key(key_file), SystemClock())
        try:
            return await link.ask(method, path, body)
        finally:
            await link.close()

    return asyncio.run(visit())


def _write(path: Path, key: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; the key is lost, revoke it") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")

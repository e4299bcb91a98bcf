"""``bzzz config``: every setting, what it means, and what it is here."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from bzzz.cli.local import Json
from bzzz.cli.table import show, show_json
from bzzz.config import describe, load

app = typer.Typer(add_completion=False)


@app.command()
def config(
    file: Path | None = typer.Option(None, "--config", "-c", help="The settings file.", envvar="BZZZ_CONFIG"),
    as_json: bool = Json,
) -> None:
    """Show every setting, checked; exit status 2 and one clear line if one is wrong.

    Example:  bzzz config -c /etc/bzzz/bzzz.toml
    """
    found = load(file, os.environ)
    rows = [
        {
            **row,
            "value": found[row["key"]],
            "source": found.sources[row["key"]],
        }
        for row in describe()
    ]
    if as_json:
        show_json(rows)
        return
    shown = [{**row, "value": _text(row["value"])} for row in rows]
    show([("key", "setting"), ("value", "value"), ("meaning", "meaning")], shown, "")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value) if value != {} else ""

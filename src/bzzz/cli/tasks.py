"""``bzzz tasks``: tasks, who holds them, and their pull requests."""

from __future__ import annotations

from pathlib import Path

import typer

from bzzz.cli.local import DataDir, Json, Settings, Url, answer
from bzzz.cli.table import show, show_json

app = typer.Typer(add_completion=False)


@app.command()
def tasks(
    file: Path | None = Settings, data_dir: Path | None = DataDir, url: str | None = Url, as_json: bool = Json
) -> None:
    """Show the tasks that the node here knows, open ones first.

    Example:  bzzz tasks --json | jq '.tasks[] | select(.state == "held")'
    """
    with answer(data_dir, url, "/tasks", file) as found:
        if as_json:
            show_json(found)
            return
        rows = [
            {**row, "epoch": "" if row["epoch"] is None else row["epoch"], "pr": _number(row["pull_request"])}
            for row in found["tasks"]
        ]
    columns = [
        ("task", "task"),
        ("state", "state"),
        ("holder", "node"),
        ("epoch", "epoch"),
        ("pr", "pull"),
        ("title", "title"),
    ]
    show(columns, rows, "no tasks: none of the repositories has an open issue labelled bzzz-task")


def _number(url: str | None) -> str:
    return "" if not url else "#" + url.rstrip("/").rpartition("/")[2]

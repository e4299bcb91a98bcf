"""``bzzz status``: the node that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from bzzz.cli.local import DataDir, Json, Settings, Url, answer
from bzzz.cli.table import say, show, show_json

app = typer.Typer(add_completion=False)


@app.command()
def status(
    file: Path | None = Settings, data_dir: Path | None = DataDir, url: str | None = Url, as_json: bool = Json
) -> None:
    """Show the node that runs here: its load, peers, repositories and troubles.

    Example:  bzzz status --data-dir /var/lib/bzzz
    """
    with answer(data_dir, url, "/status", file) as node:
        if as_json:
            show_json(node)
            return
        say(
            f"{node['name']}  {node['status']}, {node['current_tasks']} of {node['max_tasks']} tasks, "
            f"up {_span(node['uptime_s'])}",
            style="bold",
        )
        say(f"  peer id    {node['node_id']}")
        say(f"  peers      {node['connected_peers']} connected")
        say(f"  Hive       {_hive(node['hive'])}")
        say(f"  reports    {node['outbox_waiting']} waiting")
        rows = [{**row, "trouble": row["trouble"] or "none"} for row in node["repositories"]]
    columns = [("repository", "repository"), ("watcher", "watched by"), ("trouble", "trouble")]
    show(columns, rows, "  no repositories yet: add one with 'bzzz hive project add'")


def _span(seconds: float) -> str:
    """A time span in its two largest units."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{hours} h {m} min"
    return f"{minutes} min {s} s" if minutes else f"{s} s"


def _hive(hive: Mapping[str, Any]) -> str:
    if not hive["configured"]:
        return "none: set hive.url"
    return "reachable" if hive["reachable"] else str(hive["trouble"])

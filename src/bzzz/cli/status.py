"""``bzzz status``: the node that runs here."""

from __future__ import annotations

from pathlib import Path

import typer

from bzzz.cli.local import DataDir, Json, Url, get
from bzzz.cli.table import console, plain, show, show_json

app = typer.Typer(add_completion=False)


@app.command()
def status(data_dir: Path | None = DataDir, url: str | None = Url, as_json: bool = Json) -> None:
    """Show the node that runs here: its load, peers, repositories and troubles.

    Example:  bzzz status --data-dir /var/lib/bzzz
    """
    node = get(data_dir, url, "/status")
    if as_json:
        show_json(node)
        return
    out = console()
    out.print(f"[bold]{plain(node['name'])}[/]  {plain(node['status'])}, {node['current_tasks']} of "
              f"{node['max_tasks']} tasks, up {node['uptime_s']:.0f} s, start {node['incarnation']}")  # fmt: skip
    out.print(f"  peer id    {plain(node['node_id'])}")
    out.print(f"  peers      {node['connected_peers']} connected")
    hive = node["hive"]
    out.print(f"  Hive       {'reachable' if hive['reachable'] else plain(hive['trouble'])}", soft_wrap=True)
    out.print(f"  reports    {node['outbox_waiting']} waiting")
    rows = [{**row, "trouble": row["trouble"] or "none"} for row in node["repositories"]]
    columns = [("repository", "repository"), ("watcher", "watched by"), ("trouble", "trouble")]
    show("", columns, rows, "  no repositories yet: add one with 'bzzz hive project add'")

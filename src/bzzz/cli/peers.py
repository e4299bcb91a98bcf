"""``bzzz peers``: the nodes that the one here knows."""

from __future__ import annotations

from pathlib import Path

import typer

from bzzz.cli.local import DataDir, Json, Settings, Url, answer
from bzzz.cli.table import show, show_json

app = typer.Typer(add_completion=False)


@app.command()
def peers(
    file: Path | None = Settings, data_dir: Path | None = DataDir, url: str | None = Url, as_json: bool = Json
) -> None:
    """Show the nodes that the one here knows, and how busy they are.

    Example:  bzzz peers --json
    """
    with answer(data_dir, url, "/peers", file) as found:
        if as_json:
            show_json(found)
            return
        rows = [
            {
                **peer,
                "load": f"{peer['current_tasks']}/{peer['max_tasks']}",
                "heard": f"{peer['heard_s_ago']:.0f} s ago",
                "short": peer["node_id"][-8:],
                "skills": peer["specialization"] or ", ".join(peer["capabilities"]),
            }
            for peer in found["peers"]
        ]
    columns = [
        ("name", "name"),
        ("liveness", "state"),
        ("load", "tasks"),
        ("heard", "heard"),
        ("skills", "best at"),
        ("short", "peer id ends"),
    ]
    show(columns, rows, "no peers yet: they appear by mDNS on this network, or by mesh.peers")

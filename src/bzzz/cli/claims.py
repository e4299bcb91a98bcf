"""``bzzz claims OWNER/REPO#N``: who held a task, when, and why it moved."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from bzzz.cli.local import Json
from bzzz.cli.table import show, show_json
from bzzz.config import Config, load
from bzzz.core.record import Observation
from bzzz.core.task import Repository, TaskId
from bzzz.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command()
def claims(
    task: str = typer.Argument(help="OWNER/REPO#NUMBER"),
    file: Path | None = typer.Option(None, "--config", "-c", help="The settings file.", envvar="BZZZ_CONFIG"),
    hive: str | None = typer.Option(None, help="Where Hive is."),
    git_url: str | None = typer.Option(None, "--git-url", help="The repository, instead of asking Hive."),
    as_json: bool = Json,
) -> None:
    """Show the claim chain of a task, oldest record first, as the git server keeps it.

    Example:  bzzz claims acme/shop#42
    """
    try:
        wanted = TaskId.parse(task)
    except ValueError as error:
        raise UsageError(str(error)) from None
    config = load(file, os.environ, {"hive.url": hive})
    chain = asyncio.run(_history(config, wanted, git_url))
    rows: list[dict[str, Any]] = [
        {
            "epoch": seen.record.epoch,
            "state": seen.record.state.value,
            "holder": seen.record.holder.agent,
            "noted_at": seen.record.noted_at or "",
            "branch": seen.record.branch or "",
            "reason": seen.record.reason or "",
            "strikes": seen.record.strikes,
            "peer": seen.record.holder.peer,
            "incarnation": seen.record.holder.incarnation,
            "version": str(seen.version),
        }
        for seen in chain
    ]
    if as_json:
        show_json({"task": str(wanted), "claims": rows})
        return
    shown = [{**row, "record": row["version"][:8], "reason": row["reason"] or row["branch"]} for row in rows]
    columns = [
        ("record", "record"),
        ("epoch", "epoch"),
        ("state", "state"),
        ("holder", "holder"),
        ("noted_at", "when"),
        ("reason", "why, or branch"),
    ]
    show(columns, shown, f"{wanted} was never claimed")


async def _history(config: Config, task: TaskId, git_url: str | None) -> Sequence[Observation]:
    from bzzz.cli.token import Tokens
    from bzzz.hive.client import HttpHive
    from bzzz.ledger.git_ref import GitRefLedger
    from bzzz.runtime.clock import SystemClock

    owner, _, name = task.repository.partition("/")
    repository = Repository(0, name, owner, name, git_url or "", "")
    if git_url is None:
        if not config["hive.url"]:
            raise UsageError("name a Hive (--hive, BZZZ_HIVE_API_URL) or the repository (--git-url)")
        client = HttpHive(config["hive.url"], config.hive_key or None, SystemClock())
        try:
            found = [r for r in await client.active_repositories() if r.key == task.repository]
        finally:
            await client.close()
        if not found:
            raise UsageError(f"Hive lists no active repository {task.repository}; name it by --git-url")
        repository = found[0]
    ledger = GitRefLedger(Tokens(config).for_git)
    try:
        return await ledger.history(repository, task.number)
    finally:
        await ledger.close()

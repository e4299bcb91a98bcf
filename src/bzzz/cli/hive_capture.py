"""``bzzz hive export`` and ``captures``: what agents did and said, from a running Hive or its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from pydantic import ValidationError

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
from bzzz.errors import ServiceNonsense, UsageError
from bzzz.hive.capture import CaptureQuery
from bzzz.hive.capture_schema import CaptureAnswer, CapturesAnswer
from bzzz.hive.link import HiveLink

_CAPTURES = "/api/bzzz/captures"
PAGE_ITEMS = 100

ProjectOption = Annotated[str, typer.Option("--project", help="A project's name, OWNER/NAME or id.")]
SinceOption = Annotated[datetime | None, typer.Option("--since", help="From this day or time on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option("--until", help="Before this day or time (UTC).")]


def export_command(
    *,
    folder: Annotated[Path, typer.Argument(help="Where to; made where it is not there.")],
    project: ProjectOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write captured work, pull requests and prompts as files: one an item, and one JSONL a day.

    Exporting again writes the same files. A day's JSONL holds what this export chose of the day.

    Example: bzzz hive export ./captured --since 2026-01-01
    """
    from bzzz.hive.capture_export import export

    wanted = {"project": project, "since": since, "until": until}
    items = _from_database(database, wanted) if database else _from_hive(url, key_file, wanted)
    counts = export(items, folder.expanduser())
    if as_json:
        typer.echo(json.dumps(dict(counts), indent=2))
    else:
        total = ", ".join(f"{count} in {name}" for name, count in sorted(counts.items())) or "nothing"
        typer.echo(f"exported to {folder}: {total}")


def captures_command(
    *,
    project: ProjectOption = "",
    task: Annotated[int | None, typer.Option(help="An issue's number.")] = None,
    agent: Annotated[str, typer.Option(help="Whose.")] = "",
    model: Annotated[str, typer.Option(help="By which model.")] = "",
    since: SinceOption = None,
    until: UntilOption = None,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search what was captured, newest first, with the sums of tokens and money.

    Example: bzzz hive captures --project shop --agent walnut --since 2026-01-01
    """
    wanted = {"project": project, "task": task, "agent": agent, "model": model, "since": since, "until": until}
    found = _page(url, key_file, {**wanted, "limit": 50, "bodies": "false"})
    if as_json:
        typer.echo(json.dumps(found.model_dump(), indent=2))
        return
    rows = [
        {**one.model_dump(), "task": one.task_number or "", "tokens": one.tokens_in + one.tokens_out}
        for one in found.captures
    ]
    columns = ("id", "captured_at", "kind", "repository", "task", "agent", "tokens")
    show([(name, name.replace("captured_at", "time")) for name in columns], rows, "nothing captured")
    sums = found.sums
    typer.echo(f"{sums.items} items, {sums.tokens} tokens, {sums.cost_usd:.4f} USD")


def _from_hive(url: str, key_file: Path | None, wanted: Mapping[str, Any]) -> Iterator[CaptureAnswer]:
    after = 0
    while True:
        found = _page(url, key_file, {**wanted, "after": after, "limit": PAGE_ITEMS})
        yield from found.captures
        if found.next is None or found.next <= after:
            return
        after = found.next


def _page(url: str, key_file: Path | None, wanted: Mapping[str, Any]) -> CapturesAnswer:
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in wanted.items()
        if value not in ("", None)
    }
    path = f"{_CAPTURES}?{urlencode(fields)}"

    async def visit() -> Any:
        link = HiveLink(url, api_key(key_file), SystemClock())
        try:
            return await link.ask("GET", path)
        finally:
            await link.close()

    try:
        return CapturesAnswer.model_validate(asyncio.run(visit()))
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise ServiceNonsense(f"Hive {url}", f"GET {_CAPTURES}", what) from None


def _from_database(database: str, wanted: Mapping[str, Any]) -> Iterator[CaptureAnswer]:
    with open_store(database) as store:
        project_id = None
        if wanted["project"]:
            name = wanted["project"]
            known = [one for one in store.projects() if name in {one.name, one.key, str(one.id)}]
            if not known:
                raise UsageError(f"there is no project {name!r}")
            project_id = known[0].id
        query = CaptureQuery(project_id=project_id, since=wanted["since"], until=wanted["until"])
        for stored in store.captures.walk(query):
            yield CaptureAnswer.of(stored)

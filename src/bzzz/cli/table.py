"""Tables for people: they fit the terminal, 80 columns where there is none, and respect NO_COLOR."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 80

COLOURS = {
    "delivered": "green",
    "alive": "green",
    "ready": "green",
    "held": "yellow",
    "working": "yellow",
    "suspect": "yellow",
    "escalated": "red",
    "dead": "red",
    "busy": "cyan",
}


def console() -> Console:
    """Standard output, as wide as the terminal."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False)


def plain(value: object) -> str:
    """Text from elsewhere, without control characters and markup."""
    text = "" if value is None else str(value)
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def show(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """Print rows; ``columns`` are (key, heading). Without rows, ``empty`` says what that means."""
    out = console()
    if not rows:
        out.print(empty, soft_wrap=True)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold", expand=False)
    for place, (key, heading) in enumerate(columns):
        cut = key in ("title", "text", "reason")
        table.add_column(heading, overflow="ellipsis" if cut else "fold", no_wrap=cut or place == 0)
    for row in rows:
        cells = []
        for key, _ in columns:
            text = plain(row.get(key))
            colour = COLOURS.get(text)
            cells.append(f"[{colour}]{text}[/]" if colour else text)
        table.add_row(*cells)
    out.print(table)


def show_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

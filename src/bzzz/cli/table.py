"""Tables for people: they fit the terminal, 80 columns where there is none, and respect NO_COLOR."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 80
COLUMN_WIDTH_MAX = 40
CUT_WIDTH_MIN = 10
GAP = 2

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
    """Text from elsewhere, without control and direction characters."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: str, style: str = "") -> None:
    """Print one line; whatever is in it is text and no markup."""
    console().print(Text(plain(text), style=style), soft_wrap=True)


def show(columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """Print rows; ``columns`` are (key, heading). Without rows, ``empty`` says what that means."""
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, expand=False)
    longest = {key: max(len(heading), *(len(plain(row.get(key))) for row in rows)) for key, heading in columns}
    cut = [key for key, _ in columns if key in ("title", "text", "reason")]
    # Only long texts give way in a narrow terminal; a state or a number that is cut says nothing.
    taken = sum(min(longest[key], COLUMN_WIDTH_MAX) + GAP for key, _ in columns if key not in cut)
    left = max(CUT_WIDTH_MIN, (console().width - taken) // max(1, len(cut)) - GAP)
    for place, (key, heading) in enumerate(columns):
        whole = key in cut or place == 0
        width = min(longest[key], left) if key in cut else None
        table.add_column(heading, overflow="ellipsis" if whole else "fold", no_wrap=whole, max_width=width)
    for row in rows:
        # Text and not str: rich reads a str for markup and for names of emoji.
        table.add_row(*(Text(plain(row.get(key)), style=_style(key, row.get(key))) for key, _ in columns))
    console().print(table)


def _style(key: str, value: object) -> str:
    return COLOURS.get(str(value), "") if key in ("state", "liveness", "status") else ""


def show_json(value: Any) -> None:
    """Print one JSON document, in ASCII where the terminal, or UTF-8, could not carry what is in it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")

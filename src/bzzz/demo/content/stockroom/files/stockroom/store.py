"""The stock's file: JSON that people can read."""

from __future__ import annotations

import json
from pathlib import Path

from stockroom.item import Item, Stock, StockError


def load(path: Path) -> Stock:
    """Read the stock; a file that is not there is an empty stock."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Stock()
    try:
        return Stock([Item(str(entry["name"]), int(entry["quantity"])) for entry in json.loads(text)["items"]])
    except (ValueError, KeyError, TypeError):
        raise StockError(f"{path} is not a stock file; move it away, or mend it") from None


def save(path: Path, stock: Stock) -> None:
    """Write the stock."""
    with path.open("w", encoding="utf-8") as file:
        entries = [{"name": item.name, "quantity": item.quantity} for item in stock.items.values()]
        json.dump({"items": entries}, file, indent=2)
        file.write("\n")

"""The stock as text for a person."""

from __future__ import annotations

from stockroom.item import Stock


def render(stock: Stock) -> str:
    """One line an item, in the order in which they came."""
    return "".join(f"{item.key} {item.name} {item.quantity}\n" for item in stock.items.values())

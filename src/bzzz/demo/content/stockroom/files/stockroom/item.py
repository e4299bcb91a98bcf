"""Items, and the stock that counts them."""

from __future__ import annotations

import re
from dataclasses import dataclass


class StockError(Exception):
    """A user asked for something that the stock does not allow; the message is one line for them."""


def key_of(name: str) -> str:
    """The key of an item: the words of its name in lower case, joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass
class Item:
    """One kind of thing, and how many of it are there."""

    name: str
    quantity: int

    @property
    def key(self) -> str:
        return key_of(self.name)


class Stock:
    """All items, by key."""

    def __init__(self, items: list[Item] | None = None) -> None:
        self.items = {item.key: item for item in items or []}

    def add(self, name: str, quantity: int) -> Item:
        """Put ``quantity`` more of an item on the shelf; an item that is new gets its place."""
        key = key_of(name)
        if not key:
            raise StockError(f"{name!r} has no letter or digit to make a key of")
        item = self.items.setdefault(key, Item(name, 0))
        item.quantity += quantity
        return item

    def take(self, name: str, quantity: int) -> Item:
        """Take ``quantity`` of an item away; its place stays, also when it is empty."""
        item = self.items.get(key_of(name))
        if item is None:
            raise StockError(f"there is no item {name!r}")
        if item.quantity < quantity:
            raise StockError(f"only {item.quantity} of {item.name!r} are there, not {quantity}")
        item.quantity -= quantity
        return item

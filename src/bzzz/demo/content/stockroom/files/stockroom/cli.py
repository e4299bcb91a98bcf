"""The command line: ``add``, ``take`` and ``list``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stockroom import __version__, store
from stockroom.item import StockError
from stockroom.table import render


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    top = argparse.ArgumentParser(
        prog="stockroom",
        description="What is there, and how many.",
        epilog=f"stockroom {__version__}",
    )
    top.add_argument("--file", type=Path, default=Path("stock.json"), help="the stock's file")
    commands = top.add_subparsers(dest="command", required=True)
    for command, help_text in (("add", "put items on the shelf"), ("take", "take items away")):
        one = commands.add_parser(command, help=help_text)
        one.add_argument("name")
        one.add_argument("quantity")
    commands.add_parser("list", help="show what is there")
    return top


def run(options: argparse.Namespace) -> str:
    """Carry out one command; returns what to print."""
    stock = store.load(options.file)
    if options.command == "add":
        try:
            quantity = int(options.quantity)
        except ValueError:
            raise StockError(f"{options.quantity!r} is not a whole number") from None
        if quantity <= 0:
            raise StockError("quantity must be above 0")
        item = stock.add(options.name, quantity)
    elif options.command == "take":
        if not options.quantity.isdigit():
            raise StockError(f"not a number: {options.quantity}")
        quantity = int(options.quantity)
        if quantity == 0:
            raise StockError("cannot take nothing")
        item = stock.take(options.name, quantity)
    else:
        return render(stock)
    store.save(options.file, stock)
    return f"{item.name}: {item.quantity}\n"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        sys.stdout.write(run(options))
    except StockError as error:
        sys.stderr.write(f"stockroom: {error}\n")
        return 2
    return 0

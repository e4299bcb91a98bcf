"""The list can be read at a glance."""

import unittest

from stockroom.item import Item, Stock
from stockroom.table import render

STOCK = Stock([Item("Nut", 7), Item("Hex bolt M6", 1240), Item("Glue", 0)])


class TableTest(unittest.TestCase):
    def lines(self) -> "list[str]":
        return render(STOCK).splitlines()

    def test_a_heading_names_the_columns(self) -> None:
        self.assertEqual(self.lines()[0].split(), ["KEY", "NAME", "QUANTITY"])

    def test_names_begin_and_quantities_end_in_one_column(self) -> None:
        heading, *rows = self.lines()[:4]
        begin, end = heading.index("NAME"), len(heading)
        for row, item in zip(rows, sorted(STOCK.items.values(), key=lambda item: item.key)):
            self.assertEqual(row.index(item.name), begin, row)
            self.assertEqual(row[:end].split()[-1], str(item.quantity), row)
            self.assertEqual(row.index(str(item.quantity), begin + len(item.name)) + len(str(item.quantity)), end)

    def test_items_are_ordered_by_key(self) -> None:
        self.assertEqual([line.split()[0] for line in self.lines()[1:4]], ["glue", "hex-bolt-m6", "nut"])

    def test_what_has_run_out_is_marked(self) -> None:
        self.assertEqual([line.split()[0] for line in self.lines() if line.endswith("  none left")], ["glue"])

    def test_the_last_line_sums_up(self) -> None:
        self.assertEqual(self.lines()[-1], "3 items, 1247 pieces, 1 run out")

    def test_an_empty_stock_says_so(self) -> None:
        self.assertEqual(render(Stock()), "The stock is empty.\n")

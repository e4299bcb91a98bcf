"""The stock's file."""

import tempfile
import unittest
from pathlib import Path

from stockroom.item import Item, Stock, StockError
from stockroom.store import load, save


class StoreTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "stock.json"

    def test_a_stock_is_read_back_as_it_was_saved(self) -> None:
        save(self.path, Stock([Item("Öse", 4), Item("Nut", 0)]))
        self.assertEqual(list(load(self.path).items.values()), [Item("Öse", 4), Item("Nut", 0)])

    def test_no_file_is_an_empty_stock(self) -> None:
        self.assertEqual(load(self.path).items, {})

    def test_another_file_is_refused_by_name(self) -> None:
        self.path.write_text("[1, 2]", encoding="utf-8")
        with self.assertRaisesRegex(StockError, "stock.json is not a stock file"):
            load(self.path)


if __name__ == "__main__":
    unittest.main()

"""A save that fails midway leaves the old stock."""

import os
import stat
import tempfile
import unittest
from pathlib import Path

from stockroom.item import Item, Stock
from stockroom.store import load, save


class CrashTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "stock.json"
        save(self.path, Stock([Item("Nut", 7)]))

    def fail_to_save(self) -> None:
        broken = Stock([Item("Nut", 8)])
        broken.items["glue"] = Item("Glue", object())  # cannot be written, as on a full disk
        with self.assertRaises(TypeError):
            save(self.path, broken)

    def test_the_old_stock_is_still_there(self) -> None:
        self.fail_to_save()
        self.assertEqual(list(load(self.path).items.values()), [Item("Nut", 7)])

    def test_no_draft_is_left_behind(self) -> None:
        self.fail_to_save()
        save(self.path, Stock([Item("Nut", 9)]))
        self.assertEqual(os.listdir(self.path.parent), ["stock.json"])

    def test_a_reader_with_the_old_file_open_sees_the_old_stock(self) -> None:
        with self.path.open(encoding="utf-8") as old:
            save(self.path, Stock([Item("Nut", 9)]))
            self.assertIn('"quantity": 7', old.read())

    def test_permissions_are_kept(self) -> None:
        self.path.chmod(0o640)
        save(self.path, Stock())
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

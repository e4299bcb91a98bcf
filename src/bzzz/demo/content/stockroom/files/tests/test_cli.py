"""The command line."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from stockroom.cli import main


class CommandTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "stock.json"

    def run_command(self, *words: str) -> "tuple[int, str, str]":
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["--file", str(self.path), *words])
        return status, out.getvalue(), err.getvalue()

    def test_what_is_added_can_be_taken(self) -> None:
        self.assertEqual(self.run_command("add", "Hex bolt", "40"), (0, "Hex bolt: 40\n", ""))
        self.assertEqual(self.run_command("take", "hex-bolt", "12"), (0, "Hex bolt: 28\n", ""))

    def test_the_list_names_every_item_and_its_quantity(self) -> None:
        self.run_command("add", "Hex bolt", "40")
        self.run_command("add", "Nut", "7")
        status, out, _ = self.run_command("list")
        self.assertEqual(status, 0)
        for word in ("hex-bolt", "Hex bolt", "40", "nut", "Nut", "7"):
            self.assertIn(word, out)

    def test_a_quantity_that_is_none_is_a_mistake_said_in_one_line(self) -> None:
        for command in ("add", "take"):
            for quantity in ("many", "0", "1.5"):
                status, out, err = self.run_command(command, "Nut", quantity)
                self.assertEqual((status, out, err.count("\n")), (2, "", 1), (command, quantity))

    def test_nothing_is_written_when_nothing_changes(self) -> None:
        self.run_command("take", "glue", "1")
        self.assertFalse(self.path.exists())


if __name__ == "__main__":
    unittest.main()

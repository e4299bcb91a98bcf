"""One function reads quantities, for every command alike."""

import ast
import contextlib
import importlib
import io
import tempfile
import unittest
from pathlib import Path

from stockroom import cli
from stockroom.item import StockError


class QuantityTest(unittest.TestCase):
    def answer(self, command: str, quantity: str) -> str:
        """What a command says to a quantity, with what was taken or added left out."""
        with tempfile.TemporaryDirectory() as folder:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                cli.main(["--file", str(Path(folder) / "stock.json"), command, "Nut", quantity])
            return err.getvalue()

    def test_a_quantity_is_a_whole_number_above_nothing(self) -> None:
        parse = importlib.import_module("stockroom.quantity").parse_quantity
        self.assertEqual([parse("1"), parse(" 40 "), parse("+3")], [1, 40, 3])
        for text in ("", "many", "1.5", "0", "-2", "1e3", "²", "1_000"):
            with self.assertRaises(StockError, msg=text) as caught:
                parse(text)
            self.assertIn(repr(text), str(caught.exception))

    def test_both_commands_refuse_in_the_same_words(self) -> None:
        for quantity in ("many", "0", "1.5", "²"):
            said = self.answer("add", quantity)
            self.assertEqual(said, self.answer("take", quantity))
            self.assertEqual(said.count("\n"), 1, said)

    def test_the_command_line_no_longer_reads_numbers_itself(self) -> None:
        tree = ast.parse(Path(cli.__file__).read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        self.assertNotIn("int", [call.id for call in calls if isinstance(call, ast.Name)])
        self.assertNotIn("isdigit", [call.attr for call in calls if isinstance(call, ast.Attribute)])

"""What the README shows is what happens."""

import doctest
import unittest
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


class ReadmeTest(unittest.TestCase):
    def test_every_example_gives_what_it_shows(self) -> None:
        result = doctest.testfile(str(README), module_relative=False, report=True)
        self.assertGreaterEqual(result.attempted, 8, "too few examples")
        self.assertEqual(result.failed, 0)

    def test_every_function_of_today_is_explained_with_its_arguments(self) -> None:
        text = README.read_text(encoding="utf-8")
        for signature in (
            'slugify(text, separator="-")',
            "is_slug(text)",
            'truncate(slug, length, separator="-")',
            "anchor(text, level=2)",
            "contents(headings)",
        ):
            self.assertIn(f"`{signature}`", text)

    def test_the_error_of_truncate_is_mentioned(self) -> None:
        self.assertIn("ValueError", README.read_text(encoding="utf-8"))

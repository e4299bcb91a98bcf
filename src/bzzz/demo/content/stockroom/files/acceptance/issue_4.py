"""The program can be started, and installed."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "stockroom" / "__init__.py").read_text(encoding="utf-8"))[1]


class StartTest(unittest.TestCase):
    def start(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "stockroom", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )

    def test_it_starts_as_a_module_and_hands_on_its_status(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            stock = str(Path(folder) / "stock.json")
            added = self.start("--file", stock, "add", "Nut", "7")
            self.assertEqual((added.returncode, added.stdout), (0, "Nut: 7\n"), added.stderr)
            self.assertEqual(self.start("--file", stock, "take", "Nut", "8").returncode, 2)

    def test_it_tells_its_version(self) -> None:
        self.assertEqual(self.start("--version").stdout, f"stockroom {VERSION}\n")


class ProjectTest(unittest.TestCase):
    def setUp(self) -> None:
        self.text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    def test_the_version_stands_in_one_place(self) -> None:
        self.assertIn('dynamic = ["version"]', self.text)
        self.assertIn('version = { attr = "stockroom.__version__" }', self.text)
        self.assertNotIn(VERSION, self.text)

    def test_installing_it_gives_a_program(self) -> None:
        self.assertRegex(self.text, r'(?m)^\[project\.scripts\]\nstockroom = "stockroom\.cli:main"$')
        self.assertIn('name = "stockroom"', self.text)
        self.assertIn('requires-python = ">=3.9"', self.text)

    def test_only_the_package_is_installed(self) -> None:
        self.assertIn('packages = ["stockroom"]', self.text)

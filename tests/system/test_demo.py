"""``bzzz demo`` as its users run it: to its end, interrupted at any moment, killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.process_table import belonging, wait_until, wait_until_none

ROOT = Path(__file__).parents[2]
DEMO_S_MAX = 90
INTERRUPTED_S_MAX = 30
"""From the signal to the end: every node gives back what it holds, and saves its work, first."""
ORPHANS_S_MAX = 45
"""Nodes whose demo was killed end in order too, with nobody left to give back to."""
KEYS = {
    "nodes",
    "tasks",
    "delivered",
    "pull_requests",
    "checks_passed",
    "double_claims",
    "reclaimed",
    "start_latency_p50_s",
    "elapsed_s",
}


class Run:
    """One ``bzzz demo --json`` whose temporary files are below ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._errors = folder.with_suffix(".err")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "TMPDIR": str(folder),
        }
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "importtime", "-m", "bzzz", "demo", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    def wait_for(self, pattern: str) -> None:
        """Until a file that fits ``pattern`` is in the demo's own folder."""
        self._wait_until(lambda: [*self.folder.glob(f"bzzz-demo-*/{pattern}")], pattern)

    def wait_for_import(self, module: str) -> None:
        """Until it has imported ``module``."""
        self._wait_until(lambda: re.search(rf"\| +{re.escape(module)}\n", self._errors.read_text()), module)

    def _wait_until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        assert self.process.poll() is None, (self.process.communicate(), self.errors())

    def errors(self) -> str:
        """What it wrote to its error output, but for what Python itself tells of imports."""
        lines = self._errors.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("import time:"))

    def end(self, timeout_s: float) -> tuple[str, str]:
        """What it wrote to its output and to its error output, once it has ended."""
        try:
            return self.process.communicate(timeout=timeout_s)[0], self.errors()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.communicate()


Starter = Callable[[str], Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    runs: list[Run] = []

    def begin(name: str) -> Run:
        runs.append(Run(tmp_path / name))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate()
    wait_until_none(tmp_path, ORPHANS_S_MAX)


def import_begins(run: Run) -> None:
    """It runs, and is importing itself. What comes earlier ends the interpreter, in whatever way that has."""
    run.wait_for_import("bzzz.cli")


def folder_made(run: Run) -> None:
    """The first thing that it makes is there, and no process yet."""
    run.wait_for(".")


def nodes_start(run: Run) -> None:
    """Hive serves; the processes of the nodes are there and know nothing yet."""
    run.wait_for("walnut.log")


def in_the_middle(run: Run) -> None:
    """Agents are at work."""
    run.wait_for("*/data/attempts/*/tree")


@pytest.mark.serial
@pytest.mark.timeout(DEMO_S_MAX + ORPHANS_S_MAX)
def test_a_demo_right_after_one_that_was_killed_delivers_everything_once_and_nothing_is_left(
    start: Starter, tmp_path: Path
) -> None:
    """Field notes 1, 4 and 14: nothing claimed twice; what a killed parent left ends, and is in nobody's way."""
    killed = start("killed")
    in_the_middle(killed)
    killed.process.kill()
    killed.process.communicate()
    run = start("whole")
    out, err = run.end(DEMO_S_MAX)
    assert run.process.returncode == 0, out + err
    result = json.loads(out.splitlines()[-1])
    assert set(result) >= KEYS
    assert result["nodes"] == 3
    assert result["tasks"] >= 9
    assert result["delivered"] == result["pull_requests"] == result["checks_passed"] == result["tasks"]
    assert result["double_claims"] == 0
    assert result["reclaimed"] == 1
    assert 0 < result["start_latency_p50_s"] < result["elapsed_s"] < DEMO_S_MAX
    assert not belonging(run.folder)
    assert not [*run.folder.iterdir()], "the demo removes its temporary folder"
    wait_until_none(tmp_path, ORPHANS_S_MAX)


@pytest.mark.serial
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [import_begins, folder_made, nodes_start, in_the_middle])
def test_an_interrupted_demo_leaves_nothing_behind(
    start: Starter, moment: Callable[[Run], None], number: signal.Signals
) -> None:
    """Field note 14: Ctrl-C, or a service manager's SIGTERM, at any moment."""
    run = start("interrupted")
    moment(run)
    run.process.send_signal(number)
    out, err = run.end(INTERRUPTED_S_MAX)
    assert run.process.returncode not in (0, 1), (run.process.returncode, out, err)
    assert "Traceback" not in err
    wait_until_none(run.folder, 5)
    assert not [*run.folder.iterdir()], "the demo removes its temporary folder"

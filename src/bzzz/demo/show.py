"""How the demo looks: a live view on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bzzz.demo.board import Board
from bzzz.demo.verdict import TaskVerdict

WIDTH_WITHOUT_TERMINAL = 80
REFRESH_PER_S = 8
LOG_LINES = 4

_COLOUR = {
    "open": "dim",
    "claimed": "yellow",
    "fetching": "yellow",
    "agent at work": "yellow",
    "checking": "cyan",
    "committing": "cyan",
    "delivering": "cyan",
    "delivered": "green",
    "ready": "green",
    "killed": "red",
    "starting": "dim",
}


class Show:
    """Draws a board while the demo runs.

    Args:
        board: what to draw.
        quiet: draw nothing (``--json``).
        out: where to.
    """

    def __init__(self, board: Board, *, quiet: bool, out: TextIO = sys.stdout) -> None:
        self._board = board
        self._quiet = quiet
        self._told: dict[str, str] = {}
        self._began_s = time.monotonic()
        self._step = ""
        terminal = out.isatty()
        self.console = Console(file=out, width=None if terminal else WIDTH_WITHOUT_TERMINAL, highlight=False)
        self._live: Live | None = None
        if terminal and not quiet:
            self._live = Live(
                get_renderable=self._frame, console=self.console, refresh_per_second=REFRESH_PER_S, transient=True
            )

    def __enter__(self) -> Show:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, text: str) -> None:
        """What the demo itself is doing now."""
        self._step = text
        if self._live is None and not self._quiet:
            self.console.print(f"{time.monotonic() - self._began_s:6.1f} s  {escape(text)}", soft_wrap=True)

    def changed(self) -> None:
        """The board changed; without a terminal, each change is a line."""
        if self._live is not None or self._quiet:
            return
        for task in self._board.tasks.values():
            told = f"{task.state} {task.node} {task.epoch}"
            if task.state in ("claimed", "delivered", "released", "escalated") and self._told.get(task.key) != told:
                self._told[task.key] = told
                who = f"{task.node}, epoch {task.epoch}"
                self.step(f"{task.key:<20} {task.state:<10} {who}")

    def _frame(self) -> Group:
        nodes = Table(box=None, pad_edge=False, show_edge=False)
        for heading in ("node", "state", "done", "doing"):
            nodes.add_column(heading, no_wrap=True)
        for node in self._board.nodes.values():
            colour = _COLOUR.get(node.state, "white")
            nodes.add_row(node.name, f"[{colour}]{node.state}[/]", str(node.done), escape(node.doing))
        # Titles get what the others leave. Without widths of their own, those would give way to long titles.
        tasks = Table(box=None, pad_edge=False, show_edge=False, expand=True)
        for heading, width in (("issue", 17), ("state", 13), ("node", 8), ("epoch", 5)):
            tasks.add_column(heading, no_wrap=True, overflow="ellipsis", width=width)
        tasks.add_column("title", no_wrap=True, overflow="ellipsis", ratio=1)
        for task in self._board.tasks.values():
            colour = _COLOUR.get(task.state, "red")
            tasks.add_row(
                escape(task.key),
                f"[{colour}]{escape(task.state)}[/]",
                task.node,
                str(task.epoch or ""),
                escape(task.title),
            )
        seconds = time.monotonic() - self._began_s
        head = Text.from_markup(f"[bold]bzzz demo[/]  {seconds:5.1f} s  {escape(self._step)}")
        log = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._board.log[-LOG_LINES:]]
        return Group(head, Text(), nodes, Text(), tasks, Text(), *log)

    def table(self, verdicts: Sequence[TaskVerdict]) -> None:
        """The end: issue, node, epoch, pull request, check, seconds."""
        if self._quiet:
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("issue", "node", "epoch", "pull request", "check", "seconds"):
            table.add_column(heading, no_wrap=True, justify="right" if heading in ("epoch", "seconds") else "left")
        for verdict in verdicts:
            row = self._board.tasks[str(verdict.task)]
            check = "[green]passed[/]" if verdict.check_passed else "[red]failed[/]"
            seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
            pull = "#" + verdict.pull_request.rpartition("/")[2] if verdict.pull_request else "none"
            table.add_row(escape(str(verdict.task)), verdict.node, str(verdict.epoch), pull, check, seconds)
        self.console.print(table)

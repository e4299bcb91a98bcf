"""How the demo looks, on a terminal and elsewhere, and how its check is run once more."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from bzzz.core.task import TaskId
from bzzz.demo import verdict as module
from bzzz.demo.board import Board
from bzzz.demo.show import Show
from bzzz.demo.verdict import TaskVerdict, passes

KEY = "demo/shop#1"
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def filled() -> Board:
    board = Board()
    board.opened(KEY, "Mend [bold]the[/] gate :bug:", 0.0)
    board.node("walnut", "ready")
    board.take(
        "walnut",
        {"id": 1, "at": 0.0, "kind": "report", "report": "claimed", "task": KEY, "epoch": 1, "level": "info"},
    )
    return board


def final(number: int = 1, *, passed: bool = True, pull: str = "http://forge/pulls/7") -> TaskVerdict:
    return TaskVerdict(TaskId("demo/shop", number), 1, 1, pull, "walnut", 1, False, passed)


def test_without_a_terminal_each_change_is_a_line_said_once() -> None:
    out = io.StringIO()
    with Show(filled(), quiet=False, out=out) as show:
        show.step("starting [three] nodes")
        show.changed()
        show.changed()
    text = out.getvalue()
    assert "\x1b" not in text
    assert "starting [three] nodes" in text
    assert text.count(KEY) == 1
    assert "walnut, epoch 1" in text


def test_quiet_says_nothing() -> None:
    out = Terminal()
    with Show(filled(), quiet=True, out=out) as show:
        show.step("x")
        show.changed()
    show.table([final()])
    assert out.getvalue() == ""


def test_a_terminal_shows_nodes_and_tasks_with_titles_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    with Show(filled(), quiet=False, out=out) as show:
        show.console.print(show._frame())
    assert "Mend [bold]the[/] gate" in out.getvalue()
    assert "claimed" in out.getvalue()


def test_on_a_terminal_of_80_columns_only_titles_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long title once left no room for who holds the task."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    board = filled()
    board.opened("demo/stockroom#3", "The list cannot be read at a glance: no columns " * 3, 0.0)
    out = Terminal()
    with Show(board, quiet=False, out=out) as show:
        show.console.print(show._frame())
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in out.getvalue().splitlines()]
    head = next(line for line in lines if line.startswith("issue"))
    assert head.split() == ["issue", "state", "node", "epoch", "title"]
    row = next(line for line in lines if line.startswith(KEY))
    assert row.split()[1:4] == ["claimed", "walnut", "1"]
    assert max(map(len, lines)) <= 80


def test_the_end_is_a_table_that_fits_80_columns() -> None:
    out = io.StringIO()
    board = filled()
    board.opened("demo/shop#2", "t", 0.0)
    Show(board, quiet=False, out=out).table([final(), final(2, passed=False, pull="")])
    head, first, second = out.getvalue().splitlines()
    assert head.split() == ["issue", "node", "epoch", "pull", "request", "check", "seconds"]
    assert first.split() == [KEY, "walnut", "1", "#7", "passed"]
    assert second.split() == ["demo/shop#2", "walnut", "1", "none", "failed"]
    assert max(map(len, (head, first, second))) <= 80


# --- the check ------------------------------------------------------------------------------------------


def check(folder: Path, text: str) -> bool:
    (folder / ".bzzz.toml").write_text(text)
    return passes(folder, 42, ENVIRONMENT)


def test_a_check_passes_when_all_its_commands_do(tmp_path: Path) -> None:
    assert check(tmp_path, '[check]\ncommand = [["true"], ["sh", "-c", "test {number} = 42"]]\n')
    assert not check(tmp_path, '[check]\ncommand = [["true"], ["false"]]\n')


@pytest.mark.parametrize("text", ["", "[check]\n", "check = 1\n", "[check]\ncommand = []\n", "not toml"])
def test_no_check_is_no_pass(tmp_path: Path, text: str) -> None:
    assert not check(tmp_path, text)


def test_a_check_runs_in_the_work_tree_and_without_more_than_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    assert check(tmp_path, '[check]\ncommand = [["sh", "-c", "test -f here && test -z \\"$HOME\\""]]\n')


def test_a_branch_that_is_not_there_or_a_check_that_hangs_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not module._check(str(tmp_path / "none.git"), "branch", 1, tmp_path / "clone")
    source = tmp_path / "source"
    source.mkdir()
    (source / ".bzzz.toml").write_text('[check]\ncommand = [["sleep", "60"]]\n')
    for arguments in (
        ["init", "--quiet", "--initial-branch=work"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message=x"],
    ):
        subprocess.run(["git", *arguments], cwd=source, check=True)
    run = subprocess.run

    def impatient(command: list[str], **kwargs: object) -> object:
        if command[0] == "sleep":
            kwargs["timeout"] = 0.01
        return run(command, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", impatient)
    assert not module._check(str(source), "work", 1, tmp_path / "other")

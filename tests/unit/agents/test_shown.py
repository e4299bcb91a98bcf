"""What an attempt shows of itself (``bzzz.agents.shown``): bounded, readable, without the agent's secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.git_client import git
from tests.support.memory_forge import make_issue
from tests.support.node_world import make_repository

from bzzz.agents.check import PROJECT_SOURCE, find_check
from bzzz.agents.git import Git, GitResult
from bzzz.agents.shown import (
    ANSWER_BYTES_MAX,
    DIFF_BYTES_MAX,
    FILE_BYTES_MAX,
    PROMPT_BYTES_MAX,
    SHOWN_BYTES_MAX,
    show,
)
from bzzz.agents.workspace import Workspace
from bzzz.core.task import TaskId
from bzzz.ports import AttemptSpec

SECRET = "sk-this-agents-own-key"


@pytest.fixture
def spec(tmp_path: Path) -> AttemptSpec:
    (tmp_path / "key").write_text(SECRET + "\n")
    agent = {"kind": "command", "command": ["x"], "env_files": {"KEY": str(tmp_path / "key")}}
    task = TaskId("acme/shop", 1)
    return AttemptSpec("a.1", task, 1, make_repository(), make_issue(1), (), "b", agent, "walnut")


def workspace(tmp_path: Path, files: dict[str, bytes]) -> tuple[Workspace, str]:
    """A finished attempt's folder: a base commit, and one with these files."""
    tree, host = tmp_path / "clone", tmp_path / "host.git"
    tree.mkdir()
    git(tree, "init", "--quiet", "-b", "main")
    (tree / "old.txt").write_text("old\n")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "base")
    base = git(tree, "rev-parse", "HEAD").strip()
    (tree / "old.txt").unlink()
    for name, content in files.items():
        (tree / name).write_bytes(content)
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "work")
    git(tmp_path, "clone", "--quiet", "--bare", str(tree), str(host))
    return Workspace(tmp_path, host, base), git(tree, "rev-parse", "HEAD").strip()


def test_prompt_answer_diff_and_files_are_shown_without_the_agents_secrets(
    tmp_path: Path, spec: AttemptSpec
) -> None:
    made, commit = workspace(tmp_path, {"new.py": f"key = '{SECRET}'\n".encode(), "blob": b"\0\1"})
    (tmp_path / "prompt.md").write_text("Mend the gate")
    (tmp_path / "agent.log").write_text(f"I used {SECRET} and mended it\n")
    shown = show(spec, made, commit, "Mend it (#1)")
    assert SECRET not in json.dumps(shown)
    assert (shown["prompt"], shown["answer"]) == ("Mend the gate", "I used *** and mended it\n")
    assert shown["files"] == {"new.py": "key = '***'\n", "blob": "[2 bytes left out]"}
    assert shown["files_changed"] == 3
    assert "-old" in shown["diff"]
    assert (shown["commit"], shown["commit_message"]) == (commit, "Mend it (#1)")


def test_an_attempt_that_made_nothing_shows_its_prompt_alone(tmp_path: Path, spec: AttemptSpec) -> None:
    made, _ = workspace(tmp_path, {})
    (tmp_path / "prompt.md").write_text("Mend the gate")
    assert show(spec, made, None, "") == {"prompt": "Mend the gate"}


def test_whatever_is_long_is_bounded_and_says_so(tmp_path: Path, spec: AttemptSpec) -> None:
    huge = b"\x1b" * FILE_BYTES_MAX
    made, commit = workspace(tmp_path, {f"{number}.txt": huge for number in range(9)})
    (tmp_path / "prompt.md").write_bytes(b"\x1b" * (PROMPT_BYTES_MAX + 5))
    shown = show(spec, made, commit, "Mend it")
    assert len(json.dumps(shown)) <= SHOWN_BYTES_MAX
    assert shown["left_out"][0] == "files"
    assert shown["prompt"].endswith("[5 bytes left out]")
    assert len(shown.get("diff", "")) < DIFF_BYTES_MAX + 100


def test_what_is_too_large_to_be_shown_is_not_read(
    tmp_path: Path, spec: AttemptSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = 3 * 1024 * 1024
    made, commit = workspace(tmp_path, {"huge.txt": b"line\n" * (huge // 5), "small.txt": b"small\n"})
    sizes: list[int] = []
    run = Git.run

    def measured(self: Git, *arguments: str, **more: Any) -> GitResult:
        result = run(self, *arguments, **more)
        sizes.append(len(result.output))
        return result

    monkeypatch.setattr(Git, "run", measured)
    shown = show(spec, made, commit, "Mend it")
    assert shown["files"] == {"huge.txt": f"[{huge // 5 * 5} bytes left out]", "small.txt": "small\n"}
    assert shown["files_changed"] == 3
    assert shown["diff"].endswith(" bytes left out]")
    assert max(sizes) < 1000


@pytest.mark.parametrize("part", [1, len(SECRET) // 2, len(SECRET) - 1])
def test_a_secret_that_the_cut_goes_through_leaves_no_half(tmp_path: Path, spec: AttemptSpec, part: int) -> None:
    made, _ = workspace(tmp_path, {})
    before = "p" * (PROMPT_BYTES_MAX - part)
    (tmp_path / "prompt.md").write_text(before + SECRET + "and so on " * 100)
    after = "a" * (ANSWER_BYTES_MAX - part)
    (tmp_path / "agent.log").write_text("and so on " * 100 + SECRET + after)
    shown = show(spec, made, None, "")
    prompt, _, said = shown["prompt"].partition("\n")
    assert said == f"[{len(SECRET) - part + 1000} bytes left out]"
    for text, whole in ((prompt, before), (shown["answer"], after)):
        assert len(whole) - 2 * len(SECRET) < len(text.strip("*"))
        assert text.strip("*") in whole


def test_a_projects_check_goes_before_the_repositorys_and_keeps_its_bounds() -> None:
    settings = b'[check]\ncommand = ["make"]\ntimeout_s = 5\npaths = ["tests/"]\n'
    check = find_check(settings, None, 7, ("make", "task-{number}"))
    assert check is not None
    assert (check.commands, check.source) == ((("make", "task-7"),), PROJECT_SOURCE)
    assert (check.timeout_s, check.paths) == (5.0, ("tests/",))
    alone = find_check(None, b"# Tests\n\n    nothing\n", 7, ("true",))
    assert alone is not None
    assert alone.commands == (("true",),)

"""The demo's projects are real: each issue's check fails before the work, and its patch makes it pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from bzzz.demo.repository import DemoIssue, DemoRepository, demo_repositories, write_repository
from bzzz.errors import UsageError

REPOSITORIES = demo_repositories()
ISSUES = [(repository, issue) for repository in REPOSITORIES for issue in repository.issues]
IDS = [f"{repository.name}-{issue.number}" for repository, issue in ISSUES]
BY_NAME = [repository.name for repository in REPOSITORIES]


def _git(folder: Path, *arguments: str, given: str = "") -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, input=given, check=True, capture_output=True, text=True).stdout


def _check(repository: DemoRepository, folder: Path, number: int) -> list[subprocess.CompletedProcess[str]]:
    """Run what ``.bzzz.toml`` names, with this very Python."""
    commands: Sequence[Sequence[str]] = tomllib.loads(repository.files[".bzzz.toml"].decode())["check"]["command"]
    done = []
    for command in commands:
        program, *words = (word.replace("{number}", str(number)) for word in command)
        assert program == "python3"
        done.append(
            subprocess.run(
                [sys.executable, *words],
                cwd=folder,
                env={"PATH": os.environ["PATH"]},
                capture_output=True,
                text=True,
                check=False,
            )
        )
    return done


def test_there_are_nine_issues_in_two_projects_of_many_kinds_priorities_and_needs() -> None:
    labels = Counter(label for _, issue in ISSUES for label in issue.labels)
    assert (len(REPOSITORIES), len(ISSUES), labels["bzzz-task"]) == (2, 9, 9)
    assert len([label for label in labels if label.startswith("type-")]) == 8
    assert {f"priority-{number}" for number in range(1, 6)} <= set(labels)
    assert (labels["code-generation"], labels["reasoning"], labels["code-analysis"]) == (3, 3, 3)


@pytest.mark.parametrize("repository", REPOSITORIES, ids=BY_NAME)
def test_issues_are_numbered_as_a_forge_numbers_them(repository: DemoRepository) -> None:
    assert [issue.number for issue in repository.issues] == list(range(1, len(repository.issues) + 1))


@pytest.mark.parametrize(("repository", "issue"), ISSUES, ids=IDS)
def test_an_issue_tells_type_priority_description_requirements_and_deliverables(
    repository: DemoRepository, issue: DemoIssue
) -> None:
    said = dict(re.findall(r"(?m)^\*\*(Task type|Priority|Skills)\*\*: (.+)$", issue.body))
    assert f"type-{said['Task type']}" in issue.labels
    assert f"priority-{said['Priority']}" in issue.labels
    assert said["Skills"]
    headings = re.findall(r"(?m)^## (.+)$", issue.body)
    assert headings == ["Description", "Requirements", "Deliverables", "Proposed patch"]
    assert all(re.search(rf"## {heading}\n\n[^#]*^- ", issue.body, re.MULTILINE) for heading in headings[1:3])


@pytest.mark.parametrize(("repository", "issue"), ISSUES, ids=IDS)
def test_the_body_has_exactly_one_fenced_diff_and_it_is_the_patch(
    repository: DemoRepository, issue: DemoIssue
) -> None:
    assert re.findall(r"(?ms)^```diff\n(.*?)^ {0,3}```", issue.body) == [issue.patch]
    assert issue.body.count("```") == 2


@pytest.mark.parametrize(("repository", "issue"), ISSUES, ids=IDS)
def test_the_check_of_an_issue_fails_on_main_and_passes_with_its_patch(
    repository: DemoRepository, issue: DemoIssue, tmp_path: Path
) -> None:
    folder = tmp_path / repository.name
    write_repository(repository, folder)
    nothing_broken, acceptance = _check(repository, folder, issue.number)
    assert nothing_broken.returncode == 0, nothing_broken.stderr
    assert acceptance.returncode == 1, acceptance.stderr

    _git(folder, "apply", "--index", "-", given=issue.patch)

    for done in _check(repository, folder, issue.number):
        assert done.returncode == 0, done.stderr
    changed = set(_git(folder, "diff", "--cached", "--name-only").split())
    assert not any(path.startswith(("acceptance/", ".bzzz")) for path in changed)
    assert _git(folder, "status", "--porcelain", "--untracked-files=all").split()[1::2] == sorted(changed)


@pytest.mark.parametrize(
    ("repository", "backwards"),
    list(product(REPOSITORIES, (False, True))),
    ids=[f"{name}-{order}" for name, order in product(BY_NAME, ("forwards", "backwards"))],
)
def test_all_pull_requests_of_a_project_can_be_merged_in_any_order(
    repository: DemoRepository, backwards: bool, tmp_path: Path
) -> None:
    write_repository(repository, tmp_path)
    for key, value in (("user.name", "a"), ("user.email", "a@b.invalid"), ("commit.gpgsign", "false")):
        _git(tmp_path, "config", key, value)
    for issue in repository.issues:
        _git(tmp_path, "checkout", "--quiet", "-b", f"issue-{issue.number}", "main")
        _git(tmp_path, "apply", "--index", "-", given=issue.patch)
        _git(tmp_path, "commit", "--quiet", "-m", issue.title)
    _git(tmp_path, "checkout", "--quiet", "main")
    for issue in reversed(repository.issues) if backwards else repository.issues:
        _git(tmp_path, "merge", "--quiet", "--no-ff", "--no-edit", f"issue-{issue.number}")
    for issue in repository.issues:
        assert [done.returncode for done in _check(repository, tmp_path, issue.number)] == [0, 0]


@pytest.mark.parametrize("repository", REPOSITORIES, ids=BY_NAME)
def test_the_same_commit_is_written_whatever_the_user_has_set(
    repository: DemoRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_repository(repository, tmp_path / "plain")
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\nname = Somebody\n[commit]\ngpgsign = true\n[core]\nhooksPath = /nowhere\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert write_repository(repository, tmp_path / "other") == plain
    monkeypatch.undo()
    assert _git(tmp_path / "other", "rev-parse", "main").strip() == plain
    assert _git(tmp_path / "other", "status", "--porcelain") == ""
    assert set(_git(tmp_path / "other", "ls-files", "-z").split("\0")[:-1]) == set(repository.files)


def test_a_folder_that_holds_something_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty"):
        write_repository(REPOSITORIES[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_machine_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="git is not installed"):
        write_repository(REPOSITORIES[0], tmp_path / "new")


def test_caches_that_a_python_left_do_not_belong_to_a_project() -> None:
    assert not [path for repository in REPOSITORIES for path in repository.files if "__pycache__" in path]

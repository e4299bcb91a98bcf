"""``bzzz forge`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.git_client import commit_file, git
from typer.testing import CliRunner

from bzzz.cli.forge import app
from bzzz.errors import UsageError

runner = CliRunner()


def run(data: Path, *arguments: str, stdin: str = "") -> str:
    result = runner.invoke(app, [*arguments, "--data", str(data)], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_repository_is_made_given_issues_and_listed(tmp_path: Path) -> None:
    run(tmp_path, "repo", "create", "team/shop", "--description", "A shop")
    run(tmp_path, "issue", "create", "team/shop", "--title", "Totals are wrong [red]", "--label", "bzzz-task")
    made = json.loads(
        run(
            tmp_path,
            "issue",
            "create",
            "team/shop",
            "--title",
            "t",
            "--body",
            "-",
            "--author",
            "ann",
            "--json",
            stdin="long text",
        )
    )
    assert (made["body"], made["user"]["login"], made["author_association"]) == ("long text", "ann", "COLLABORATOR")
    assert "Totals are wrong [red]" in run(tmp_path, "issue", "list", "team/shop", "--label", "bzzz-task")
    (repo,) = json.loads(run(tmp_path, "repo", "list", "--json"))
    assert (repo["repository"], repo["open_issues"]) == ("team/shop", 2)


def test_an_existing_repository_is_imported_under_its_folders_name(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "-b", "main", "shop")
    commit_file(tmp_path / "shop", "a", "b")
    out = run(tmp_path / "data", "import", str(tmp_path / "shop"), "--owner", "team")
    assert "/team/shop.git" in out.replace("\n", "")


def test_tables_fit_eighty_columns(tmp_path: Path) -> None:
    for n in range(3):
        run(tmp_path, "repo", "create", f"team/{'long-name-' * 9}{n}")
        run(tmp_path, "token", "create", "--label", "a label that is longer than anybody wants " * 2)
    for command in (("repo", "list"), ("token", "list")):
        assert max(map(len, run(tmp_path, *command).splitlines())) <= 80


def test_a_token_is_made_listed_without_its_secret_and_revoked(tmp_path: Path) -> None:
    out = tmp_path / "token"
    run(tmp_path / "d", "token", "create", "--scope", "read", "--out", str(out))
    secret = out.read_text().strip()
    assert secret.startswith("bzf_")
    assert out.stat().st_mode & 0o077 == 0
    assert secret not in run(tmp_path / "d", "token", "list", "--json")
    run(tmp_path / "d", "token", "revoke", "1")
    assert json.loads(run(tmp_path / "d", "token", "list", "--json"))[0]["revoked"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("repo", "create", "shop"),
        ("repo", "create", "../x/y"),
        ("issue", "list", "team/absent"),
        ("issue", "list", "team/absent", "--state", "odd"),
        ("token", "create", "--scope", "root"),
        ("token", "revoke", "9"),
        ("import", "/nowhere/at/all"),
        ("repo", "list", "--base-url", "nonsense"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*arguments, "--data", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [("import",), ("serve",), ("repo", "create"), ("repo", "list"), ("issue", "create"), ("issue", "list"),
     ("token", "create"), ("token", "list"), ("token", "revoke")],
)  # fmt: skip
def test_every_command_shows_an_example(command: tuple[str, ...]) -> None:
    assert "Example:" in runner.invoke(app, [*command, "--help"]).stdout

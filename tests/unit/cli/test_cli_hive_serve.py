"""What ``bzzz hive serve`` decides before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bzzz.cli.compose_hive import GITHUB_API_URL, GITHUB_URL, belongs
from bzzz.cli.hive import app
from bzzz.core.task import Repository
from bzzz.errors import SettingError, UsageError


@pytest.mark.parametrize(
    ("git_url", "api_url", "given"),
    [
        ("https://github.com/acme/shop.git", GITHUB_API_URL, True),
        ("https://evil.test/acme/shop.git", GITHUB_API_URL, False),
        ("https://github.com.evil.test/acme/shop.git", GITHUB_API_URL, False),
        ("http://github.com/acme/shop.git", GITHUB_API_URL, False),
        ("https://github.com/acme/shop.git", "https://evil.test/api/v3", False),
    ],
)
def test_a_token_is_given_only_where_both_addresses_are_its_forges(git_url: str, api_url: str, given: bool) -> None:
    repository = Repository(1, "shop", "acme", "shop", git_url, api_url)
    assert belongs(repository, GITHUB_API_URL, GITHUB_URL) is given


def serve(folder: Path, *arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, ["serve", "--data-dir", str(folder), *arguments]).exception


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_everywhere_needs_the_address_that_nodes_are_told(tmp_path: Path, host: str) -> None:
    error = serve(tmp_path, "--host", host)
    assert isinstance(error, SettingError)
    assert "--base-url" in str(error)


def test_a_secret_file_that_is_missing_is_said_before_anything_listens(tmp_path: Path) -> None:
    error = serve(tmp_path, "--github-token-file", str(tmp_path / "absent"))
    assert isinstance(error, SettingError)
    assert "absent" in str(error)


def test_help_says_how_to_begin() -> None:
    assert "Example: bzzz hive serve" in CliRunner().invoke(app, ["serve", "--help"]).stdout


def test_a_port_that_is_taken_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = serve(tmp_path, "--port", port)
    assert isinstance(error, UsageError)
    assert f"127.0.0.1:{port}" in str(error)
    assert "in use" in str(error)

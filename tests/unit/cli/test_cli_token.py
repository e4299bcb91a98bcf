"""A token goes to the host that it was written down for, and to no other, whatever a Hive says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.node_world import make_repository

from bzzz.cli.token import Tokens
from bzzz.config import load
from bzzz.errors import UsageError

GITHUB, LAN, BARE = "github-token", "lan-token", "bare-token"


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    for name in (GITHUB, LAN, BARE):
        (tmp_path / name).write_text(f"{name}\n")
    return Tokens(
        load(
            None,
            {},
            {
                "forge.token_file": str(tmp_path / GITHUB),
                "forge.token_files": {
                    "Git.Lan:3000": str(tmp_path / LAN),
                    "[::1]:8080": str(tmp_path / LAN),
                    "git.example": str(tmp_path / BARE),
                },
            },
        )
    )


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://github.com/acme/shop.git", GITHUB),
        ("https://GitHub.com:443/acme/shop.git", GITHUB),
        ("https://api.github.com", GITHUB),
        ("http://git.lan:3000/acme/shop.git", LAN),
        ("https://GIT.LAN:3000/acme/shop.git", LAN),
        ("http://[::1]:8080/a", LAN),
        ("https://git.example/a?b=c", BARE),
        ("https://git.example:443/a", BARE),
    ],
)
def test_a_host_gets_the_token_that_was_written_down_for_it(tokens: Tokens, url: str, token: str) -> None:
    repository = replace(make_repository(), git_url=url, api_url="https://elsewhere.example")
    assert tokens.for_git(repository) == token
    assert tokens.for_api(repository) is None
    swapped = replace(repository, git_url=repository.api_url, api_url=repository.git_url)
    assert (tokens.for_git(swapped), tokens.for_api(swapped)) == (None, token)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "github.com",
        "//github.com/a",
        "git@github.com:acme/shop.git",
        "ssh://github.com/a",
        "file:///github.com",
        "http://github.com/a",
        "https://github.com:8443/a",
        "https://github.com:0443x/a",
        "https://github.com:99999/a",
        "https://github.com.evil.example/a",
        "https://evil.example/github.com",
        "https://evil.example?github.com",
        "https://evil.example#github.com",
        "https://github.com@evil.example/a",
        "https://evil.example@github.com/a",
        "https://github.com:443@evil.example/a",
        "https://github.com%40evil.example/a",
        "https://github.com\\@evil.example/a",
        "https://evil.example\\@github.com/a",
        "https://evil.example\\.github.com/a",
        "https://github.com\t.evil.example/a",
        "https://git\nhub.com/a",
        "https://github.com\x00.evil.example/a",
        " https://github.com/a",
        "https://github.com /a",
        "https://github.com./a",
        "https://\uff47ithub.com/a",
        "https://g\u0131thub.com/a",
        "https://[github.com]/a",
        "http://git.lan/a",
        "http://git.lan:3001/a",
        "https://git.lan/a",
        "http://git.example/a",
        "http://git.example:6666/a",
        "https://git.example:6666/a",
        "http://[::1]:8081/a",
        "http://[::1",
    ],
)
def test_nobody_else_gets_any(tokens: Tokens, url: str) -> None:
    repository = replace(make_repository(), git_url=url, api_url=url)
    assert (tokens.for_git(repository), tokens.for_api(repository)) == (None, None)


def test_without_files_there_are_no_tokens() -> None:
    repository = replace(make_repository(), git_url="https://github.com/a/b.git")
    assert Tokens(load(None, {})).for_git(repository) is None


def test_githubs_token_can_be_among_the_others(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("t")
    tokens = Tokens(load(None, {}, {"forge.token_files": {"github.com": str(tmp_path / "t")}}))
    assert tokens.for_api(replace(make_repository(), api_url="https://api.github.com")) == "t"


def test_a_token_file_that_cannot_be_read_is_named_with_its_host(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none: the token for git\.lan:3000 cannot be read"):
        Tokens(load(None, {}, {"forge.token_files": {"git.lan:3000": str(tmp_path / "none")}}))

from __future__ import annotations

from typing import Any

import pytest

from bzzz.hive.project import Project, change_from, draft_from


def test_a_project_named_by_its_repository_alone_is_looked_for_on_the_forge_of_this_hive() -> None:
    fields = draft_from({"name": "shop", "github_repo": "acme/shop"}, "http://hive.test/forge/")
    assert fields["git_url"] == "http://hive.test/forge/acme/shop.git"
    assert (fields["owner"], fields["repository"]) == ("acme", "shop")
    assert fields["bzzz_enabled"] is True


def test_a_change_holds_only_what_was_given() -> None:
    assert change_from({"branch": "dev", "name": None}) == {"branch": "dev"}
    assert change_from({"bzzz_enabled": False}) == {"bzzz_enabled": False}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"git_url": "https://github.com/a/b"}, "name"),
        ({"name": "x\ny", "git_url": "https://github.com/a/b"}, "name"),
        ({"name": "shop"}, "git_url"),
        ({"name": "shop", "github_repo": "acme/../shop"}, "github_repo"),
        ({"name": "shop", "git_url": "https://bot:s3cret@github.com/a/b"}, "git_url"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "branch": "--force"}, "branch"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "forge": "svn"}, "forge"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "api_url": "javascript:alert(1)"}, "api_url"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "metadata": {"api_url": "file:///x"}}, "api_url"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "tags": ["a"] * 101}, "tags"),
        ({"name": "shop", "git_url": "https://github.com/a/b", "description": "\x00"}, "description"),
    ],
)
def test_a_wrong_field_is_named_and_a_password_is_not_repeated(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named}:") as caught:
        draft_from(fields, "https://github.com")
    assert "s3cret" not in str(caught.value)


def test_a_project_with_a_problem_is_no_repository() -> None:
    with pytest.raises(ValueError, match="no git address"):
        Project(1, "notes", problem="it has no git address").to_repository()

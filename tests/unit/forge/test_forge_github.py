"""Requests to GitHub's REST interface, and readers of what it answers."""

from __future__ import annotations

from typing import Any

import pytest

from bzzz.core.task import Repository
from bzzz.forge import github

REPO = Repository(1, "r", "o", "n", "", "https://forge.test/api/v3/")
PULL: dict[str, Any] = {
    "number": 7, "html_url": "u", "state": "closed", "title": "t", "merged_at": "2026-01-01T00:00:00Z",
    "head": {"ref": "work", "sha": "abc", "repo": {"full_name": "O/N"}}, "base": {"ref": "main"},
}  # fmt: skip


def test_what_is_put_into_an_address_is_quoted() -> None:
    request = github.remove_label(REPO, 3, "ui/ux #1?")
    assert (request.method, request.url) == (
        "DELETE", "https://forge.test/api/v3/repos/o/n/issues/3/labels/ui%2Fux%20%231%3F",
    )  # fmt: skip
    assert "head=o%3Ab%26state%3Dopen" in github.find_pulls(REPO, "b&state=open").url
    assert "labels=a%26b" in github.list_issues(REPO, "a&b").url


def test_only_reads_are_no_writes() -> None:
    assert not github.get_issue(REPO, 1).writes
    assert github.create_comment(REPO, 1, "x").writes
    assert github.remove_label(REPO, 1, "x").writes


def test_a_token_goes_into_the_header_and_nowhere_else() -> None:
    assert github.headers("secret", "agent")["Authorization"] == "Bearer secret"
    assert "Authorization" not in github.headers(None, "agent")
    assert github.headers(None, "agent", 'W/"x"')["If-None-Match"] == 'W/"x"'


def test_an_issue_with_fields_missing_or_null_is_read() -> None:
    issue = github.read_issue(
        {"number": 1, "title": "t", "state": "open", "body": None, "user": None, "labels": ["a"]}
    )
    assert (issue.body, issue.author, issue.association, issue.labels) == ("", "ghost", "NONE", ("a",))
    assert github.read_issue({"number": 1, "title": "t", "state": "open", "pull_request": {}}).is_pull


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {}, {"number": "1"}, {"number": True, "title": "t", "state": "open"},
     {"number": -1, "title": "t", "state": "open"}, {"number": 1, "title": 2, "state": "open"},
     {"number": 1, "title": "t", "state": "open", "labels": [5]}],
)  # fmt: skip
def test_what_is_no_issue_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not"):
        github.read_issue(value)


def test_a_merged_pull_request_is_read_from_a_listing() -> None:
    pull = github.read_pull(PULL)
    assert (pull.number, pull.merged, pull.head_commit) == (7, True, "abc")


def test_a_pull_request_of_a_fork_or_of_another_branch_is_not_ours() -> None:
    def headed(**head: object) -> dict[str, Any]:
        return {**PULL, "head": {**PULL["head"], **head}}

    theirs = [headed(ref="other"), headed(repo=None), headed(repo={"full_name": "fork/n"})]
    assert github.newest_pull(theirs, REPO, "work") is None
    found = github.newest_pull([*theirs, PULL, {**PULL, "number": 9}, {**PULL, "number": 8}], REPO, "work")
    assert found is not None
    assert found.number == 9


def test_a_marker_is_invisible_and_cannot_be_broken_out_of() -> None:
    marks = {github.marker(key) for key in ("a", "b", "--> x", "\n")}
    assert len(marks) == 4
    assert all(mark.startswith("<!-- bzzz:") and mark.count("--") == 2 for mark in marks)


def test_a_webhook_is_found_by_its_address() -> None:
    hooks = [{"id": 1, "config": {"url": "http://a/"}}, {"id": 2, "config": {"url": "http://b/"}}]
    assert github.find_hook(hooks, "http://b/") == 2
    assert github.find_hook(hooks, "http://c/") is None

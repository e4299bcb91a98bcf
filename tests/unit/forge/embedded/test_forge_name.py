"""Which names are names; refs are held against git's own judgement."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bzzz.forge.embedded import name
from bzzz.forge.embedded.refusal import Refusal


@given(st.text(alphabet="ab./-@{}~^:?*[\\ \x00\x7f\nlock", max_size=12).map(lambda tail: f"refs/heads/{tail}"))
@settings(max_examples=150, deadline=None)
def test_a_ref_that_passes_here_passes_git(ref: str) -> None:
    if name.is_ref(ref):
        assert subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0


@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/bzzz/claims/42", "refs/heads/bzzz/task-1-abc", "refs/tags/v1.0"]
)
def test_usual_refs_pass(ref: str) -> None:
    assert name.ref(ref) == ref


@pytest.mark.parametrize(
    "ref", ["main", "refs/main", "refs/heads/-x", "refs/heads/a..b", "refs/heads/x.lock", "HEAD", ""]
)
def test_others_do_not(ref: str) -> None:
    with pytest.raises(Refusal):
        name.ref(ref)


@pytest.mark.parametrize("owner", ["", "-a", "a-", "a--b", "a_b", "a/b", "..", "api", "a" * 40, "é", "a\n"])
def test_a_login_is_letters_digits_and_single_hyphens(owner: str) -> None:
    assert name.owner("a-b-9") == "a-b-9"
    with pytest.raises(Refusal):
        name.owner(owner)


@pytest.mark.parametrize("path", ["../x", "a/../b", ".git/config", "a//b", "a/./b", "x\x00y"])
def test_a_path_cannot_leave_its_tree(path: str) -> None:
    assert name.path("/a/b.txt") == "a/b.txt"
    with pytest.raises(Refusal):
        name.path(path)

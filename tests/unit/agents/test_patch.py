"""The agent without a model: which diff it takes, and what it refuses to apply."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent_fixture import DIFF, FILES, git, make_comment, make_issue, make_origin

from bzzz.agents.patch import DIFF_BYTES_MAX, Diff, apply_diff, find_diff
from bzzz.agents.workspace import Workspace

NEW_LINK = """\
diff --git a/l b/l
new file mode 120000
--- /dev/null
+++ b/l
@@ -0,0 +1 @@
+/etc
\\ No newline at end of file
"""
NEW_SUBMODULE = f"""\
diff --git a/s b/s
new file mode 160000
index 0000000..1111111
--- /dev/null
+++ b/s
@@ -0,0 +1 @@
+Subproject commit {"1" * 40}
"""
TWO_FILES = """\
--- a/answer.txt
+++ b/answer.txt
@@ -1 +1 @@
-open
+done
--- a/gone
+++ b/gone
@@ -1 +1 @@
-a
+b
"""
TRUSTED = ("OWNER", "MEMBER", "COLLABORATOR")


def _block(text: str) -> str:
    return f"```diff\n{text}\n```"


def test_the_newest_diff_of_a_maintainer_wins() -> None:
    comments = (
        make_comment(2, _block("two")),
        make_comment(4, _block("four"), association="NONE"),
        make_comment(3, "no diff"),
        make_comment(1, _block("one")),
    )
    found = find_diff(make_issue(DIFF), comments, TRUSTED)
    assert found == Diff("two\n", "comment 2 by someone")


def test_the_issues_own_diff_counts_only_from_a_maintainer() -> None:
    assert find_diff(make_issue(DIFF, association="CONTRIBUTOR"), (), TRUSTED) is None
    found = find_diff(make_issue(DIFF), (), TRUSTED)
    assert found is not None
    assert found.where == "the issue's text"


def test_blocks_of_another_kind_are_no_diff_and_several_are_one() -> None:
    assert find_diff(make_issue("```python\nx\n```"), (), TRUSTED) is None
    found = find_diff(make_issue(_block("a") + "\n\n```patch\nb\n```"), (), TRUSTED)
    assert found is not None
    assert found.text == "a\nb\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    origin = make_origin(tmp_path / "origin", {**FILES, "windows.txt": "a\r\nb\r\n"})
    folder = tmp_path / "a1"
    folder.mkdir()
    workspace = Workspace(folder, origin / ".git", git(origin, "rev-parse", "main"))
    workspace.prepare(branch="b", name="walnut", email="e")
    return workspace


def _apply(workspace: Workspace, text: str) -> str:
    return apply_diff(workspace.git, Diff(text, "comment 2"), workspace.base)


@pytest.mark.parametrize(
    "text",
    [
        "--- a/answer.txt\n+++ b/answer.txt\n@@ -1 +1 @@\n-open\n+done\n",
        "--- a/answer.txt\r\n+++ b/answer.txt\r\n@@ -1 +1 @@\r\n-open\r\n+done\r\n",
        "--- answer.txt\n+++ answer.txt\n@@ -1 +1 @@\n-open\n+done\n",
        "diff --git a/answer.txt b/moved.txt\nsimilarity index 100%\nrename from answer.txt\nrename to moved.txt\n",
        "--- /dev/null\n+++ b/new/file.txt\n@@ -0,0 +1 @@\n+new\n",
        "--- a/windows.txt\r\n+++ b/windows.txt\r\n@@ -1,2 +1,2 @@\r\n a\r\n-b\r\n+c\r\n",
    ],
)
def test_a_good_diff_is_applied(workspace: Workspace, text: str) -> None:
    assert _apply(workspace, text) == ""
    assert workspace.git.must("ls-files", "--others", "--modified") != b""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("--- a/answer.txt\n+++ b/answer.txt\n@@ -1 +1 @@\n-closed\n+done\n", "`answer.txt`, hunk `@@ -1 +1 @@`"),
        ("--- a/gone.txt\n+++ b/gone.txt\n@@ -1 +1 @@\n-a\n+b\n", "gone.txt: No such file"),
        ("--- a/answer.txt\n+++ b/answer.txt\n@@ -1,9 +1 @@\n-open\n", "corrupt patch"),
        ("hello\n", "No valid patches"),
        ("--- /dev/null\n+++ b/../../out.txt\n@@ -0,0 +1 @@\n+x\n", "out.txt"),
        ("--- /dev/null\n+++ b/.git/hooks/pre-commit\n@@ -0,0 +1 @@\n+x\n", ".git/hooks/pre-commit"),
        ("--- /dev/null\n+++ b/sub/.GIT/config\n@@ -0,0 +1 @@\n+x\n", ".GIT/config"),
        (NEW_LINK, "a symbolic link or a submodule"),
        (NEW_SUBMODULE, "a symbolic link or a submodule"),
        ("x" * (DIFF_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_a_diff_that_may_not_or_cannot_be_applied_is_a_question(workspace: Workspace, text: str, said: str) -> None:
    question = _apply(workspace, text)
    assert said in question
    assert "comment 2" in question
    assert workspace.git.must("ls-files", "--others", "--modified") == b""


def test_a_diff_does_not_write_through_a_link_of_the_tree(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.tree / "link").symlink_to(tmp_path)
    assert "beyond a symbolic link" in _apply(workspace, "--- /dev/null\n+++ b/link/out.txt\n@@ -0,0 +1 @@\n+x\n")
    assert not (tmp_path / "out.txt").exists()


def test_an_absolute_path_stays_in_the_tree(workspace: Workspace) -> None:
    assert _apply(workspace, "--- /dev/null\n+++ /etc/out.txt\n@@ -0,0 +1 @@\n+x\n") == ""
    assert not Path("/etc/out.txt").exists()
    assert (workspace.tree / "etc/out.txt").read_text() == "x\n"


def test_one_bad_file_leaves_the_good_ones_alone_too(workspace: Workspace) -> None:
    assert "gone" in _apply(workspace, TWO_FILES)
    assert (workspace.tree / "answer.txt").read_text() == "open\n"

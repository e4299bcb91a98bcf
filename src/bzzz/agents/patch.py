"""The agent without a model: it applies a diff that a maintainer wrote into the issue.

The diff stands in a fenced block marked ``diff`` or ``patch``, in the body of an issue or in a comment whose
author is a maintainer; the newest text that has one wins, and several blocks of one text are applied as one.
Git itself reads the diff and says which paths it touches; what would leave the tree, touch ``.git``, or make
a link or a submodule is refused. Where it does not apply, the answer is a question to a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bzzz.agents.check import fenced_blocks
from bzzz.agents.git import Git, is_git_name
from bzzz.agents.text import neutral
from bzzz.core.task import Comment, Issue

DIFF_BYTES_MAX = 1024 * 1024

_LINK_MODE = re.compile(
    rb"^(?:(?:new file|deleted file|old|new) mode|index [0-9a-f]+\.\.[0-9a-f]+) (?:120000|160000)\r?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Diff:
    """A diff as it was written, and where, in words."""

    text: str
    where: str


def find_diff(issue: Issue, comments: Sequence[Comment], trusted: Sequence[str]) -> Diff | None:
    """The newest diff by a maintainer; ``None`` where there is none."""
    texts = [(issue.association, issue.body, "the issue's text")]
    texts += [
        (
            comment.association,
            comment.body,
            f"comment {comment.id} by {neutral(comment.author, chars_max=80, lines=False)}",
        )
        for comment in sorted(comments, key=lambda comment: (comment.created_at, comment.id))
    ]
    for association, body, where in reversed(texts):
        if association not in trusted:
            continue
        blocks = [lines for _, language, lines in fenced_blocks(body) if language in {"diff", "patch"}]
        if blocks:
            return Diff("".join("\n".join(lines) + "\n" for lines in blocks), where)
    return None


def apply_diff(git: Git, diff: Diff, base: str) -> str:
    """Apply a diff to a clean work tree, entirely or not at all.

    Returns:
        an empty string where it was applied, else the question to ask.
    """
    if len(diff.text.encode("utf-8", "surrogatepass")) > DIFF_BYTES_MAX:
        return f"The diff in {diff.where} is larger than {DIFF_BYTES_MAX} bytes. Could you make it smaller?"
    first = ""
    # Forges store the text of a web form with CRLF; a repository whose files have CRLF wants just that.
    for text in dict.fromkeys((diff.text.replace("\r\n", "\n"), diff.text)):
        # Without git's a/ and b/ before the paths nothing is to be stripped from them.
        prefixed = re.search(r"^(?:--- a/|\+\+\+ b/|diff --git a/)", text, re.MULTILINE)
        for strip in ("-p1",) if prefixed else ("-p1", "-p0"):
            trouble = _try(git, text.encode("utf-8", "replace"), strip)
            if not trouble:
                return ""
            first = first or trouble
    return (
        f"The diff in {diff.where} does not apply to commit {base[:12]}: {first} "
        "Could you post a diff against that commit (git diff, in a block marked diff)?"
    )


def _try(git: Git, data: bytes, strip: str) -> str:
    listed = git.run("apply", "--numstat", "--summary", "-z", strip, "-", given=data)
    if not listed.ok:
        return _explain(listed.error, data)
    forbidden = _forbidden(listed.output, data)
    if forbidden:
        return forbidden
    applied = git.run("apply", "--whitespace=nowarn", strip, "-", given=data)
    return "" if applied.ok else _explain(applied.error, data)


def _forbidden(listing: bytes, data: bytes) -> str:
    """What of ``git apply --numstat --summary -z`` may not be: a reason, or nothing."""
    text = listing.decode("utf-8", "replace")
    if _LINK_MODE.search(data) or re.search(r"mode (120000|160000) | => (120000|160000)", text):
        return "it makes or changes a symbolic link or a submodule, which is not taken from a diff."
    for part in text.split("\0"):
        name = part.rsplit("\t", 1)[-1]
        steps = name.split("/")
        if name.startswith("/") or ".." in steps or any(is_git_name(step) for step in steps):
            return f"it touches `{neutral(name, chars_max=200, lines=False)}`, which a diff may not change."
    return ""


def _explain(error: str, data: bytes) -> str:
    """Git's complaint with the file and the hunk it is about."""
    failed = re.search(r"patch failed: (.+?):(\d+)(?= error:|$)", error)
    if failed:
        hunk = _hunk(data.decode("utf-8", "replace"), failed[1], int(failed[2]))
        return f"`{failed[1]}`, hunk `{hunk}` does not match."
    return f"{error.removeprefix('error: ') or 'git cannot read it'}."


def _hunk(text: str, path: str, line: int) -> str:
    current = ""
    for each in text.splitlines():
        if each.startswith("--- "):
            current = each
        head = re.match(r"@@ -(\d+)(,\d+)? \+\d+(,\d+)? @@", each)
        if head and int(head[1]) == line and (path in current or "/dev/null" in current):
            return head[0]
    return f"@@ -{line} @@"

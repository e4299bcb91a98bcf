"""Pull requests: between two branches of one repository, with real diffs and real merges.

A pull request's head stays readable as ``refs/pull/<n>/head`` when its branch goes. Merging makes the merge
in the object store (``git merge-tree``), then compare-and-swaps the base branch: no work tree, no checkout.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bzzz.forge.embedded import account, issue, repository
from bzzz.forge.embedded.account import Actor
from bzzz.forge.embedded.diff import FileChange, read_changes
from bzzz.forge.embedded.git import Git
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found

COMMITS_MAX = 250
"""GitHub's own bound for the commits of one pull request."""
REVIEWERS_MAX = 15
"""GitHub's own bound, as it was observed."""

_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--full-index")
_CLOSES = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+#(\d{1,9})\b", re.IGNORECASE)
_COLUMNS = (
    "SELECT issue.*, head_ref, head_sha, base_ref, base_sha, draft, merged_at, merged_by, merge_commit_sha"
    " FROM issue JOIN pull ON issue_id = issue.id WHERE "
)


def find(db: sqlite3.Connection, repo: sqlite3.Row, number: int) -> sqlite3.Row:
    """One pull request.

    Raises:
        Refusal: 404, also for an issue that is none.
    """
    row: sqlite3.Row | None = db.execute(
        f"{_COLUMNS} repository_id = ? AND number = ?",
        (repo["id"], number),
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def select(
    db: sqlite3.Connection, repo: sqlite3.Row, *, state: str = "open", head: str = "", base: str = "",
    ascending: bool = False, limit: int = 30, offset: int = 0,
) -> tuple[list[sqlite3.Row], int]:  # fmt: skip
    """One page of pull requests, newest first by default, and how many there are."""
    where, values = ["repository_id = ?"], [repo["id"]]
    for column, value in (("head_ref", head), ("base_ref", base), ("state", "" if state == "all" else state)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    condition = " AND ".join(where)
    total = db.execute(
        f"SELECT count(*) FROM issue JOIN pull ON issue_id = issue.id WHERE {condition}",  # noqa: S608
        values,
    ).fetchone()[0]
    way = "ASC" if ascending else "DESC"
    rows = db.execute(
        f"{_COLUMNS} {condition} ORDER BY number {way} LIMIT ? OFFSET ?",
        [*values, limit, offset],
    ).fetchall()
    return rows, int(total)


def head_branch(text: str, owner: str) -> str | None:
    """The branch of a head given as ``branch`` or ``owner:branch``; ``None`` where the owner is another."""
    who, colon, branch = text.partition(":")
    if not colon:
        return text
    return branch if who.lower() == owner.lower() else None


def reviewers(db: sqlite3.Connection, row: sqlite3.Row) -> list[str]:
    """Who is asked to review, by login."""
    rows = db.execute("SELECT login FROM reviewer WHERE issue_id = ? ORDER BY login", (row["id"],)).fetchall()
    return [found["login"] for found in rows]


def ask_reviewers(db: sqlite3.Connection, row: sqlite3.Row, logins: Sequence[str], now: str) -> None:
    """Ask people for a review; who was asked stays asked.

    Raises:
        Refusal: 422 for the author, and above ``REVIEWERS_MAX``.
    """
    for login in logins:
        if login.lower() == row["author"].lower():
            raise Refusal(422, "Review cannot be requested from pull request author.")
        account.ensure(db, login, now)
        db.execute("INSERT OR IGNORE INTO reviewer VALUES (?, ?)", (row["id"], login))
    if len(reviewers(db, row)) > REVIEWERS_MAX:
        raise Refusal(422, f"A pull request takes {REVIEWERS_MAX} reviewers at most.")


def check(git: Git, path: Path, base: str, head: str) -> tuple[str, str]:
    """The commits of both branches.

    Raises:
        Refusal: 422: a branch is missing, or there is nothing between them.
    """
    base_sha = repository.resolve(git, path, f"refs/heads/{base}^{{commit}}")
    if base_sha is None:
        raise invalid("PullRequest", "base", f"base is not a branch here: {base}", "invalid")
    head_sha = repository.resolve(git, path, f"refs/heads/{head}^{{commit}}")
    if head_sha is None:
        raise invalid("PullRequest", "head", f"head is not a branch here: {head}", "invalid")
    if git.run(path, "merge-base", "--is-ancestor", head_sha, base_sha).status == 0:
        raise invalid("PullRequest", "head", f"No commits between {base} and {head}")
    if git.run(path, "merge-base", base_sha, head_sha).status != 0:
        raise invalid("PullRequest", "head", f"The {head} branch has no history in common with {base}")
    return base_sha, head_sha


def add(
    db: sqlite3.Connection,
    repo: sqlite3.Row,
    actor: Actor,
    text: tuple[str, str],
    now: str,
    *,
    base: str,
    head: str,
    shas: tuple[str, str],
    draft: bool,
) -> sqlite3.Row:
    """Make a pull request; ``text`` is its title and body, ``shas`` are those of base and head.

    Raises:
        Refusal: 422, an open one from this head to this base exists.
    """
    twin, _ = select(db, repo, state="open", head=head, base=base, limit=1)
    if twin:
        message = f"A pull request already exists for {repo['owner']}:{head}."
        raise invalid("PullRequest", "head", message)
    row = issue.add(db, repo, actor, text, now, is_pull=True)
    db.execute(
        "INSERT INTO pull (issue_id, head_ref, head_sha, base_ref, base_sha, draft) VALUES (?, ?, ?, ?, ?, ?)",
        (row["id"], head, shas[1], base, shas[0], int(draft)),
    )
    return find(db, repo, row["number"])


def keep_head(git: Git, path: Path, number: int, sha: str) -> None:
    """Point ``refs/pull/<n>/head`` at the head, so that it outlives its branch."""
    git.text(path, "update-ref", f"refs/pull/{int(number)}/head", sha)


def _sides(git: Git, path: Path, row: sqlite3.Row) -> tuple[str, str]:
    """What a diff compares: the merge base (of the base as it was at the merge, if merged) and the head."""
    base = row["base_sha"]
    if row["state"] == "open":
        base = repository.resolve(git, path, f"refs/heads/{row['base_ref']}^{{commit}}") or base
    found = git.run(path, "merge-base", base, row["head_sha"])
    return (found.out.decode().strip() if found.status == 0 else base), row["head_sha"]


def diff(git: Git, path: Path, row: sqlite3.Row, bytes_max: int) -> bytes:
    """The whole diff, as ``git diff`` prints it.

    Raises:
        Refusal: 406 above ``bytes_max``.
    """
    return git.run(path, "diff", *_DIFF, *_sides(git, path, row), "--", output_bytes_max=bytes_max).out


def files(git: Git, path: Path, row: sqlite3.Row, bytes_max: int) -> list[FileChange]:
    """The diff file by file; patches are left out where all of them are above ``bytes_max``."""
    sides = _sides(git, path, row)
    raw = git.run(path, "diff", *_DIFF, "--raw", "--no-abbrev", "--numstat", "-z", *sides, "--").out
    try:
        text = diff(git, path, row, bytes_max)
    except Refusal:
        text = b""
    return read_changes(raw, text)


def commits(git: Git, path: Path, row: sqlite3.Row) -> list[repository.CommitInfo]:
    """Its commits, oldest first."""
    base, head = _sides(git, path, row)
    return repository.log(git, path, head, COMMITS_MAX, f"^{base}")[::-1]


def merged_tree(git: Git, path: Path, base_sha: str, head_sha: str) -> str | None:
    """The tree that merging gives, or ``None`` where people must settle a conflict."""
    done = git.run(path, "merge-tree", "--write-tree", "--no-messages", base_sha, head_sha)
    return done.out.decode().splitlines()[0].strip() if done.status == 0 else None


def merge(git: Git, path: Path, row: sqlite3.Row, actor: Actor, now: str, *, method: str, message: str) -> str:
    """Merge an open pull request's head into its base branch; gives the new commit.

    Raises:
        Refusal: 405 for a conflict or a method that is not offered; 409 when the base moved meanwhile.
    """
    if method not in ("merge", "squash"):
        raise Refusal(405, f"{method[:20]!r} merges are not allowed on this repository; use merge or squash")
    base_ref = f"refs/heads/{row['base_ref']}"
    base_sha = repository.resolve(git, path, f"{base_ref}^{{commit}}")
    if base_sha is None:
        raise Refusal(405, "Pull Request is not mergeable: its base branch is gone")
    tree = merged_tree(git, path, base_sha, row["head_sha"])
    if tree is None:
        raise Refusal(405, "Pull Request is not mergeable")
    parents = (base_sha,) if method == "squash" else (base_sha, row["head_sha"])
    commit = repository.commit_tree(git, path, tree, parents, message=message, who=actor.login, now=now)
    repository.update_ref(git, path, base_ref, commit, base_sha)
    return commit


def merge_message(repo: sqlite3.Row, row: sqlite3.Row, method: str, title: str, message: str | None) -> str:
    """The merge commit's message: as asked for, else as GitHub words it."""
    subject = title or f"Merge pull request #{row['number']} from {repo['owner']}/{row['head_ref']}"
    if not title and method == "squash":
        subject = f"{row['title']} (#{row['number']})"
    return f"{subject}\n\n{row['title'] if message is None else message}\n"


def closes(text: str) -> list[int]:
    """Issue numbers that a text closes by GitHub's keywords ("Fixes #12")."""
    return sorted({int(number) for number in _CLOSES.findall(text)})

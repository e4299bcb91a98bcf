"""Repositories: their rows and their bare folders, and what git says of refs, trees and commits in them.

A folder is named by the row's number, never by what somebody typed.
"""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bzzz.forge.embedded import account, name
from bzzz.forge.embedded.git import Git
from bzzz.forge.embedded.refusal import Refusal, invalid, not_found

BLOB_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit, as far as the API and the pages show it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    date: str
    message: str


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree; ``size_bytes`` is ``None`` for what is no file."""

    mode: str
    kind: str
    sha: str
    size_bytes: int | None
    path: str


def folder(root: Path, row: sqlite3.Row) -> Path:
    """Where a repository's bare git folder is."""
    return root / "repositories" / f"{int(row['id'])}.git"


def add(
    db: sqlite3.Connection, owner: str, title: str, now: str, *, description: str, branch: str, private: bool
) -> sqlite3.Row:
    """Make the row of a new repository.

    Raises:
        Refusal: 422 for a bad name, or one that exists.
    """
    name.branch(branch, "default_branch")
    login = account.ensure(db, owner, now, "Organization")["login"]
    try:
        cursor = db.execute(
            "INSERT INTO repository (owner, name, description, default_branch, private, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (login, name.repository(title), name.visible(description)[:350], branch, int(private), now, now),
        )
    except sqlite3.IntegrityError:
        raise invalid("Repository", "name", f"name already exists: {owner}/{title}") from None
    row: sqlite3.Row = db.execute("SELECT * FROM repository WHERE id = ?", (cursor.lastrowid,)).fetchone()
    return row


def find(db: sqlite3.Connection, owner: str, title: str) -> sqlite3.Row:
    """The row of ``owner/title``.

    Raises:
        Refusal: 404.
    """
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM repository WHERE owner = ? AND name = ?", (owner, title)
    ).fetchone()
    if row is None:
        raise not_found()
    return row


def init(git: Git, path: Path, branch: str) -> None:
    """Make an empty bare repository, without any template (so without any hook)."""
    path.mkdir(parents=True, mode=0o700)
    git.text(
        path, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", f"--initial-branch={branch}",
        str(path),
    )  # fmt: skip


def remove_folder(path: Path) -> None:
    """Delete a repository's folder."""
    shutil.rmtree(path, ignore_errors=True)


def refs(git: Git, path: Path, prefix: str) -> dict[str, str]:
    """Refs below ``prefix`` (``refs/heads/``) and the objects they point at, sorted by name."""
    out = git.text(path, "for-each-ref", "--format=%(objectname) %(refname)", "--", prefix)
    return {ref: sha for sha, _, ref in (line.partition(" ") for line in out.splitlines()) if ref}


def resolve(git: Git, path: Path, ref: str) -> str | None:
    """The object that a full, checked ref name points at."""
    done = git.run(path, "rev-parse", "--verify", "--quiet", "--end-of-options", ref)
    return done.out.decode().strip() if done.status == 0 else None


def resolve_commit(git: Git, path: Path, text: str, default: str) -> str:
    """The commit that a branch, tag, full ref or object id names; ``""`` stands for ``default``.

    Raises:
        Refusal: 404.
    """
    text = text or default
    tries = [f"refs/heads/{text}", f"refs/tags/{text}", text if text.startswith("refs/") else f"refs/{text}"]
    spec = [ref for ref in tries if name.is_ref(ref)]
    if len(text) == 40 and all(c in "0123456789abcdef" for c in text):
        spec.append(text)
    for ref in spec:
        found = resolve(git, path, f"{ref}^{{commit}}")
        if found is not None:
            return found
    raise not_found()


def update_ref(git: Git, path: Path, ref: str, new: str, old: str) -> None:
    """Compare-and-swap one ref (``old`` all zeros: it must not exist; ``new`` all zeros: delete it).

    Raises:
        Refusal: 409, it has moved or git will not.
    """
    line = f"delete {ref} {old}\n" if new == "0" * 40 else f"update {ref} {new} {old}\n"
    done = git.run(path, "update-ref", "--stdin", stdin=line.encode())
    if done.status != 0:
        raise Refusal(409, f"{ref} was not updated: {done.complaint}")


_LOG_FORMAT = "%H%x00%T%x00%P%x00%an%x00%ae%x00%cI%x00%B%x00%x01"


def log(git: Git, path: Path, start: str, count_max: int, *extra: str) -> list[CommitInfo]:
    """Commits from ``start`` backwards, at most ``count_max``."""
    done = git.run(
        path, "log", f"--max-count={count_max}", f"--format={_LOG_FORMAT}", *extra, "--end-of-options", start, "--"
    )
    if done.status != 0:
        raise not_found()
    commits = []
    for block in done.out.decode("utf-8", "replace").split("\x01"):
        fields = block.lstrip("\n").split("\x00")
        if len(fields) >= 7:
            sha, tree, parents, author, email, date, message = fields[:7]
            commits.append(CommitInfo(sha, tree, tuple(parents.split()), author, email, date, message.strip()))
    return commits


def tree(git: Git, path: Path, commit: str, inside: str) -> list[TreeEntry]:
    """The entry at ``inside``, or the entries of the folder there.

    Raises:
        Refusal: 404.
    """
    spec = f"{commit}:{inside}"
    kind = git.run(path, "cat-file", "-t", spec)
    if kind.status != 0:
        raise not_found()
    if kind.out.strip() == b"tree":
        done = git.run(path, "ls-tree", "-z", "--long", spec)
    else:
        done = git.run(path, "ls-tree", "-z", "--long", "--full-tree", commit, "--", inside)
    entries = []
    for line in done.out.decode("utf-8", "replace").split("\0"):
        meta, tab, found = line.partition("\t")
        if tab:
            mode, what, sha, size = meta.split()
            full = f"{inside}/{found}" if inside and kind.out.strip() == b"tree" else found
            entries.append(TreeEntry(mode, what, sha, int(size) if size.isdigit() else None, full))
    return entries


def blob(git: Git, path: Path, sha: str) -> bytes:
    """A file's content.

    Raises:
        Refusal: 403 when it is above ``BLOB_BYTES_MAX``, as GitHub does; 404.
    """
    size = git.run(path, "cat-file", "-s", sha)
    if size.status != 0:
        raise not_found()
    if int(size.out) > BLOB_BYTES_MAX:
        raise Refusal(403, f"this file is larger than {BLOB_BYTES_MAX} bytes; use git to read it")
    return git.run(path, "cat-file", "blob", sha).out


def seed(git: Git, path: Path, branch: str, files: dict[str, str], *, message: str, now: str) -> str:
    """Make the first commit of an empty repository from ``files`` (path to text).

    Raises:
        Refusal: 404 for a path that no tree can hold; 409 when the branch exists.
    """
    lines = []
    for each, content in sorted(files.items()):
        checked = name.path(each)
        sha = git.text(path, "hash-object", "-w", "--stdin", stdin=content.encode())
        mode = "100755" if content.startswith("#!") else "100644"
        lines.append(f"{mode} {sha}\t{checked}\0")
    index = path / "seed.index"
    extra = {"GIT_INDEX_FILE": str(index)}
    try:
        git.text(path, "update-index", "-z", "--index-info", stdin="".join(lines).encode(), extra=extra)
        tree_id = git.text(path, "write-tree", extra=extra)
    finally:
        index.unlink(missing_ok=True)
    commit = commit_tree(git, path, tree_id, (), message=message, who="bzzz forge", now=now)
    update_ref(git, path, f"refs/heads/{branch}", commit, "0" * 40)
    return commit


def commit_tree(
    git: Git, path: Path, tree_id: str, parents: tuple[str, ...], *, message: str, who: str, now: str
) -> str:
    """Write a commit object and give its id."""
    person = {"NAME": who, "EMAIL": f"{who.replace(' ', '-')}@forge.invalid", "DATE": now}
    extra = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
    parent_flags = [flag for parent in parents for flag in ("-p", parent)]
    return git.text(path, "commit-tree", *parent_flags, tree_id, stdin=message.encode(), extra=extra)

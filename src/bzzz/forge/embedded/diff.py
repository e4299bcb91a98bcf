"""Reading git's diffs: per-file counts and patches, as GitHub's ``files`` and the pages show them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a diff. ``patch`` begins at the first hunk and is empty for a binary file."""

    path: str
    previous: str | None
    status: str
    sha: str
    additions: int
    deletions: int
    patch: str


def read_changes(raw: bytes, diff: bytes) -> list[FileChange]:
    """Join ``git diff --raw --numstat -z`` with ``git diff`` of the same two sides.

    Git lists the files of both in one order, which is what pairs a patch with its file.
    """
    fields = raw.decode("utf-8", "replace").split("\0")
    metas: list[tuple[str, str, str | None, str]] = []
    counts: list[tuple[int, int]] = []
    at = 0
    while at < len(fields) and fields[at]:
        if fields[at].startswith(":"):
            parts = fields[at].split(" ")
            kind = parts[4][:1]
            if kind in "RC":
                metas.append((_STATUS[kind], parts[3], fields[at + 1], fields[at + 2]))
                at += 3
            else:
                sha = parts[2] if kind == "D" else parts[3]
                metas.append((_STATUS.get(kind, "changed"), sha, None, fields[at + 1]))
                at += 2
            continue
        plus, minus, path = fields[at].split("\t", 2)
        counts.append((int(plus) if plus.isdigit() else 0, int(minus) if minus.isdigit() else 0))
        at += 1 if path else 3
    patches = split_patches(diff.decode("utf-8", "replace"))
    if len(patches) != len(metas):
        patches = [""] * len(metas)
    return [
        FileChange(path, previous, status, sha, plus, minus, _hunks(patch))
        for (status, sha, previous, path), (plus, minus), patch in zip(metas, counts, patches, strict=True)
    ]


def split_patches(diff: str) -> list[str]:
    """A diff cut at each file's ``diff --git`` line; no line of content begins like that."""
    pieces: list[list[str]] = []
    for line in diff.split("\n"):
        if line.startswith("diff --git "):
            pieces.append([])
        if pieces:
            pieces[-1].append(line)
    return ["\n".join(piece) for piece in pieces]


def _hunks(patch: str) -> str:
    at = patch.find("\n@@ ")
    return patch[at + 1 :].rstrip("\n") if at >= 0 else ""

"""Brings an existing repository's branches and tags into the forge without trusting it.

Git never runs inside the source: its configuration, hooks and attributes could start programs. Its refs
are copied as plain files into a scratch repository of our own, its objects are read as data (alternates),
then everything reachable is repacked here and the link to the source is cut.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bzzz.errors import UsageError
from bzzz.forge.embedded import name
from bzzz.forge.embedded.git import Git
from bzzz.forge.embedded.refusal import Refusal

REFS_BYTES_MAX = 64 * 1024 * 1024
POINTER_BYTES_MAX = 4096
_LOOSE = re.compile(rb"(?:ref: (refs/[^\n]+)|([0-9a-f]{40}))\n?")
_PACKED = re.compile(rb"([0-9a-f]{40}) (refs/(?:heads|tags)/[^\n]+)")


def git_folder(path: Path) -> Path:
    """The git folder of a work tree, a linked work tree or a bare repository.

    Raises:
        UsageError: there is none.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UsageError(f"{path} is no folder; name a git repository")
    inner = path / ".git"
    if inner.is_file():
        text = _small(inner)
        if not text.startswith("gitdir: "):
            raise UsageError(f"{inner} does not say where its repository is")
        path = (path / text.removeprefix("gitdir: ")).resolve()
        common = path / "commondir"
        if common.is_file():
            path = (path / _small(common)).resolve()
    elif inner.is_dir():
        path = inner
    if not (path / "objects").is_dir() or not (path / "HEAD").is_file():
        raise UsageError(f"{path} is no git repository (it has no objects or no HEAD)")
    return path.resolve()


def read_refs(source: Path) -> tuple[dict[str, str], str]:
    """Branches and tags of a git folder, and the branch that HEAD names (``""`` for none).

    Raises:
        UsageError: the refs are kept in a form that is not files, or are too many.
    """
    if (source / "reftable").exists():
        raise UsageError(f"{source} keeps its refs as a reftable; convert it first (git refs migrate)")
    found: dict[str, str] = {}
    packed = source / "packed-refs"
    if packed.is_file() and not packed.is_symlink():
        if packed.stat().st_size > REFS_BYTES_MAX:
            raise UsageError(f"{packed} is larger than {REFS_BYTES_MAX} bytes")
        for line in packed.read_bytes().splitlines():
            match = _PACKED.fullmatch(line)
            if match:
                found[match[2].decode("utf-8", "replace")] = match[1].decode()
    for kind in ("heads", "tags"):
        for root, _folders, files in os.walk(source / "refs" / kind):
            for each in files:
                file = Path(root) / each
                match = None if file.is_symlink() else _LOOSE.fullmatch(file.open("rb").read(POINTER_BYTES_MAX))
                if match and match[2]:
                    found[file.relative_to(source).as_posix()] = match[2].decode()
    head = _LOOSE.fullmatch((source / "HEAD").open("rb").read(POINTER_BYTES_MAX))
    branch = head[1].decode("utf-8", "replace") if head and head[1] else ""
    return {ref: sha for ref, sha in found.items() if name.is_ref(ref)}, branch.removeprefix("refs/heads/")


def default_branch(refs: dict[str, str], head: str) -> str:
    """The branch that HEAD names where it exists, else main, master, or the first."""
    branches = sorted(ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/"))
    for wanted in (head, "main", "master"):
        if wanted in branches:
            return wanted
    return branches[0] if branches else "main"


def copy(git: Git, source: Path, target: Path, refs: dict[str, str]) -> None:
    """Fill the empty bare repository ``target`` with ``refs`` and all that they reach.

    Raises:
        UsageError: the source is shallow, or objects are missing or broken.
    """
    if (source / "shallow").exists():
        raise UsageError(f"{source} is a shallow clone; complete it first (git fetch --unshallow)")
    alternates = target / "objects" / "info" / "alternates"
    alternates.parent.mkdir(parents=True, exist_ok=True)
    objects = str((source / "objects").resolve())
    if "\n" in objects or objects.startswith(("#", '"')):
        raise UsageError(f"{source} cannot be imported from a folder with such a name; move it first")
    alternates.write_text(objects + "\n")
    lines = "".join(f"create {ref} {sha}\n" for ref, sha in sorted(refs.items()))
    try:
        if refs:
            git.text(target, "update-ref", "--stdin", stdin=lines.encode())
        git.text(target, "repack", "-a", "-d", "-q")
        alternates.unlink()
        git.text(target, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    except Refusal as error:
        raise UsageError(f"{source} could not be imported, something in it is missing or broken: {error}") from None


def _small(file: Path) -> str:
    return file.open("rb").read(POINTER_BYTES_MAX).decode("utf-8", "replace").strip()

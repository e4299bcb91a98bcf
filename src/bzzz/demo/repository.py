"""The demo's repositories and their issues, read from real files beside this module.

``content/<name>/files`` is a small Python project as its maintainers would publish it, and
``content/<name>/issues`` holds its issues as ``<number>.md`` (``title:`` and ``labels:`` lines, ``---``, the body)
and ``<number>.patch`` (the maintainers' diff, which resolves the issue and is put at the body's end). The number is
the one that a forge gives where issues are created in the order told here. Each project's ``.bzzz.toml`` names a
check that fails for every issue until it is resolved. What a forge or a node makes of all this is theirs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from bzzz.errors import UsageError

BRANCH = "main"
AUTHOR = "Demo maintainers"
EMAIL = "maintainers@demo.invalid"
WRITTEN_AT = "2026-01-05T09:00:00+00:00"  # fixed, so that the commit is the same one everywhere

_LEFT_OUT = frozenset({"__pycache__"})
_PATCH_HEADING = "## Proposed patch"


@dataclass(frozen=True, slots=True)
class DemoIssue:
    """One issue, as it is to be created; ``patch`` is the unified diff that ``body`` ends with."""

    number: int
    title: str
    body: str
    labels: tuple[str, ...]
    patch: str


@dataclass(frozen=True, slots=True)
class DemoRepository:
    """One project: its files by path, and its issues in the order in which they are to be created."""

    name: str
    description: str
    files: Mapping[str, bytes]
    issues: tuple[DemoIssue, ...]


def demo_repositories() -> tuple[DemoRepository, ...]:
    """All projects of the demo, by name."""
    content = resources.files("bzzz.demo") / "content"
    return tuple(_repository(one) for one in sorted(content.iterdir(), key=lambda one: one.name) if one.is_dir())


def write_repository(repository: DemoRepository, folder: Path) -> str:
    """Make a git repository of a project: a work tree in ``folder`` with one commit on ``main``.

    The commit depends on the files alone, not on the machine, its user or its git settings.

    Args:
        repository: what to write.
        folder: a folder that does not exist yet, or is empty.

    Returns:
        the commit.

    Raises:
        UsageError: the folder holds something, or git cannot be run there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a folder that is, or one that does not exist")
    for path, data in repository.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    _git(folder, "init", "--quiet", "--template=", f"--initial-branch={BRANCH}")
    # Forced, and without attributes: what is committed is what was read, whatever the project itself ignores.
    _git(folder, "-c", "core.autocrlf=false", "add", "--force", "--all")
    _git(folder, "commit", "--quiet", f"--message={repository.description}")
    return _git(folder, "rev-parse", "HEAD").strip()


def _git(folder: Path, *arguments: str) -> str:
    """Run git without any setting of this machine; returns what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": AUTHOR,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_AUTHOR_DATE": WRITTEN_AT,
        "GIT_COMMITTER_NAME": AUTHOR,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "GIT_COMMITTER_DATE": WRITTEN_AT,
    }
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], env=env, capture_output=True, check=True)
    except FileNotFoundError:
        raise UsageError("git is not installed, or not on the PATH; install it") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"git {arguments[0]} in {folder} failed: {said[-1] if said else error}") from None
    return done.stdout.decode()


def _repository(content: Traversable) -> DemoRepository:
    files = dict(sorted(_files(content / "files", "")))
    readme = files["README.md"].decode()
    paragraphs = [part for part in readme.split("\n\n") if part and not part.startswith("#")]
    description = " ".join(paragraphs[0].split()).split(". ")[0].removesuffix(".")
    found = (content / "issues").iterdir()
    numbers = sorted(int(one.name.removesuffix(".md")) for one in found if one.name.endswith(".md"))
    issues = tuple(_issue(content / "issues", number) for number in numbers)
    return DemoRepository(content.name, description, MappingProxyType(files), issues)


def _files(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    """Every file below ``folder`` with its path; caches that a Python left there do not belong to it."""
    found = []
    for one in folder.iterdir():
        if one.name in _LEFT_OUT:
            continue
        if one.is_dir():
            found += _files(one, f"{prefix}{one.name}/")
        else:
            found.append((prefix + one.name, one.read_bytes()))
    return found


def _issue(folder: Traversable, number: int) -> DemoIssue:
    head, _, body = (folder / f"{number}.md").read_text(encoding="utf-8").partition("\n---\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    patch = (folder / f"{number}.patch").read_text(encoding="utf-8")
    whole = f"{body}\n{_PATCH_HEADING}\n\nIt applies to `{BRANCH}`.\n\n```diff\n{patch}```\n"
    return DemoIssue(number, fields["title"], whole, tuple(fields["labels"].split(", ")), patch)

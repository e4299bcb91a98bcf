"""Real bare git repositories on disk, made and looked into with the git program, for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@test.invalid",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@test.invalid",
}


def git(git_dir: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git on a repository; returns what it wrote, or fails the test with what it complained of."""
    finished = try_git(git_dir, *arguments, stdin=stdin)
    assert finished.returncode == 0, f"git {' '.join(arguments)}: {finished.stderr.decode()}"
    return finished.stdout.decode()


def try_git(git_dir: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run git on a repository, whatever comes of it."""
    return subprocess.run(
        ["git", f"--git-dir={git_dir}", *arguments], input=stdin, capture_output=True, env=ENVIRONMENT, check=False
    )


@dataclass(frozen=True, slots=True)
class BareRepository:
    """One bare repository with a commit on ``main``."""

    path: Path

    @classmethod
    def create(cls, path: Path, files: Mapping[str, bytes] | None = None) -> BareRepository:
        """Make it, with ``files`` in its first commit, open to pushes over HTTP."""
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(path))
        with (path / "config").open("a") as config:
            config.write("[http]\n\treceivepack = true\n[receive]\n\tautogc = false\n")
        repository = cls(path)
        repository.commit("refs/heads/main", files or {"README": b"hello\n"})
        return repository

    def commit(
        self, ref: str, files: Mapping[str, bytes], parent: str | None = None, into: Path | None = None
    ) -> str:
        """Make a commit, with nothing but plumbing, and point ``ref`` at it; returns its id."""
        where = into or self.path
        lines = [f"commit {ref}\ncommitter tester <tester@test.invalid> 0 +0000\ndata 2\nx\n".encode()]
        if parent is not None:
            lines.append(f"from {parent}\n".encode())
        for name, data in files.items():
            lines.append(f"M 100644 inline {name}\ndata {len(data)}\n".encode() + data + b"\n")
        git(where, "fast-import", "--quiet", "--force", stdin=b"".join(lines))
        return git(where, "rev-parse", ref).strip()

    def refs(self) -> dict[str, str]:
        """All refs, name to object id."""
        lines = git(self.path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ") for line in lines)

    def set_ref(self, ref: str, value: str) -> None:
        git(self.path, "update-ref", ref, value)

    def configure(self, key: str, value: str) -> None:
        git(self.path, "config", key, value)

    def hook(self, name: str, script: str) -> None:
        """Install a hook, as an administrator of the server would."""
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def leave_lock(self, ref: str) -> Path:
        """Leave the lock file that a git server killed just now, in the middle of a push, leaves."""
        lock = self.path / f"{ref}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        return lock

    def work_copy(self, path: Path) -> Path:
        """A repository of one's own that has this one's objects by alternates."""
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--bare", "--template=", str(path))
        info = path / "objects" / "info"
        info.mkdir(exist_ok=True)
        (info / "alternates").write_text(f"{self.path / 'objects'}\n")
        return path

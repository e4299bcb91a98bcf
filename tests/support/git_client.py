"""The git program as a user has it, for tests: an own identity, no configuration from this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git_environment() -> dict[str, str]:
    """Nothing of this machine's configuration, and never a prompt."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "walnut",
        "GIT_AUTHOR_EMAIL": "walnut@mesh.invalid",
        "GIT_COMMITTER_NAME": "walnut",
        "GIT_COMMITTER_EMAIL": "walnut@mesh.invalid",
    }


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in ``folder``, whatever comes of it."""
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=git_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder``; it must succeed; gives its output."""
    done = run_git(folder, *arguments)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def commit_file(folder: Path, name: str, text: str, message: str = "change") -> str:
    """Write a file, commit it, give the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "--", name)
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD")

"""The git program, run so that nothing a repository holds can make it run another program.

A repository that an agent touched is hostile: ``core.fsmonitor``, hooks, filters, a ``.git`` file that
points elsewhere or a nested repository would execute at the next careless git command. So every command
names its git directory and its work tree, takes configuration from the command line alone, and starts from
an empty environment. Git directories used here are ones that no agent can write; keeping them so is the
part of ``workspace``, which also takes nested repositories out of the tree before git looks at it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bzzz.agents.text import neutral
from bzzz.errors import AgentError

GIT_S_MAX = 600.0
GIT_ERROR_CHARS_MAX = 600
CHUNK_BYTES = 64 * 1024

# Each of these has run, or could run, a program or leave the git directory that was named.
_HARDENED = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.untrackedCache": "false",
    "core.pager": "cat",
    "core.askPass": "",
    "core.alternateRefsCommand": "",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.safecrlf": "false",
    "core.logAllRefUpdates": "false",
    "core.sshCommand": "false",
    "credential.helper": "",
    "diff.external": "",
    "diff.ignoreSubmodules": "all",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.addEmbeddedRepo": "false",
}

_HFS_IGNORED = "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206b\u206c\u206d\u206e\u206f\ufeff"


def is_git_name(name: str) -> bool:
    """Whether some file system would take a file of this name for ``.git``.

    The rules are those of git's ``core.protectHFS`` and ``core.protectNTFS``: letter case, ignored
    characters, the short name ``git~1``, trailing dots and spaces, alternate data streams.
    """
    plain = "".join(c for c in name if c not in _HFS_IGNORED).lower()
    plain = plain.split(":", 1)[0].rstrip(". ")
    return plain in {".git", "git~1"}


def git_environment(extra: Mapping[str, str] | None = None, *, path: str | None = None) -> dict[str, str]:
    """The environment of every git command: nothing inherited but the search path."""
    return {
        "PATH": path or os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        **(extra or {}),
    }


def git_command(git_dir: Path, work_tree: Path | None, arguments: Sequence[str]) -> list[str]:
    """The argument list of a hardened git command."""
    command = ["git", "--no-pager", "--no-replace-objects", f"--git-dir={git_dir}"]
    if work_tree is not None:
        command.append(f"--work-tree={work_tree}")
    for key, value in _HARDENED.items():
        command += ["-c", f"{key}={value}"]
    return [*command, *arguments]


@dataclass(frozen=True, slots=True)
class GitResult:
    """How a git command ended."""

    status: int
    output: bytes
    error: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0


@dataclass(frozen=True, slots=True)
class GitBeginning:
    """The beginning of what a git command said; ``size_bytes`` and ``entries`` (ended by NUL) are of all of it."""

    output: bytes
    size_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Git:
    """One git directory that no agent writes, and at most one work tree.

    ``index`` names another index file than the git directory's own.
    """

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = GIT_S_MAX,
    ) -> GitResult:
        """Run one command to its end; an unsuccessful status is an answer, not an error.

        Raises:
            AgentError: git is missing, or did not end within ``timeout_s``.
        """
        extra = dict(environment or {})
        if self.index is not None:
            extra["GIT_INDEX_FILE"] = str(self.index)
        try:
            done = subprocess.run(
                git_command(self.git_dir, self.work_tree, arguments),
                input=given,
                capture_output=True,
                env=git_environment(extra),
                cwd=self.work_tree or self.git_dir,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            if self.git_dir.is_dir() and (self.work_tree is None or self.work_tree.is_dir()):
                raise AgentError("the git program is missing: install git and have it in PATH") from error
            raise AgentError(f"the folder {self.work_tree or self.git_dir} is gone") from error
        except subprocess.TimeoutExpired as error:
            raise AgentError(f"git {arguments[0]} in {self.git_dir} did not end within {timeout_s:g} s") from error
        return GitResult(done.returncode, done.stdout, readable_error(done.stderr))

    def must(self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """Run one command that has to succeed; its output.

        Raises:
            AgentError: it failed; the message holds git's own words.
        """
        result = self.run(*arguments, given=given, environment=environment)
        if not result.ok:
            raise AgentError(f"git {arguments[0]} in {self.git_dir} failed: {result.error or result.status}")
        return result.output

    def beginning(self, *arguments: str, bytes_max: int, timeout_s: float = GIT_S_MAX) -> GitBeginning:
        """Run one command that has to succeed; what it says above ``bytes_max`` is counted and not kept.

        Raises:
            AgentError: it failed, or did not end within ``timeout_s``.
        """
        kept, size_bytes, entries = bytearray(), 0, 0
        try:
            with (
                tempfile.TemporaryFile() as errors,
                subprocess.Popen(
                    git_command(self.git_dir, self.work_tree, arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=git_environment(),
                    cwd=self.work_tree or self.git_dir,
                ) as process,
            ):
                watch = threading.Timer(timeout_s, process.kill)
                watch.start()
                try:
                    while process.stdout is not None and (chunk := process.stdout.read(CHUNK_BYTES)):
                        size_bytes += len(chunk)
                        entries += chunk.count(0)
                        kept += chunk[: bytes_max - len(kept)]
                    status = process.wait()
                finally:
                    watch.cancel()
                    process.kill()
                errors.seek(0)
                said = readable_error(errors.read(CHUNK_BYTES))
        except OSError as error:
            raise AgentError(f"git {arguments[0]} in {self.git_dir} could not be run: {error}") from error
        if status != 0:
            raise AgentError(f"git {arguments[0]} in {self.git_dir} failed: {said or status}")
        return GitBeginning(bytes(kept), size_bytes, entries)

    def word(self, *arguments: str) -> str:
        """The one word that a command prints."""
        return self.must(*arguments).decode("ascii", "replace").strip()


def readable_error(data: bytes) -> str:
    """What git wrote to its error output, on one bounded line."""
    return neutral(data.decode("utf-8", "replace"), chars_max=GIT_ERROR_CHARS_MAX, lines=False)


def make_git_dir(git_dir: Path, *, alternates: Sequence[Path], config: str, head: str) -> None:
    """Lay out a git directory by hand: no templates, no hooks, objects borrowed from ``alternates``.

    Args:
        git_dir: a folder that does not exist yet.
        alternates: ``objects`` folders of other repositories.
        config: the whole text of its ``config`` file.
        head: what ``HEAD`` holds: a commit, or ``ref: refs/heads/...``.

    Raises:
        OSError: it cannot be written.
    """
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (git_dir / name).mkdir(parents=True)
    lines = "".join(f"{_alternate(path)}\n" for path in alternates)
    (git_dir / "objects/info/alternates").write_text(lines, encoding="utf-8", errors="surrogateescape")
    (git_dir / "config").write_text(config, encoding="utf-8")
    (git_dir / "HEAD").write_text(f"{head}\n", encoding="utf-8")


def _alternate(path: Path) -> str:
    text = str(path)
    if "\n" in text or text.startswith(("#", '"')):
        raise OSError(f"the folder {text!r} cannot be named in git's list of alternates")
    return text

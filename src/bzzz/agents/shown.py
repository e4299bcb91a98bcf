"""What an attempt shows of itself afterwards: the prompt, what the agent said last, the diff and the files.

It is for people who read what agents did, so it is bounded, already while it is read, and says what was left out.
The agent's own secrets are taken out here, since nobody else knows them; Hive takes out what looks like one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bzzz.agents.git import Git
from bzzz.agents.text import Redactor, neutral
from bzzz.agents.workspace import Workspace
from bzzz.errors import AgentError
from bzzz.ports import AttemptSpec

PROMPT_BYTES_MAX = 48 * 1024
ANSWER_BYTES_MAX = 16 * 1024
DIFF_BYTES_MAX = 64 * 1024
FILE_BYTES_MAX = 32 * 1024
FILES_BYTES_MAX = 96 * 1024
FILES_MAX = 50
NAME_CHARS_MAX = 300
PATH_BYTES_MAX = 4096
SECRET_FILE_BYTES_MAX = 64 * 1024
SHOWN_BYTES_MAX = 320 * 1024
"""All of it as JSON; the event that carries it is bounded too (``spec.EVENT_BYTES_MAX``)."""


def show(spec: AttemptSpec, workspace: Workspace, commit: str | None, message: str) -> Mapping[str, Any]:
    """What there is to show; empty where nothing can be read.

    Args:
        spec: the attempt.
        workspace: its files.
        commit: what it made, if anything.
        message: that commit's message.
    """
    shown: dict[str, Any] = {}
    plain = _Plain(spec)
    with contextlib.suppress(OSError, AgentError):
        shown["prompt"] = _head(workspace.folder / "prompt.md", PROMPT_BYTES_MAX, plain)
        shown["answer"] = _tail(workspace.folder / "agent.log", ANSWER_BYTES_MAX, plain)
        if commit is not None:
            shown["commit_message"] = message
            shown |= _work(workspace, commit, plain)
    for key in ("files", "diff", "answer", "prompt"):
        if len(json.dumps(shown)) > SHOWN_BYTES_MAX:
            shown.pop(key, None)
            shown["left_out"] = [*shown.get("left_out", []), key]
    return {key: value for key, value in shown.items() if value}


class _Plain:
    """Text without this agent's secrets, and cut to a length.

    A cut through a secret would leave half of one that nothing recognises. So ``margin_bytes`` more than is kept is
    looked at, and given up again at the end that was cut.
    """

    def __init__(self, spec: AttemptSpec) -> None:
        files = spec.agent.get("env_files", {})
        self._secrets: list[str] = []
        for path in files.values() if isinstance(files, Mapping) else ():
            with contextlib.suppress(OSError), Path(str(path)).open("rb") as file:
                self._secrets.append(file.read(SECRET_FILE_BYTES_MAX).decode("utf-8", "replace").strip())
        self.margin_bytes = max((len(secret.encode()) for secret in self._secrets), default=0)

    def text(self, data: bytes) -> str:
        return self._clean(data).decode("utf-8", "replace")

    def head(self, data: bytes, size_bytes: int, bytes_max: int) -> str:
        """The beginning; ``data`` holds it and the margin, of ``size_bytes`` in all."""
        clean = self._clean(data)
        if size_bytes <= bytes_max:
            return clean.decode("utf-8", "replace")
        if size_bytes > len(data):
            clean = clean[: max(0, len(clean) - self.margin_bytes)]
        return clean[:bytes_max].decode("utf-8", "replace") + f"\n[{size_bytes - bytes_max} bytes left out]"

    def tail(self, data: bytes, size_bytes: int, bytes_max: int) -> str:
        """The end, in the same way."""
        clean = self._clean(data)
        if size_bytes > len(data):
            clean = clean[self.margin_bytes :]
        return clean[-bytes_max:].decode("utf-8", "replace")

    def _clean(self, data: bytes) -> bytes:
        redactor = Redactor(self._secrets)
        return redactor.feed(data) + redactor.flush()


def _work(workspace: Workspace, commit: str, plain: _Plain) -> Mapping[str, Any]:
    git = Git(workspace.host)
    compared = ("-r", "--no-ext-diff", "--no-textconv", workspace.base, commit)
    diff = git.beginning("diff-tree", "-p", "--no-color", *compared, bytes_max=DIFF_BYTES_MAX + plain.margin_bytes)
    changed = git.beginning(
        "diff-tree", "-z", "--name-only", "--no-renames", *compared, bytes_max=FILES_MAX * PATH_BYTES_MAX
    )
    # What stands behind the last NUL is a name that was cut, or nothing.
    names = [os.fsdecode(name) for name in changed.output.split(b"\0")[:-1]][:FILES_MAX]
    return {
        "files": _files(git, commit, names, plain),
        "files_changed": changed.entries,
        "commit": commit,
        "diff": plain.head(diff.output, diff.size_bytes, DIFF_BYTES_MAX),
    }


def _files(git: Git, commit: str, names: Sequence[str], plain: _Plain) -> Mapping[str, str]:
    """The files as they are in ``commit``; a deleted one is not there. What is too large is not read at all."""
    if not names:
        return {}
    files: dict[str, str] = {}
    left = FILES_BYTES_MAX
    for entry in git.must("ls-tree", "-l", "-z", commit, "--", *names).split(b"\0"):
        about, _, name = entry.partition(b"\t")
        kind, blob, size = (about.split() + [b""] * 4)[1:4]
        if kind != b"blob":
            continue  # a submodule, or the end
        size_bytes = int(size)
        content = b"\0"
        if size_bytes <= min(FILE_BYTES_MAX, left):
            content = git.must("cat-file", "blob", blob.decode("ascii"))
        shown_name = neutral(os.fsdecode(name), chars_max=NAME_CHARS_MAX, lines=False)
        if b"\0" in content:
            files[shown_name] = f"[{size_bytes} bytes left out]"
        else:
            left -= size_bytes
            files[shown_name] = plain.text(content)
    return files


def _head(path: Path, bytes_max: int, plain: _Plain) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        data = file.read(bytes_max + plain.margin_bytes)
        return plain.head(data, max(len(data), path.stat().st_size), bytes_max)


def _tail(path: Path, bytes_max: int, plain: _Plain) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        file.seek(max(0, size_bytes - bytes_max - plain.margin_bytes))
        return plain.tail(file.read(bytes_max + plain.margin_bytes), size_bytes, bytes_max)

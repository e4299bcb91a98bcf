"""What an attempt shows of itself afterwards: the prompt, what the agent said last, the diff and the files.

It is for people who read what agents did, so it is bounded and says what was left out. The agent's own secrets are
taken out here, since nobody else knows them; Hive takes out what looks like one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
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
    redactor = _Plain(spec)
    with contextlib.suppress(OSError, AgentError):
        shown["prompt"] = redactor.text(_head(workspace.folder / "prompt.md", PROMPT_BYTES_MAX))
        shown["answer"] = redactor.text(_tail(workspace.folder / "agent.log", ANSWER_BYTES_MAX))
        if commit is not None:
            shown["commit_message"] = message
            shown |= _work(workspace, commit, redactor)
    for key in ("files", "diff", "answer", "prompt"):
        if len(json.dumps(shown)) > SHOWN_BYTES_MAX:
            shown.pop(key, None)
            shown["left_out"] = [*shown.get("left_out", []), key]
    return {key: value for key, value in shown.items() if value}


class _Plain:
    """Text without this agent's secrets."""

    def __init__(self, spec: AttemptSpec) -> None:
        files = spec.agent.get("env_files", {})
        self._secrets: list[str] = []
        for path in files.values() if isinstance(files, Mapping) else ():
            with contextlib.suppress(OSError), Path(str(path)).open("rb") as file:
                self._secrets.append(file.read(SECRET_FILE_BYTES_MAX).decode("utf-8", "replace").strip())

    def text(self, data: bytes) -> str:
        redactor = Redactor(self._secrets)
        return (redactor.feed(data) + redactor.flush()).decode("utf-8", "replace")


def _work(workspace: Workspace, commit: str, redactor: _Plain) -> Mapping[str, Any]:
    git = Git(workspace.host)
    diff = git.must("diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", "--no-color", workspace.base, commit)
    names = workspace.changed(commit)
    files: dict[str, str] = {}
    left = FILES_BYTES_MAX
    for name in names[:FILES_MAX]:
        found = git.run("cat-file", "blob", f"{commit}:{name}")
        if not found.ok:
            continue  # deleted, or a submodule
        shown_name = neutral(name, chars_max=NAME_CHARS_MAX, lines=False)
        if b"\0" in found.output or len(found.output) > min(FILE_BYTES_MAX, left):
            files[shown_name] = f"[{len(found.output)} bytes left out]"
            continue
        left -= len(found.output)
        files[shown_name] = redactor.text(found.output)
    value: dict[str, Any] = {"files": files, "files_changed": len(names), "commit": commit}
    value["diff"] = redactor.text(diff[:DIFF_BYTES_MAX])
    if len(diff) > DIFF_BYTES_MAX:
        value["diff"] += f"\n[{len(diff) - DIFF_BYTES_MAX} bytes left out]"
    return value


def _head(path: Path, bytes_max: int) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        data = file.read(bytes_max)
    left = path.stat().st_size - len(data)
    return data + f"\n[{left} bytes left out]".encode() if left > 0 else data


def _tail(path: Path, bytes_max: int) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - bytes_max))
        return file.read(bytes_max)

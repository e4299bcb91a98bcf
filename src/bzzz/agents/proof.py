"""Proof that work is done: the repository's own check passes on a fresh checkout of exactly the commit.

The commands are those of the base commit, so an agent cannot change what it is measured by; that it changed
files which belong to the check (tests change for good reasons) is noted beside the result. The checkout is
made by the host and thrown away after the check, which runs in the sandbox like the agent, with a HOME that
no agent wrote to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bzzz.agents import child
from bzzz.agents.check import CHECK_FILE, CHECK_FILE_BYTES_MAX, GUIDE_FILE, Check, find_check
from bzzz.agents.sandbox import Box, Sandbox, environment
from bzzz.agents.setting import AgentSettings
from bzzz.agents.text import last_line, neutral
from bzzz.agents.workspace import Saved, Workspace
from bzzz.ports import AttemptSpec, Outcome

TAIL_CHARS_MAX = 8_000
OUTPUT_BYTES_MAX = 32 * 1024 * 1024
TOUCHED_MAX = 50
NO_CHECK = (
    f"no check is configured: the base commit has no [check] in {CHECK_FILE} and no check or test commands in "
    f"{GUIDE_FILE}"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proof found. ``check`` is for people: command, status, seconds, the tail of the output."""

    outcome: Outcome
    summary: str
    check: Mapping[str, Any]
    question: str = ""


def read_check(workspace: Workspace, spec: AttemptSpec) -> Check | None:
    """The check of the project, or else of the base commit.

    Raises:
        AgentError: it is configured wrongly.
    """
    settings = workspace.read_base(CHECK_FILE, CHECK_FILE_BYTES_MAX)
    guide = workspace.read_base(GUIDE_FILE, CHECK_FILE_BYTES_MAX)
    return find_check(settings, guide, spec.task.number, spec.repository.rules.check_command)


def prove(
    spec: AttemptSpec,
    settings: AgentSettings,
    workspace: Workspace,
    saved: Saved,
    check: Check | None,
    *,
    sandbox: Sandbox,
    control: child.Control,
    marks: Mapping[str, str],
    progress: Callable[[str, str], None],
) -> Verdict:
    """Judge what was saved.

    Raises:
        AgentError: the checkout could not be made or the check not be ended.
    """
    if saved.omitted:
        left = "; ".join(saved.omitted)
        return Verdict(Outcome.OUT_OF_BUDGET, f"not all of the work could be committed: {left}", {})
    if saved.commit is None:
        return Verdict(Outcome.NO_CHANGE, "the tree is that of the base commit", {})
    if check is None:
        if settings.check_required:
            question = f"{NO_CHECK[0].upper()}{NO_CHECK[1:]}. Which command shows that this is done?"
            return Verdict(Outcome.NEEDS_HELP, NO_CHECK, {"configured": False}, question)
        return Verdict(Outcome.PROVED, f"committed; {NO_CHECK}", {"configured": False})
    notes = _notes(workspace, saved, check)
    folder = workspace.checkout_proof(
        saved.commit, branch=spec.branch, name=spec.agent_name, email=settings.author_email
    )
    home = workspace.folder / "check-home"
    home.mkdir(exist_ok=True)
    box = Box(
        folder,
        home,
        (workspace.mirror / "objects", workspace.host / "objects"),
        {**environment(settings, marks), "BZZZ_TASK_NUMBER": str(spec.task.number)},
    )
    return _run(
        check,
        box,
        timeout_s=min(check.timeout_s, settings.check_s_max),
        sandbox=sandbox,
        control=control,
        settings=settings,
        notes=notes,
        progress=progress,
    )


def _run(
    check: Check,
    box: Box,
    *,
    timeout_s: float,
    sandbox: Sandbox,
    control: child.Control,
    settings: AgentSettings,
    notes: Mapping[str, Any],
    progress: Callable[[str, str], None],
) -> Verdict:
    started_s = time.monotonic()
    tail = b""
    for argv, shown in zip(check.commands, check.show(), strict=True):
        line = neutral(shown, chars_max=200, lines=False)
        progress("check", line)
        spent_s = time.monotonic() - started_s
        bounds = child.Bounds(
            wall_s_max=max(0.0, timeout_s - spent_s),
            output_bytes_max=OUTPUT_BYTES_MAX,
            end_grace_s=settings.end_grace_s,
        )
        trouble = ""
        status: int | None = None
        stopped = False
        try:
            end = child.run(sandbox.wrap(box, argv), bounds=bounds, control=control)
            status, tail = end.status, end.tail
            stopped = end.end is child.End.STOPPED
            if end.end is not child.End.EXITED:
                trouble = f"`{line}` was ended: {end.detail}"
                if end.end is child.End.WALL:
                    trouble = f"`{line}` was ended: the check took more than {timeout_s:g} s (check.timeout_s)"
            elif status != 0:
                trouble = f"`{line}` ended with status {status}"
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            trouble = f"`{line}` could not be started: {error.strerror}"
        seconds = round(time.monotonic() - started_s, 3)
        details = {
            "command": line, "status": status, "seconds": seconds, "passed": not trouble,
            "tail": neutral(tail.decode("utf-8", "replace")[-TAIL_CHARS_MAX:], chars_max=TAIL_CHARS_MAX), **notes,
        }  # fmt: skip
        if stopped:
            return Verdict(Outcome.STOPPED, trouble, details)
        if trouble:
            said = last_line(tail)
            return Verdict(
                Outcome.CHECK_FAILED, f"the check failed: {trouble}" + (f": {said}" if said else ""), details
            )
    return Verdict(Outcome.PROVED, f"the check passed in {seconds:.1f} s", details)


def _notes(workspace: Workspace, saved: Saved, check: Check) -> dict[str, Any]:
    """What a reviewer should know beside the result."""
    notes: dict[str, Any] = {"configured": True, "source": check.source, "commands": check.show()}
    if saved.commit is not None:
        changed = workspace.changed(saved.commit)
        notes["changed_files"] = len(changed)
        touched = [neutral(path, chars_max=200, lines=False) for path in changed if check.owns(path)]
        if touched:
            notes["touched"] = touched[:TOUCHED_MAX]
    if saved.aside:
        notes["set_aside"] = list(saved.aside[:TOUCHED_MAX])
    return notes


def message(spec: AttemptSpec) -> str:
    """The commit's message: the issue's title as subject, and the trailers that say whose work it is."""
    title = neutral(spec.issue.title, chars_max=72, lines=False).strip() or "Work"
    agent = neutral(spec.agent_name, chars_max=100, lines=False)
    return (
        f"{title} (#{spec.task.number})\n\nBzzz-Task: {spec.task}\nBzzz-Agent: {agent}\nBzzz-Epoch: {spec.epoch}\n"
    )


def help_question(tree: Path, name: str, *, bytes_max: int = 8 * 1024) -> str:
    """The question that an agent left in a file of its tree; empty where there is none."""
    path = tree / name
    try:
        if path.parent.is_symlink():
            return ""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
            return neutral(file.read(bytes_max).decode("utf-8", "replace"), chars_max=bytes_max).strip()
    except OSError:
        return ""

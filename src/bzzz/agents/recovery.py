"""What a dead worker or a dead node left: its processes are ended, its work is saved and told.

Used by the node alone. Blocking on purpose (files, processes, git): the caller runs it in a thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bzzz.agents import process
from bzzz.agents.proof import message
from bzzz.agents.setting import AgentSettings
from bzzz.agents.shown import show
from bzzz.agents.spec import event_from_line, event_to_line, read_object, spec_from_object, write_whole
from bzzz.agents.text import neutral
from bzzz.agents.workspace import Signature, Workspace
from bzzz.errors import AgentError
from bzzz.ports import AttemptFinished, AttemptSpec, Outcome, Work

LEFT = "the worker was gone when the node came back"


def recover_attempt(folder: Path, settings: AgentSettings) -> tuple[AttemptFinished, bool]:
    """End what is left of one attempt of a dead node, and tell how it stands.

    Returns:
        the end of the attempt, and whether it holds work that could not be saved.
    """
    attempt_id = folder.name
    _end_worker(folder, settings)
    process.end_marked(settings.node, attempt_id)
    known = read_finished(folder)
    if known is not None and not known[1]:
        return known
    return salvage(folder, settings, Outcome.CRASHED, LEFT)


def _end_worker(folder: Path, settings: AgentSettings) -> None:
    """Let a worker whose node died finish saving; then end it. A process that took over its id is spared."""
    value = read_object(folder / "pid.json")
    if value is None or not all(isinstance(value.get(key), int) for key in ("pid", "started_ticks")):
        return
    worker = process.ProcessId(value["pid"], value["started_ticks"])
    if worker not in process.marked(settings.node, folder.name):
        return
    if not process.await_gone(worker, settings.recover_grace_s):
        process.end([worker])


def read_finished(folder: Path) -> tuple[AttemptFinished, bool] | None:
    """What the worker wrote at its end, and whether work was left unsaved; ``None`` where it wrote nothing."""
    try:
        event, more = event_from_line((folder / "finished.json").read_bytes())
    except (OSError, ValueError):
        return None
    return (event, bool(more.get("unsaved"))) if isinstance(event, AttemptFinished) else None


def salvage(folder: Path, settings: AgentSettings, outcome: Outcome, summary: str) -> tuple[AttemptFinished, bool]:
    """Commit what an attempt made whose worker can no longer do so; no process of it may live.

    Returns:
        as ``recover_attempt``.
    """
    spec = read_spec(folder)
    place = read_object(folder / "base.json")
    work = None
    shown: Mapping[str, Any] = {}
    unsaved = False
    if spec is not None and place is not None:
        workspace = Workspace(folder, Path(str(place["mirror"])), str(place["base"]))
        signature = Signature(spec.agent_name, settings.author_email, message(spec), int(time.time()))
        try:
            saved = workspace.save(signature, work_bytes_max=settings.work_bytes_max)
            if saved.commit is not None:
                work = Work(workspace.host, saved.commit, workspace.base, spec.branch)
            shown = show(spec, workspace, saved.commit, signature.message)
            if saved.omitted:
                summary += f" (not committed: {'; '.join(saved.omitted)})"
        except (AgentError, OSError) as error:
            unsaved = workspace.is_ready
            summary += f"; its work could not be saved and stays in {workspace.tree}: {error}"
    said = neutral(summary, chars_max=2000, lines=False)
    finished = AttemptFinished(folder.name, outcome, said, work, shown=shown)
    # Where that fails it is told now, and the next start finds it unfinished and salvages again.
    with contextlib.suppress(OSError):
        write_whole(folder / "finished.json", event_to_line(finished, unsaved=unsaved))
    return finished, unsaved


def read_spec(folder: Path) -> AttemptSpec | None:
    """The attempt that a folder belongs to; ``None`` where its file is missing or broken."""
    value = read_object(folder / "spec.json")
    try:
        return None if value is None else spec_from_object(value["spec"])
    except (KeyError, TypeError):
        return None

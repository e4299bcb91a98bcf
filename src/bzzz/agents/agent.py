"""What every kind of agent gets and gives inside a worker.

An agent changes files in the work tree and ends; it neither commits nor judges. ``AgentEnd.outcome`` is
``None`` where it simply ended: then the proof decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bzzz.agents.check import Check
from bzzz.agents.child import Control
from bzzz.agents.sandbox import Sandbox
from bzzz.agents.setting import AgentSettings
from bzzz.agents.workspace import Workspace
from bzzz.ports import AttemptSpec, Outcome


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """How an agent ended, apart from what it made. ``outcome`` ``None``: let the proof decide."""

    outcome: Outcome | None
    summary: str
    question: str = ""
    retry_after_s: float | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentContext:
    """One attempt, as the agent's driver sees it.

    ``marks`` are the environment words that every process of the attempt carries. ``started`` is to be
    called once, with a process id, when the agent runs; ``progress`` takes a phase and a line.
    """

    spec: AttemptSpec
    settings: AgentSettings
    workspace: Workspace
    sandbox: Sandbox
    check: Check | None
    control: Control
    marks: Mapping[str, str]
    nonce: str
    started: Callable[[int], None]
    progress: Callable[[str, str], None]

    @property
    def log(self) -> Path:
        """Where the agent's output is kept, bounded."""
        return self.workspace.folder / "agent.log"


Agent = Callable[[AgentContext], AgentEnd]

"""The adapters that one node is given, by port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.task import Comment, Issue, Repository, Task
from bzzz.ports import AgentRunner, Clock, Forge, Hive, Journal, Ledger, Transport


@dataclass(frozen=True, slots=True)
class AgentChoice:
    """Which agent this node runs: its name, its configuration as plain data, and the bounds of an attempt."""

    name: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    wall_s_max: float = 3600.0
    idle_s_max: float = 600.0
    output_bytes_max: int = 8 * 1024 * 1024


def _nobody(_: Comment) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Shells:
    """What carries out a core's effects. ``hive`` may be absent.

    ``admit`` decides whether an issue is a task: a task, or why not; ``may_ask`` whether a comment's author may
    set agents to work. ``escalate`` tells the operator's
    webhook, where one is set.
    """

    transport: Transport
    ledger: Ledger
    forge: Forge
    hive: Hive | None
    runner: AgentRunner
    journal: Journal
    clock: Clock
    agent: AgentChoice
    admit: Callable[[Repository, Issue], Task | str]
    escalate: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None
    may_ask: Callable[[Comment], bool] = _nobody

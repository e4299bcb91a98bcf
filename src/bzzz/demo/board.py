"""What the demo knows of nodes and tasks, from their events alone: a plain model that the views draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

LOG_LINES_MAX = 100


@dataclass(slots=True)
class TaskRow:
    """One task. Times are wall seconds."""

    key: str
    title: str
    opened_s: float
    state: str = "open"
    node: str = ""
    epoch: int = 0
    started_s: float | None = None
    delivered_s: float | None = None
    pull_request: str = ""
    check: str = ""
    holders: list[tuple[str, int]] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """From the issue to the pull request."""
        return None if self.delivered_s is None else self.delivered_s - self.opened_s


@dataclass(slots=True)
class NodeRow:
    """One node."""

    name: str
    state: str = "starting"
    doing: str = ""
    done: int = 0


class Board:
    """Tasks and nodes, moved by ``take``."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskRow] = {}
        self.nodes: dict[str, NodeRow] = {}
        self.log: list[str] = []

    def opened(self, key: str, title: str, at_s: float) -> None:
        """An issue was created."""
        self.tasks[key] = TaskRow(key, title, at_s)

    def node(self, name: str, state: str) -> None:
        """A node's process changed its state."""
        row = self.nodes.setdefault(name, NodeRow(name))
        row.state = state
        if state != "ready":
            row.doing = ""

    def take(self, name: str, event: Mapping[str, Any]) -> None:
        """One event of one node.

        The nodes' streams are read side by side, so an old word of one can come after a new one of another:
        what belongs to an earlier epoch, or to a node that is not the holder, changes nothing.
        """
        row = self.nodes.setdefault(name, NodeRow(name))
        task = self.tasks.get(str(event.get("task", "")))
        kind = event["kind"]
        if task is None:
            return
        if kind == "report":
            self._reported(row, task, event)
        elif task.node == name and event.get("epoch") == task.epoch and task.state != "delivered":
            self._progressed(task, event)

    def _progressed(self, task: TaskRow, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "agent_started":
            task.state = "agent at work"
            if task.started_s is None:
                task.started_s = event["at"]
        elif kind == "attempt_progress":
            task.state = {"check": "checking", "commit": "committing", "fetch": "fetching"}.get(
                event.get("phase", ""), "agent at work"
            )
        elif kind == "attempt_ended":
            task.check = "passed" if event.get("outcome") == "proved" else str(event.get("outcome", ""))
            task.state = "delivering" if task.check == "passed" else task.check

    def _reported(self, row: NodeRow, task: TaskRow, event: Mapping[str, Any]) -> None:
        report, epoch = event["report"], event["epoch"]
        if report == "claimed":
            task.holders.append((row.name, epoch))
        elif row.doing == task.key:
            row.doing = ""
        if epoch < task.epoch or task.state == "delivered":
            return
        if report == "claimed":
            task.node, task.epoch, task.state = row.name, epoch, "claimed"
            row.doing = task.key
            if task.epoch > 1:
                self._note(f"{row.name} took over {task.key} with epoch {task.epoch}")
        elif report == "delivered":
            task.state, task.pull_request, task.delivered_s = "delivered", event["pull_request"], event["at"]
            row.done += 1
        elif report in ("released", "escalated"):
            task.state = report
            self._note(f"{row.name} gave {task.key} back: {event.get('reason', '')}"[:100])

    def _note(self, text: str) -> None:
        self.log = [*self.log[1 - LOG_LINES_MAX :], text]

    def all_delivered(self) -> bool:
        """Whether every task has its pull request."""
        return bool(self.tasks) and all(task.state == "delivered" for task in self.tasks.values())

    def double_claims(self) -> int:
        """Epochs of a task that more than one node took for its own."""
        count = 0
        for task in self.tasks.values():
            by_epoch: dict[int, set[str]] = {}
            for name, epoch in task.holders:
                by_epoch.setdefault(epoch, set()).add(name)
            count += sum(len(names) - 1 for names in by_epoch.values())
        return count

    def start_latencies_s(self) -> list[float]:
        """From an issue being visible to its first agent running, for each task, sorted."""
        return sorted(task.started_s - task.opened_s for task in self.tasks.values() if task.started_s is not None)

    def start_latency_p50_s(self) -> float | None:
        """The median of these."""
        found = self.start_latencies_s()
        return round(median(found), 3) if found else None

"""The simulated forge and Hive: issues that are open or closed, pull requests by head branch, rescue refs."""

from __future__ import annotations

from collections.abc import Sequence

from bzzz.core.capability import keywords, task_type
from bzzz.core.task import Repository, Task, TaskId

REPOSITORY = Repository(
    1, "orchard", "acme", "orchard", "https://forge.example/acme/orchard.git", "https://forge.example/api/v3"
)

_TITLES = (
    ("Fix the crash on an empty basket", ("bug",)),
    ("Document the import command", ("documentation",)),
    ("Add tests for the parser", ("testing",)),
    ("Refactor the price rules", ("refactor",)),
    ("Support a second currency", ("feature",)),
    ("Escape names in the report", ("security",)),
    ("Speed up the nightly build", ("infrastructure",)),
    ("Look into slow answers", ()),
)


class SimulatedForge:
    """Issues and pull requests of one repository."""

    def __init__(self, tasks: int) -> None:
        self.tasks: dict[TaskId, Task] = {}
        self.hidden: set[TaskId] = set()
        self.closed: dict[TaskId, str] = {}
        self.pulls: dict[str, str] = {}
        self.pulls_opened: list[tuple[TaskId, str]] = []
        self.rescued: set[str] = set()
        for number in range(1, tasks + 1):
            title, labels = _TITLES[number % len(_TITLES)]
            key = TaskId(REPOSITORY.key, number)
            self.tasks[key] = Task(
                key,
                title,
                task_type(labels, title, ""),
                number % 3,
                labels,
                keywords(title, ""),
                updated_at="2026-01-01T00:00:00Z",
            )

    def open_tasks(self) -> tuple[Task, ...]:
        """The admitted open issues."""
        return tuple(task for key, task in self.tasks.items() if key not in self.closed and key not in self.hidden)

    def open_pull(self, task: TaskId, branch: str) -> str:
        """Find the pull request of a head branch, or open it."""
        url = self.pulls.get(branch)
        if url is None:
            url = self.pulls[branch] = f"https://forge.example/acme/orchard/pull/{1000 + len(self.pulls)}"
            self.pulls_opened.append((task, branch))
        return url

    def rescue(self, pieces: Sequence[str]) -> None:
        """Keep unpublished work under rescue refs."""
        self.rescued.update(pieces)

"""What there is to do: repositories, tasks, and what a forge says of them.

These are plain values. A ``Task`` is what every node may know of an admitted issue (it is gossiped, so it
is small); an ``Issue`` is the forge's full text, read only by who watches or claims it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One issue of one repository.

    ``repository`` is ``owner/name``; within a mesh that names one repository.
    """

    repository: str
    number: int

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Read ``owner/name#12``.

        Raises:
            ValueError: the text has another form.
        """
        repository, mark, number = text.rpartition("#")
        owner, slash, name = repository.partition("/")
        if not (mark and slash and owner and name and number.isascii() and number.isdigit()):
            raise ValueError(f"{text!r} is not of the form owner/name#number")
        return cls(repository, int(number))


class TaskType(enum.StrEnum):
    """The predecessor's task types."""

    BUG = "bug"
    FEATURE = "feature"
    DOCUMENTATION = "documentation"
    REFACTOR = "refactor"
    TESTING = "testing"
    INFRASTRUCTURE = "infrastructure"
    SECURITY = "security"
    UI_UX = "ui/ux"
    GENERAL = "general"


@dataclass(frozen=True, slots=True)
class ProjectRules:
    """What a project asks of those who work on it; what is empty is left to each node's own settings.

    An issue must carry all of ``labels`` to be a task. ``check_command`` is one program with its arguments. Only
    nodes with the capability ``agent`` take its tasks. ``tasks_max`` bounds what one node does there at once; of
    ``wall_s_max`` and ``idle_s_max`` the smaller counts, the project's or the node's.
    """

    labels: tuple[str, ...] = ()
    check_command: tuple[str, ...] = ()
    agent: str = ""
    reviewers: tuple[str, ...] = ()
    tasks_max: int | None = None
    wall_s_max: float | None = None
    idle_s_max: float | None = None
    strikes_max: int | None = None


NO_RULES = ProjectRules()


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository that agents may work on, as Hive tells it.

    ``api_url`` is the root of the forge's REST interface; ``forge`` names its dialect (``github`` also
    stands for GitHub Enterprise and the embedded forge).
    """

    project_id: int
    name: str
    owner: str
    repository: str
    git_url: str
    api_url: str
    branch: str = "main"
    forge: str = "github"
    private: bool = False
    token_required: bool = False
    rules: ProjectRules = NO_RULES

    @classmethod
    def from_object(cls, value: Mapping[str, Any]) -> Repository:
        """Read what ``dataclasses.asdict`` made, after JSON made lists of its tuples.

        Raises:
            TypeError, AttributeError: it is something else.
        """
        rules: dict[str, Any] = {
            key: tuple(one) if isinstance(one, list) else one for key, one in value.get("rules", {}).items()
        }
        return cls(**{**value, "rules": ProjectRules(**rules)})

    @property
    def key(self) -> str:
        """``owner/name``, the identity of this repository within the mesh."""
        return f"{self.owner}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Task:
    """An admitted issue, as small as gossip needs: what matching and ranking look at."""

    id: TaskId
    title: str
    task_type: TaskType = TaskType.GENERAL
    priority: int = 0
    labels: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    url: str = ""
    updated_at: str = ""
    digest: str = ""

    @property
    def wording(self) -> str:
        """What changes when a person edits the issue, and not when labels or comments are put on it.

        The forge's own date is no substitute where there is a digest: it counts whole seconds, and this
        node's own labels and comments move it.
        """
        return self.digest or self.updated_at


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment under an issue. ``association`` is GitHub's word for who the author is here."""

    id: int
    author: str
    association: str
    body: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Issue:
    """A forge's issue in full; all of its text is a stranger's until proved otherwise."""

    number: int
    title: str
    body: str
    state: str
    labels: tuple[str, ...]
    assignees: tuple[str, ...]
    author: str
    association: str
    url: str
    created_at: str
    updated_at: str
    comments: int = 0
    is_pull: bool = False


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request. ``state`` is ``open`` or ``closed``."""

    number: int
    url: str
    state: str
    head_branch: str
    base_branch: str
    title: str
    merged: bool = False
    head_commit: str = ""

"""What crosses Hive's HTTP interface, with the predecessor's field names; ours only add.

Unknown fields are ignored, so that older and newer clients meet. Text from clients is bounded here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from bzzz.core.record import RecordState
from bzzz.hive.board import BoardTask
from bzzz.hive.claim import PEER_PREFIX
from bzzz.hive.project import Project
from bzzz.hive.project_setting import LIMIT_KEYS

NUMBER_MAX = 2**31 - 1

TaskNumber = Annotated[int, Field(ge=1, le=NUMBER_MAX, description="the issue's number")]
ProjectId = Annotated[int, Field(ge=1, le=NUMBER_MAX, description="Hive's id of the project")]
AgentId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]


class ErrorAnswer(BaseModel):
    """Every answer of 400 and above: a short name for programs, a line for people."""

    error: str
    detail: str


class ClaimedAnswer(ErrorAnswer):
    """409 on a claim: who has it, and since when (Unix seconds; null where the record does not tell)."""

    claimed_by: str
    claimed_at: int | None
    state: str
    epoch: int


class HealthAnswer(BaseModel):
    """That Hive is up, and can reach its database."""

    status: Literal["healthy", "degraded"]
    service: str
    timestamp: str
    version: str
    counters: dict[str, int]


class SettingsShape(BaseModel):
    """A project's own settings; what is empty is left to the node's."""

    labels: list[str] = []
    check_command: list[str] = []
    agent: str = ""
    limits: dict[str, float] = {}
    reviewers: list[str] = []


class RepositoryAnswer(BaseModel):
    """The predecessor's ``Repository``; ``api_url``, ``forge``, ``key`` and ``settings`` are added."""

    project_id: int
    name: str
    git_url: str
    owner: str
    repository: str
    branch: str
    bzzz_enabled: bool
    ready_to_claim: bool
    private_repo: bool
    github_token_required: bool
    api_url: str
    forge: str
    key: str
    settings: SettingsShape

    @classmethod
    def of(cls, project: Project, *, ready: bool) -> RepositoryAnswer:
        """From a project, with what is known of its tasks."""
        return cls(project_id=project.id, **_shared(project), ready_to_claim=ready)


class RepositoriesAnswer(BaseModel):
    """The answer of ``active-repos``."""

    repositories: list[RepositoryAnswer]


class ProjectAnswer(BaseModel):
    """A project in full. ``problem`` says why agents cannot work on it; empty if they can."""

    id: int
    name: str
    description: str
    status: str
    git_url: str
    owner: str
    repository: str
    branch: str
    bzzz_enabled: bool
    ready_to_claim: bool
    private_repo: bool
    github_token_required: bool
    api_url: str
    forge: str
    key: str
    metadata: dict[str, Any]
    settings: SettingsShape
    tags: list[str]
    created_at: str
    updated_at: str
    problem: str

    @classmethod
    def of(cls, project: Project) -> ProjectAnswer:
        """From a project."""
        return cls(
            id=project.id,
            **_shared(project),
            description=project.description,
            status=project.status,
            ready_to_claim=project.ready_to_claim,
            metadata=dict(project.metadata),
            tags=list(project.tags),
            created_at=project.created_at,
            updated_at=project.updated_at,
            problem=project.problem,
        )


class ProjectsAnswer(BaseModel):
    """All projects."""

    projects: list[ProjectAnswer]


class ProjectChange(BaseModel):
    """Fields of a project; those left out, or null, stay as they are."""

    name: str | None = None
    description: str | None = None
    status: str | None = None
    git_url: str | None = None
    branch: str | None = None
    forge: str | None = None
    api_url: str | None = None
    bzzz_enabled: bool | None = None
    private_repo: bool | None = None
    github_token_required: bool | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] | None = None
    labels: list[str] | None = Field(None, description="labels that make an issue a task; empty: Hive's own")
    check_command: list[str] | None = Field(None, description="a program with its arguments that proves work")
    agent: str | None = Field(None, description="which agent is to do the work")
    limits: dict[str, float] | None = Field(None, description=", ".join(LIMIT_KEYS))
    reviewers: list[str] | None = Field(None, description="who is asked to review")


class ProjectDraft(ProjectChange):
    """A new project: ``name``, and ``git_url`` or ``github_repo`` (``owner/name``)."""

    name: str
    github_repo: str | None = None


class ClaimAnswerDetail(BaseModel):
    """What the claim ref says of a task."""

    state: str
    epoch: int
    claimed_by: str
    noted_at: str | None


class TaskAnswer(BaseModel):
    """The predecessor's ``Task``; ``claim``, ``status``, ``key`` and ``author`` are added.

    ``is_claimed`` is a hint: the claim ref alone decides. ``status`` is what was last reported to Hive.
    """

    number: int
    title: str
    description: str
    state: str
    labels: list[str]
    created_at: str
    updated_at: str
    html_url: str
    is_claimed: bool
    assignees: list[str]
    task_type: str
    dependencies: list[str]
    author: str
    key: str
    claim: ClaimAnswerDetail | None
    status: str | None

    @classmethod
    def of(cls, task: BoardTask, key: str, status: str | None) -> TaskAnswer:
        """From the board's task and its last report."""
        issue = task.issue
        claim = None
        if task.standing is not None:
            record = task.standing.record
            claim = ClaimAnswerDetail(
                state=record.state.value,
                epoch=record.epoch,
                claimed_by=record.holder.agent,
                noted_at=record.noted_at,
            )
        return cls(
            number=issue.number,
            title=issue.title,
            description=issue.body,
            state=issue.state,
            labels=list(issue.labels),
            created_at=issue.created_at,
            updated_at=issue.updated_at,
            html_url=issue.url,
            is_claimed=task.is_claimed,
            assignees=list(issue.assignees),
            task_type=task.task_type.value,
            dependencies=list(task.dependencies),
            author=issue.author,
            key=key,
            claim=claim,
            status=status,
        )


class ClaimRequest(BaseModel):
    """A claim for a client that cannot take a ref; ``claimed_at`` is accepted, Hive's clock is used."""

    task_number: TaskNumber
    agent_id: AgentId
    claimed_at: float | None = None


class ClaimAnswer(BaseModel):
    """The claim is taken; ``claim_id`` is the version (the commit) that stands."""

    success: Literal[True] = True
    claim_id: str
    epoch: int
    claimed_at: int
    holder: str = Field(description=f"the peer in the claim record, {PEER_PREFIX}<agent_id>")
    state: Literal[RecordState.HELD] = RecordState.HELD


class StatusRequest(BaseModel):
    """What became of a task. ``results`` is another name for ``metadata``.

    A client that puts ``task_number`` inside one of the two is understood as well.
    """

    task_number: TaskNumber
    status: Literal["in_progress", "completed", "failed", "escalated"]
    metadata: dict[str, Any] | None = None
    results: dict[str, Any] | None = None
    agent_id: AgentId | None = None

    @model_validator(mode="before")
    @classmethod
    def _find_number(cls, value: Any) -> Any:
        if isinstance(value, dict) and "task_number" not in value:
            for key in ("metadata", "results"):
                inner = value.get(key)
                if isinstance(inner, dict) and "task_number" in inner:
                    return {**value, "task_number": inner["task_number"]}
            # The predecessor's client forgot it, so its author is told what is meant.
            text = "task_number is missing: say which task, beside status or within metadata or results"
            raise PydanticCustomError("missing_task_number", text)
        return value

    def agent(self) -> str:
        """Who reports, where the client says so."""
        found = self.agent_id or self.details().get("agent_id")
        return found if isinstance(found, str) else ""

    def details(self) -> dict[str, Any]:
        """Both, as one object."""
        if self.metadata is None:
            return self.results or {}
        return self.metadata if self.results is None else {**self.metadata, "results": self.results}


class DoneAnswer(BaseModel):
    """It is done; ``new`` is false where the very same was done before."""

    success: Literal[True] = True
    new: bool = True


class StatusAnswer(DoneAnswer):
    """The report is stored. ``claim`` is the state of a claim that Hive holds for the client, or null."""

    claim: str | None = None


class WebhookAnswer(BaseModel):
    """The webhook is taken; ``repository`` is the project's that it woke, or null."""

    success: Literal[True] = True
    repository: str | None


def _shared(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "git_url": project.git_url,
        "owner": project.owner,
        "repository": project.repository,
        "branch": project.branch,
        "bzzz_enabled": project.bzzz_enabled,
        "private_repo": project.private_repo,
        "github_token_required": project.github_token_required,
        "api_url": project.api_url,
        "forge": project.forge,
        "key": project.key,
        "settings": SettingsShape.model_validate(project.settings.to_object()),
    }

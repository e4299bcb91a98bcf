"""What crosses Hive's HTTP interface for captured material, with the predecessor's field names; ours only add.

Fields that are not named here are kept as they are: a capture is what the client said.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bzzz.hive.capture import MICROUSD_PER_USD, CaptureKind, CaptureSums, StoredCapture
from bzzz.hive.schema import AgentId, TaskNumber

AGENT_WORK = "code"


class CaptureItem(BaseModel):
    """Any captured item; what it says beyond its named fields is captured too."""

    model_config = ConfigDict(extra="allow")

    def body(self) -> dict[str, Any]:
        """What was sent, with defaults for what was left out."""
        return self.model_dump(mode="json")


class WorkItem(CaptureItem):
    """Work that a client did: ``files`` maps a name to its content."""

    task_number: TaskNumber
    agent_id: AgentId
    work_type: str = Field(AGENT_WORK, description="code, documentation or configuration")
    content: Any = ""
    files: dict[str, Any] = {}
    commit_message: str = ""
    description: str = ""


class PullItem(CaptureItem):
    """A pull request: one that is there (``pr_url``), or one that Hive is to open for ``branch_name``."""

    task_number: TaskNumber
    agent_id: AgentId
    title: str = ""
    description: str = ""
    files_changed: Any = []
    branch_name: str = ""
    pr_url: str = Field("", description="the pull request, where it is there already; then Hive opens none")
    pr_number: int | None = Field(None, ge=1, description="its number; else it is read from pr_url")


class DiscussionItem(CaptureItem):
    """A discussion among agents about one project."""

    type: str = ""
    participants: list[Any] = []
    messages: list[Any] = []
    decisions: Any = None
    context: Any = None


class PromptItem(CaptureItem):
    """A prompt that an agent was given."""

    task_number: TaskNumber | None = None
    agent_id: AgentId | None = None
    prompt_type: str = ""
    prompt_content: str = ""
    context: Any = None
    model_used: str | None = None


class CoordinationItem(CaptureItem):
    """Coordination beyond one project; ``details`` holds ``session_id``."""

    type: str = ""
    details: dict[str, Any] = {}


class LoggedAnswer(BaseModel):
    """It is stored. ``new`` is false where the very same item was stored before."""

    success: Literal[True] = True
    logged: Literal[True] = True
    new: bool
    capture_id: int


class WorkAnswer(BaseModel):
    """Submitted work is stored."""

    success: Literal[True] = True
    work_id: str
    message: str
    new: bool
    capture_id: int


class PullAnswer(BaseModel):
    """The pull request is there, and stored."""

    success: Literal[True] = True
    pr_number: int
    pr_url: str
    message: str
    new: bool
    capture_id: int


class CaptureAnswer(BaseModel):
    """One captured item. ``redacted`` secrets were taken out of it, ``shortened`` texts were cut."""

    id: int
    kind: CaptureKind
    project_id: int | None
    repository: str
    task_number: int | None
    agent: str
    model: str
    session: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    size_bytes: int
    redacted: int
    shortened: int
    captured_at: str
    body: Any = None

    @classmethod
    def of(cls, stored: StoredCapture) -> CaptureAnswer:
        """From an item as it is kept."""
        item = stored.capture
        return cls(
            id=stored.id,
            kind=item.kind,
            project_id=item.project_id,
            repository=item.repository,
            task_number=item.task_number,
            agent=item.agent,
            model=item.model,
            session=item.session,
            tokens_in=item.usage.tokens_in,
            tokens_out=item.usage.tokens_out,
            cost_usd=item.usage.cost_microusd / MICROUSD_PER_USD,
            size_bytes=item.size_bytes,
            redacted=item.redacted,
            shortened=item.shortened,
            captured_at=stored.captured_at,
            body=item.body,
        )


class SumsAnswer(BaseModel):
    """Totals over everything that a search found, whatever page is shown."""

    items: int
    tokens_in: int
    tokens_out: int
    tokens: int
    cost_usd: float

    @classmethod
    def of(cls, sums: CaptureSums) -> SumsAnswer:
        """From the store's totals."""
        return cls(
            items=sums.items,
            tokens_in=sums.tokens_in,
            tokens_out=sums.tokens_out,
            tokens=sums.tokens_in + sums.tokens_out,
            cost_usd=sums.cost_microusd / MICROUSD_PER_USD,
        )


class CapturesAnswer(BaseModel):
    """One page of a search. ``next`` is what to send as ``before`` (or ``after``) for the next page, or null."""

    captures: list[CaptureAnswer]
    sums: SumsAnswer
    next: Annotated[int | None, Field(description="the id that ends this page")]

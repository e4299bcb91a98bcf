"""Hive's tables, as SQLAlchemy sees them.

``projects`` is the predecessor's, with its four ``bzzz`` columns; what it may hold as NULL may be NULL here.
Ours carry the prefix ``bzzz_`` so that they never meet a table of the predecessor's. The migrations, not
these classes, create them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The registry of all tables."""


class ProjectRow(Base):
    """One row of the predecessor's table."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str | None] = mapped_column(String(50))
    github_repo: Mapped[str | None] = mapped_column(String(255))
    git_url: Mapped[str | None] = mapped_column(String(500))
    git_owner: Mapped[str | None] = mapped_column(String(255))
    git_repository: Mapped[str | None] = mapped_column(String(255))
    git_branch: Mapped[str | None] = mapped_column(String(255))
    # ``metadata`` is a name that SQLAlchemy's declarative classes keep for themselves.
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, nullable=True)
    tags: Mapped[Any] = mapped_column(JSON, nullable=True)
    created_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    bzzz_enabled: Mapped[bool | None] = mapped_column(Boolean)
    ready_to_claim: Mapped[bool | None] = mapped_column(Boolean)
    private_repo: Mapped[bool | None] = mapped_column(Boolean)
    github_token_required: Mapped[bool | None] = mapped_column(Boolean)


class TaskReportRow(Base):
    """One report of what became of a task; ``digest`` makes the same report sent twice one row."""

    __tablename__ = "bzzz_task_reports"
    __table_args__ = (Index("ix_bzzz_task_reports_task", "project_id", "task_number", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    task_number: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(20))
    details: Mapped[Any] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    reported_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ClientClaimRow(Base):
    """One claim that Hive took for a client and that the client has not ended."""

    __tablename__ = "bzzz_client_claims"
    __table_args__ = (UniqueConstraint("project_id", "task_number", "agent"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    task_number: Mapped[int] = mapped_column(Integer)
    agent: Mapped[str] = mapped_column(String(200))
    claimed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class WebhookDeliveryRow(Base):
    """One webhook that was taken, so that it is not taken again."""

    __tablename__ = "bzzz_webhook_deliveries"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)


class CaptureRow(Base):
    """One captured item; ``digest`` makes the same item sent twice one row."""

    __tablename__ = "bzzz_captures"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(40))
    project_id: Mapped[int | None] = mapped_column(Integer)
    repository: Mapped[str] = mapped_column(String(201))
    task_number: Mapped[int | None] = mapped_column(Integer)
    agent: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(200))
    session: Mapped[str] = mapped_column(String(200))
    tokens_in: Mapped[int] = mapped_column(BigInteger)
    tokens_out: Mapped[int] = mapped_column(BigInteger)
    cost_microusd: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(Integer)
    redacted: Mapped[int] = mapped_column(Integer)
    shortened: Mapped[int] = mapped_column(Integer)
    body: Mapped[Any] = mapped_column(JSON)
    captured_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class KeyRow(Base):
    """One API key: its digest, never the key."""

    __tablename__ = "bzzz_keys"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(10))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    shown: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

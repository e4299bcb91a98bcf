"""Captured material. It outlives its project, so it names the repository and has no foreign key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, with an index for each way it is searched."""
    op.create_table(
        "bzzz_captures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("project_id", sa.Integer),
        sa.Column("repository", sa.String(201), nullable=False),
        sa.Column("task_number", sa.Integer),
        sa.Column("agent", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("session", sa.String(200), nullable=False),
        sa.Column("tokens_in", sa.BigInteger, nullable=False),
        sa.Column("tokens_out", sa.BigInteger, nullable=False),
        sa.Column("cost_microusd", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("redacted", sa.Integer, nullable=False),
        sa.Column("shortened", sa.Integer, nullable=False),
        sa.Column("body", sa.JSON),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        # An id is a place in the export and must not be given twice.
        sqlite_autoincrement=True,
    )
    op.create_index("ix_bzzz_captures_task", "bzzz_captures", ["project_id", "task_number", "id"])
    op.create_index("ix_bzzz_captures_agent", "bzzz_captures", ["agent", "id"])
    op.create_index("ix_bzzz_captures_model", "bzzz_captures", ["model", "id"])
    op.create_index("ix_bzzz_captures_time", "bzzz_captures", ["captured_at"])


def downgrade() -> None:
    """Drop it, with what was captured: export that first."""
    op.drop_table("bzzz_captures")

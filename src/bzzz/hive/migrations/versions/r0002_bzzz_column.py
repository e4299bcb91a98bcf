"""The four columns that the predecessor's integration added to ``projects``, where they are not there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

COLUMNS = ("bzzz_enabled", "ready_to_claim", "private_repo", "github_token_required")

_CREATED = sa.table("bzzz_created", sa.column("name", sa.String))


def upgrade() -> None:
    """Add those that are missing; projects that are there get false."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("projects")}
    for name in COLUMNS:
        if name not in there:
            op.add_column("projects", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
            op.bulk_insert(_CREATED, [{"name": f"projects.{name}"}])


def downgrade() -> None:
    """Drop those that the upgrade made."""
    made = set(op.get_bind().scalars(sa.select(_CREATED.c.name)))
    for name in COLUMNS:
        if f"projects.{name}" in made:
            op.drop_column("projects", name)
    op.execute(_CREATED.delete().where(_CREATED.c.name.like("projects.%")))

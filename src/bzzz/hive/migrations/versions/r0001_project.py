"""The predecessor's ``projects`` table, without the four ``bzzz`` columns, where it is not there.

``bzzz_created`` notes what our steps made themselves, so that a downgrade never drops a table or a column
that the predecessor brought.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless the predecessor has."""
    created = op.create_table("bzzz_created", sa.Column("name", sa.String(100), primary_key=True))
    if sa.inspect(op.get_bind()).has_table("projects"):
        return
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("description", sa.Text),
        sa.Column("status", sa.String(50)),
        sa.Column("github_repo", sa.String(255)),
        sa.Column("git_url", sa.String(500)),
        sa.Column("git_owner", sa.String(255)),
        sa.Column("git_repository", sa.String(255)),
        sa.Column("git_branch", sa.String(255), server_default="main"),
        sa.Column("metadata", sa.JSON),
        sa.Column("tags", sa.JSON),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.current_timestamp()),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.current_timestamp()),
        # An id that was a project once is never another's: nodes may still report to it.
        sqlite_autoincrement=True,
    )
    op.bulk_insert(created, [{"name": "projects"}])


def downgrade() -> None:
    """Drop the table only where the upgrade made it."""
    created = sa.table("bzzz_created", sa.column("name", sa.String))
    mine = op.get_bind().scalar(sa.select(created.c.name).where(created.c.name == "projects"))
    if mine:
        op.drop_table("projects")
    op.drop_table("bzzz_created")

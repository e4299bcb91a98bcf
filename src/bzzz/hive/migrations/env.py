"""Alembic's hook: runs the steps on the connection, and inside the transaction, that ``database`` opened.

The version table has our own name, because a predecessor database may carry an ``alembic_version`` of its
own, which must not be taken for ours.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()

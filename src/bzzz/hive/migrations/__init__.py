"""Alembic's environment and the steps of Hive's schema; run by ``bzzz.hive.database``, never by hand."""

"""The forge's database: one SQLite file in WAL mode, and transactions that mean it.

A write is ``BEGIN IMMEDIATE``, so a number is given out once however many threads and processes ask; a
read sees one moment. Each thread has its own connection. What the tables mean is in the modules that use
them; this one knows only how to open, upgrade and lock.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bzzz.errors import UsageError

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE account (
    id INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE COLLATE NOCASE,
    kind TEXT NOT NULL CHECK (kind IN ('User', 'Organization')), created_at TEXT NOT NULL);
CREATE TABLE token (
    id INTEGER PRIMARY KEY, login TEXT NOT NULL COLLATE NOCASE, label TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'issue', 'write', 'admin')),
    digest BLOB NOT NULL UNIQUE, created_at TEXT NOT NULL, revoked_at TEXT);
CREATE TABLE repository (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
    description TEXT NOT NULL DEFAULT '', default_branch TEXT NOT NULL DEFAULT 'main',
    private INTEGER NOT NULL DEFAULT 0, next_number INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, pushed_at TEXT, UNIQUE (owner, name));
CREATE TABLE issue (
    id INTEGER PRIMARY KEY, repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    number INTEGER NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')), state_reason TEXT,
    author TEXT NOT NULL, association TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    closed_at TEXT, closed_by TEXT, is_pull INTEGER NOT NULL DEFAULT 0, comments INTEGER NOT NULL DEFAULT 0,
    UNIQUE (repository_id, number));
CREATE INDEX issue_by_state ON issue (repository_id, state, is_pull);
CREATE TABLE pull (
    issue_id INTEGER PRIMARY KEY REFERENCES issue ON DELETE CASCADE,
    head_ref TEXT NOT NULL, head_sha TEXT NOT NULL, base_ref TEXT NOT NULL, base_sha TEXT NOT NULL,
    draft INTEGER NOT NULL DEFAULT 0, merged_at TEXT, merged_by TEXT, merge_commit_sha TEXT);
CREATE TABLE label (
    id INTEGER PRIMARY KEY, repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    name TEXT NOT NULL COLLATE NOCASE, color TEXT NOT NULL, description TEXT NOT NULL DEFAULT '',
    UNIQUE (repository_id, name));
CREATE TABLE issue_label (
    issue_id INTEGER NOT NULL REFERENCES issue ON DELETE CASCADE,
    label_id INTEGER NOT NULL REFERENCES label ON DELETE CASCADE, PRIMARY KEY (issue_id, label_id));
CREATE TABLE assignee (
    issue_id INTEGER NOT NULL REFERENCES issue ON DELETE CASCADE, login TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (issue_id, login));
CREATE TABLE comment (
    id INTEGER PRIMARY KEY AUTOINCREMENT, issue_id INTEGER NOT NULL REFERENCES issue ON DELETE CASCADE,
    author TEXT NOT NULL, association TEXT NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE INDEX comment_by_issue ON comment (issue_id, id);
CREATE TABLE status (
    id INTEGER PRIMARY KEY, repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    sha TEXT NOT NULL, state TEXT NOT NULL, context TEXT NOT NULL, description TEXT, target_url TEXT,
    author TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE INDEX status_by_commit ON status (repository_id, sha, id);
CREATE TABLE hook (
    id INTEGER PRIMARY KEY, repository_id INTEGER NOT NULL REFERENCES repository ON DELETE CASCADE,
    url TEXT NOT NULL, secret TEXT NOT NULL DEFAULT '', events TEXT NOT NULL, active INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_status INTEGER, last_error TEXT,
    delivered INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0);
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT, hook_id INTEGER NOT NULL REFERENCES hook ON DELETE CASCADE,
    guid TEXT NOT NULL, event TEXT NOT NULL, payload BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    due_s REAL NOT NULL);
CREATE INDEX delivery_due ON delivery (due_s);
"""

_REVIEWERS = """
CREATE TABLE reviewer (
    issue_id INTEGER NOT NULL REFERENCES pull ON DELETE CASCADE, login TEXT NOT NULL COLLATE NOCASE,
    PRIMARY KEY (issue_id, login));
"""

_STEPS = (_SCHEMA, _REVIEWERS)
"""What brings the schema from each version to the next."""


class Store:
    """Opens the database at ``path``, making it where it is missing.

    Raises:
        UsageError: the file is not ours, or was written by a newer Bzzz.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        try:
            self._migrate()
            path.chmod(0o600)
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise UsageError(f"{path} cannot be opened as a forge's database: {error}") from None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one moment and writes nothing."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock from its start; an exception undoes all of it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Close every thread's connection; the store cannot be used afterwards."""
        with self._guard:
            self._closed = True
            for connection in self._all:
                connection.close()
            self._all.clear()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            return found
        with self._guard:
            if self._closed:
                raise UsageError(f"{self._path} is closed")
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._all.append(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        self._local.connection = connection
        return connection

    def _migrate(self) -> None:
        with self.write() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise UsageError(f"{self._path} was written by a newer Bzzz (schema {version}); upgrade this one")
            for step in _STEPS[version:]:
                for statement in step.split(";\n"):
                    if statement.strip():
                        db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

"""The journal in one SQLite file: start count, repositories, own claims, and the outbox.

Writes are durable when a call returns (``synchronous=FULL``), because effects that follow them rely on it.
One node uses one file; a second process is refused by the lock that ``open`` takes.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bzzz.core.record import ClaimRecord
from bzzz.core.task import Repository, Task, TaskId, TaskType
from bzzz.errors import UsageError
from bzzz.ports import OutboxItem

OUTBOX_ITEMS_MAX = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS repository (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS claim (task TEXT PRIMARY KEY, description TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (delivered, tries, id);
"""


class SqliteJournal:
    """The ``Journal`` port on a file.

    Args:
        path: the database file; its folder is made, readable by its owner alone.

    Raises:
        UsageError: another node uses this folder, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except BlockingIOError:
            raise UsageError(f"{path.parent}: another node is running on this data folder; stop it first") from None
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{path}: the journal cannot be opened: {error}") from None

    def next_incarnation(self) -> int:
        """Count one more start."""
        row = self._db.execute(
            "INSERT INTO counter VALUES ('incarnation', 1) "
            "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        ).fetchone()
        return int(row[0])

    def repositories(self) -> Sequence[Repository]:
        """The list of repositories kept last."""
        rows = self._db.execute("SELECT value FROM repository ORDER BY key").fetchall()
        return [Repository(**json.loads(value)) for (value,) in rows]

    def keep_repositories(self, repositories: Sequence[Repository]) -> None:
        """Replace the kept list."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM repository")
            self._db.executemany(
                "INSERT OR REPLACE INTO repository VALUES (?, ?)",
                [(repository.key, json.dumps(asdict(repository))) for repository in repositories],
            )

    def remember(self, task: Task, record: ClaimRecord) -> None:
        """Keep the newest record of a task."""
        self._db.execute(
            "INSERT OR REPLACE INTO claim VALUES (?, ?, ?)",
            (str(task.id), json.dumps(asdict(task)), record.to_bytes().decode()),
        )

    def remembered(self) -> Sequence[tuple[Task, ClaimRecord]]:
        """All tasks that were remembered and not forgotten."""
        rows = self._db.execute("SELECT description, record FROM claim ORDER BY task").fetchall()
        return [(_task(json.loads(text)), ClaimRecord.from_bytes(record.encode())) for text, record in rows]

    def forget(self, task: TaskId) -> None:
        """Nothing of this task is left to recover."""
        self._db.execute("DELETE FROM claim WHERE task = ?", (str(task),))

    def enqueue(self, task: TaskId, epoch: int, kind: str, data: Mapping[str, Any]) -> None:
        """Add a report to the outbox, once; the oldest delivered ones make room."""
        self._db.execute(
            "INSERT OR IGNORE INTO outbox (key, task, epoch, kind, data) VALUES (?, ?, ?, ?, ?)",
            (f"{task}@{epoch}:{kind}", str(task), epoch, kind, json.dumps(dict(data))),
        )
        self._db.execute(
            "DELETE FROM outbox WHERE delivered = 1 AND id <= (SELECT max(id) FROM outbox) - ?", (OUTBOX_ITEMS_MAX,)
        )

    def pending(self, items_max: int) -> Sequence[OutboxItem]:
        """The reports that wait: what failed least, then the oldest."""
        rows = self._db.execute(
            "SELECT id, key, task, epoch, kind, data, tries FROM outbox "
            "WHERE delivered = 0 ORDER BY tries, id LIMIT ?",
            (items_max,),
        ).fetchall()
        return [
            OutboxItem(number, key, TaskId.parse(task), epoch, kind, json.loads(data), tries)
            for number, key, task, epoch, kind, data, tries in rows
        ]

    def delivered(self, item_id: int) -> None:
        """This report arrived."""
        self._db.execute("UPDATE outbox SET delivered = 1 WHERE id = ?", (item_id,))

    def postponed(self, item_id: int) -> None:
        """This report did not arrive."""
        self._db.execute("UPDATE outbox SET tries = tries + 1 WHERE id = ?", (item_id,))

    def outbox_length(self) -> int:
        """How many reports wait."""
        return int(self._db.execute("SELECT count(*) FROM outbox WHERE delivered = 0").fetchone()[0])

    def close(self) -> None:
        """Close the file and give up its lock."""
        self._db.close()
        os.close(self._lock)


def _task(value: dict[str, Any]) -> Task:
    return Task(
        id=TaskId(**value["id"]),
        title=value["title"],
        task_type=TaskType(value["task_type"]),
        priority=value["priority"],
        labels=tuple(value["labels"]),
        keywords=tuple(value["keywords"]),
        url=value["url"],
        updated_at=value["updated_at"],
    )

"""The journal in one SQLite file: start count, repositories, own claims, and the outbox.

Writes are durable when a call returns (``synchronous=FULL``), because effects that follow them rely on it.
One node uses one file; a second process is refused by the lock that ``open`` takes.
"""

from __future__ import annotations

import contextlib
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
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS repository (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS own_claim (
    task TEXT NOT NULL, epoch INTEGER NOT NULL, description TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (task, epoch)
);
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
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(path)
        except OSError as error:
            raise UsageError(f"{path}: the journal cannot be opened: {error.strerror}") from None
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._check_version()
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise UsageError(
                f"{path}: the journal cannot be opened: {error}; if it is damaged, move it away to begin a new one"
            ) from None
        except UsageError:
            os.close(self._lock)
            raise

    def _check_version(self) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, SCHEMA_VERSION):
            raise UsageError(
                f"{self._path}: the journal has version {version}, and this Bzzz reads {SCHEMA_VERSION}; "
                "run the Bzzz that wrote it, or move it away to begin a new one"
            )
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def next_incarnation(self, least: int) -> int:
        """Number one more start: above all numbers of this file, and no less than ``least``."""
        row = self._db.execute(
            "INSERT INTO counter VALUES ('incarnation', max(1, :least)) "
            "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, :least) RETURNING value",
            {"least": least},
        ).fetchone()
        return int(row[0])

    def repositories(self) -> Sequence[Repository]:
        """The list of repositories kept last; one that cannot be read is left out, for Hive tells it again."""
        found = []
        for (value,) in self._db.execute("SELECT value FROM repository ORDER BY key").fetchall():
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                found.append(Repository.from_object(json.loads(value)))
        return found

    def keep_repositories(self, repositories: Sequence[Repository]) -> None:
        """Replace the kept list; of two with one name the first is kept."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM repository")
            self._db.executemany(
                "INSERT OR IGNORE INTO repository VALUES (?, ?)",
                [(repository.key, json.dumps(asdict(repository))) for repository in repositories],
            )

    def remember(self, task: Task, record: ClaimRecord) -> None:
        """Keep the newest record of a claim; an earlier claim, with work of its own, is kept beside it."""
        self._db.execute(
            "INSERT OR REPLACE INTO own_claim VALUES (?, ?, ?, ?)",
            (str(task.id), record.epoch, json.dumps(asdict(task)), record.to_bytes().decode()),
        )

    def remembered(self) -> Sequence[tuple[Task, ClaimRecord]]:
        """All tasks that were remembered and not forgotten.

        Raises:
            UsageError: one cannot be read. It may hold work that exists nowhere else, so it is not passed over.
        """
        rows = self._db.execute("SELECT task, description, record FROM own_claim ORDER BY task, epoch").fetchall()
        try:
            return [(_task(json.loads(text)), ClaimRecord.from_bytes(record.encode())) for _, text, record in rows]
        except (ValueError, KeyError, TypeError) as error:
            names = ", ".join(task for task, _, _ in rows)
            raise UsageError(
                f"{self._path}: what was kept of {names[:200]} cannot be read: {error}; move the journal away "
                "to begin a new one (work that was not pushed stays in the attempts' folders)"
            ) from None

    def forget(self, task: TaskId, epoch: int) -> None:
        """Nothing of this claim is left to recover."""
        self._db.execute("DELETE FROM own_claim WHERE task = ? AND epoch = ?", (str(task), epoch))

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
        """The oldest waiting report of each task: what failed least, then the oldest.

        A later report of a task waits for the earlier ones, or a late "claimed" would undo a "delivered".
        """
        rows = self._db.execute(
            "SELECT id, key, task, epoch, kind, data, tries FROM outbox WHERE id IN "
            "(SELECT min(id) FROM outbox WHERE delivered = 0 GROUP BY task) ORDER BY tries, id LIMIT ?",
            (items_max,),
        ).fetchall()
        return [
            OutboxItem(number, key, TaskId.parse(task), epoch, kind, json.loads(data), tries)
            for number, key, task, epoch, kind, data, tries in rows
        ]

    def delivered(self, item_id: int) -> None:
        """This report arrived."""
        self._db.execute("UPDATE outbox SET delivered = 1, data = '{}' WHERE id = ?", (item_id,))

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


def _locked(path: Path) -> int:
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"{path.parent}: another node is running on this data folder; stop it first") from None
    except OSError:
        os.close(lock)
        raise
    return lock


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
        digest=value.get("digest", ""),
    )

"""Where ``bzzz hive`` commands work: the options that name a running Hive or its database, and the key for it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bzzz.errors import SettingError, UsageError
from bzzz.hive.setting import credential, has_password, read_secret, sqlite_url

if TYPE_CHECKING:
    from bzzz.hive.store import HiveStore

DEFAULT_URL = "http://127.0.0.1:8740"
KEY_VARIABLE = "BZZZ_HIVE_API_KEY"
KEY_CREDENTIAL = "hive-api-key"

UrlOption = Annotated[str, typer.Option("--url", envvar="BZZZ_HIVE_API_URL", help="A running Hive.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key-file", envvar="BZZZ_HIVE_API_KEY_FILE", help="File with the API key.")
]
DatabaseOption = Annotated[
    str, typer.Option("--database", help="Work directly on this SQLite file, or database URL, instead.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Monotonic milliseconds."""
        return time.monotonic_ns() // 1_000_000

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def api_key(key_file: Path | None) -> str | None:
    """The key for a running Hive: from the file, a systemd credential, or the environment.

    Raises:
        SettingError: the file cannot be read or is empty.
    """
    file = key_file or credential(KEY_CREDENTIAL, os.environ)
    return read_secret(file, "--key-file") or os.environ.get(KEY_VARIABLE) or None


def database_url(database: str, *, may_create: bool = False) -> str:
    """The database URL that ``--database`` names.

    Raises:
        SettingError: it holds a password, which every user of this machine could read in the process list.
        UsageError: there is no such file.
    """
    if "://" in database:
        if has_password(database):
            allowed = "leave the password out: libpq reads it from ~/.pgpass or PGPASSFILE"
            raise SettingError("--database", "database", "a URL with a password", allowed)
        return database
    path = Path(database).expanduser()
    if not may_create and not path.is_file():
        raise UsageError(f"there is no database {path}")
    return sqlite_url(path.resolve())


def open_store(database: str) -> HiveStore:
    """The store in a database that is there.

    Raises:
        UsageError: as for ``database_url``, or it cannot be opened.
    """
    from bzzz.hive.store import HiveStore

    return HiveStore(database_url(database), SystemClock())

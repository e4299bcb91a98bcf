"""The database behind Hive: opening it, and bringing its schema up or down.

SQLite serves by default and PostgreSQL (through psycopg 3) a team; nothing outside this module knows which it
is. Two writers never interleave where it matters: on PostgreSQL ``exclusively`` takes a lock that lasts as long
as the transaction (postgresql.org/docs, "Advisory Locks"), SQLite has one writer anyway. SQLite's
driver opens transactions late and on its own terms, so here each transaction begins when SQLAlchemy says
so, and one that will write takes SQLite's only write lock at once: two writers then wait for each other,
and neither fails half way (sqlite.org/lang_transaction.html, "BEGIN IMMEDIATE").

PostgreSQL is a process of its own, and each trip there and back costs a change of threads and processes, which is
what a busy machine is slow at. So what is one statement goes without a BEGIN and a COMMIT of its own (``glance``,
``at_once``), and whether a connection still stands is read from its socket, not asked.
"""

from __future__ import annotations

import select
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError, SQLAlchemyError

from bzzz.errors import SettingError, UsageError

BUSY_TIMEOUT_S = 10.0
POOL_SIZE = 10
POOL_OVERFLOW_MAX = 30
POOL_WAIT_S_MAX = 10.0
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Seconds and tries (postgresql.org/docs, "Parameter Key Words"): a silent server counts as gone after a minute."""
VERSION_TABLE = "bzzz_schema_version"

_WRITES = "bzzz_writes"
_LOCK_KEY = 0x627A7A7A
_EXCLUSIVE_KEY = _LOCK_KEY + 1
_POSTGRESQL = "postgresql+psycopg"
_MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(url: str) -> tuple[Engine, Engine]:
    """Engines for reading and for writing; they share one pool of connections.

    Raises:
        SettingError: not a database URL, one without its driver, or SQLite in memory (which every
            connection would see differently).
    """
    parsed = _parse(url)
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_OVERFLOW_MAX,
        "pool_timeout": POOL_WAIT_S_MAX,
    }
    if parsed.drivername == _POSTGRESQL:
        options["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "bzzz-hive",
            **KEEPALIVE,
        }
    if parsed.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": BUSY_TIMEOUT_S}
        Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
    try:
        engine = create_engine(parsed, **options)
    except (NoSuchModuleError, ImportError) as error:
        shown = parsed.render_as_string(hide_password=True)
        raise SettingError("hive", "database_url", shown, f"its driver is not installed: {error}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif parsed.drivername == _POSTGRESQL:
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "checkout", _refuse_closed)
    return engine, engine.execution_options(**{_WRITES: True})


def glance(reader: Engine) -> Engine:
    """The same engine for single readings: one trip each, since nothing has to be begun and ended."""
    if reader.dialect.name != "postgresql":
        return reader
    return reader.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def at_once(writer: Engine) -> Iterator[Connection]:
    """A connection for few statements of which one alone writes, or each may stand without the others.

    On SQLite they are one transaction, which costs no trip there; on PostgreSQL each is its own.
    """
    if writer.dialect.name == "postgresql":
        with writer.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    else:
        with writer.begin() as connection:
            yield connection


def insert_new(writer: Engine, table: Any) -> Any:
    """An ``INSERT`` that leaves out what a unique index knows already; with ``returning`` it tells what is new."""
    make = postgresql.insert if writer.dialect.name == "postgresql" else sqlite.insert
    return make(table).on_conflict_do_nothing()


def exclusively(connection: Connection) -> None:
    """From here to its end, no other transaction that asked for the same is between the two.

    For rules over several rows that no index holds: what was looked up stays true until it is written.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EXCLUSIVE_KEY})


def upgrade_database(url: str, revision: str = "head") -> None:
    """Bring the schema up to ``revision``; doing it again, or twice at once, does nothing more.

    Raises:
        SettingError: as for ``open_database``.
        UsageError: the database cannot be opened or holds something that cannot be upgraded.
    """
    _migrate(url, command.upgrade, revision)


def downgrade_database(url: str, revision: str = "base") -> None:
    """Take the schema down to ``revision``. What the predecessor brought stays; what we added goes.

    Raises:
        SettingError: as for ``open_database``.
        UsageError: as for ``upgrade_database``.
    """
    _migrate(url, command.downgrade, revision)


def shown_url(url: str) -> str:
    """The URL as it may be shown: without a password."""
    return _parse(url).render_as_string(hide_password=True)


def _migrate(url: str, run: Any, revision: str) -> None:
    reader, writer = open_database(url)
    config = Config()
    # Alembic reads "%" in options as interpolation, and a path may hold one.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["version_table"] = VERSION_TABLE
    try:
        with writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            config.attributes["connection"] = connection
            run(config, revision)
    except (SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise UsageError(f"Hive's database {shown_url(url)} cannot be prepared: {reason}") from None
    finally:
        reader.dispose()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername=_POSTGRESQL)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        # The text may hold a password even though it is no URL, so it is not shown.
        raise SettingError("hive", "database_url", "...", "sqlite:///PATH or postgresql://...") from None
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise SettingError("hive", "database_url", url, "name a file: sqlite:///PATH")
    return parsed


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # A setting of the session, so that it also holds where the URL brings options of its own.
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
    connection.commit()


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    # A server that ended a connection has said so on its socket, and one that has not says nothing unasked.
    ready = select.poll()
    try:
        ready.register(connection.fileno(), select.POLLIN | select.POLLPRI)
        standing = not connection.closed and not ready.poll(0)
    except Exception:
        standing = False
    if not standing:
        raise InvalidatePoolError


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

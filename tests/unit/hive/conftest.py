"""What Hive's tests share: databases of both kinds, each new and empty, or upgraded already.

One PostgreSQL serves all tests of a process; each test has a database of its own there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.support.postgres import PostgresServer, running_postgres

from bzzz.hive.database import upgrade_database
from bzzz.hive.setting import sqlite_url

KINDS = ("sqlite", "postgresql")


def database_name(url: str) -> str:
    """The last part of a URL's path."""
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server, started by the first test that needs it."""
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="session")
def upgraded_template(postgres: PostgresServer) -> str:
    """The name of a database that is upgraded already, to be copied."""
    url = postgres.create()
    upgrade_database(url)
    return database_name(url)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture
def empty_database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if kind == "sqlite":
        return sqlite_url(tmp_path / "hive.db")
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.create()


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database for a ``HiveStore``."""
    if kind == "sqlite":
        yield sqlite_url(tmp_path / "hive.db")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create(request.getfixturevalue("upgraded_template"))
    yield url
    name = database_name(url)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

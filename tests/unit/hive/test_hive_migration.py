"""Upgrades and downgrades with data in place, on both databases, from nothing and from both predecessor schemas."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from tests.support.hive_server import RealClock
from tests.support.postgres import PostgresServer

from bzzz.errors import SettingError, UsageError
from bzzz.hive.capture import prepare
from bzzz.hive.database import downgrade_database, open_database, shown_url, upgrade_database
from bzzz.hive.key import Role
from bzzz.hive.project import draft_from
from bzzz.hive.redact import Redactor
from bzzz.hive.setting import sqlite_url
from bzzz.hive.store import HiveStore

FLAGS = ("bzzz_enabled", "ready_to_claim", "private_repo", "github_token_required")

PREDECESSOR = """
CREATE TABLE projects (
    id {serial} PRIMARY KEY, name VARCHAR(255) UNIQUE, description TEXT, status VARCHAR(50),
    github_repo VARCHAR(255), git_url VARCHAR(255), git_owner VARCHAR(255), git_repository VARCHAR(255),
    git_branch VARCHAR(255) DEFAULT 'main',
    metadata JSON, tags JSON, created_at TIMESTAMP, updated_at TIMESTAMP{flags}
);
CREATE TABLE agents (id INTEGER PRIMARY KEY, project_id INTEGER REFERENCES projects (id), name TEXT);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);
INSERT INTO alembic_version VALUES ('004_their_own');
INSERT INTO projects (id, name, git_url, metadata, tags, created_at)
    VALUES (7, 'hive', 'https://bot:s3cret@github.com/acme/hive.git', '{{"stars": 3}}', '["web"]',
            '2025-07-13 10:00:00');
INSERT INTO projects (id, name, status) VALUES (8, 'notes', NULL);
INSERT INTO agents VALUES (1, 7, 'walnut');
"""


def run(url: str, *statements: str) -> list[Any]:
    """Run SQL as somebody else would; gives the rows of the last statement that has any."""
    reader, writer = open_database(url)
    rows: Sequence[Any] = ()
    try:
        with writer.begin() as connection:
            for statement in statements:
                done = connection.execute(text(statement.replace(":", "\\:")))
                rows = done.fetchall() if done.returns_rows else rows
    finally:
        reader.dispose()
    return [tuple(row) for row in rows]


def predecessor(url: str, *, with_flags: bool) -> str:
    """Fill an empty database as the predecessor's would be; gives its URL."""
    flags = "".join(f", {flag} BOOLEAN DEFAULT FALSE" for flag in FLAGS) if with_flags else ""
    serial = "SERIAL" if url.startswith("postgresql") else "INTEGER"
    run(url, *(part for part in PREDECESSOR.format(flags=flags, serial=serial).split(";") if part.strip()))
    if with_flags:
        run(url, "UPDATE projects SET bzzz_enabled = TRUE, ready_to_claim = NULL WHERE id = 7")
    return url


def columns(url: str, table: str = "projects") -> set[str]:
    reader, _ = open_database(url)
    try:
        found = inspect(reader)
        return {column["name"] for column in found.get_columns(table)} if found.has_table(table) else set()
    finally:
        reader.dispose()


def names(url: str) -> list[str]:
    return [name for (name,) in run(url, "SELECT name FROM projects ORDER BY id")]


@pytest.mark.parametrize("with_flags", [False, True])
def test_a_predecessor_database_upgrades_with_its_data(empty_database: str, with_flags: bool) -> None:
    url = predecessor(empty_database, with_flags=with_flags)
    with HiveStore(url, RealClock()) as store:
        hive, notes = store.projects()
        assert (hive.id, hive.key, hive.branch) == (7, "acme/hive", "main")
        assert hive.metadata == {"stars": 3}
        assert hive.tags == ("web",)
        assert hive.created_at == "2025-07-13T10:00:00Z"
        assert hive.bzzz_enabled is with_flags
        assert hive.ready_to_claim is False
        assert "s3cret" not in repr(hive)
        assert notes.problem == "it has no git address"
        changed = store.change(7, {"bzzz_enabled": True})
        assert changed is not None
        assert [one.key for one in store.projects(active_only=True)] == ["acme/hive"]
    assert run(url, "SELECT version_num FROM alembic_version") == [("004_their_own",)]
    assert run(url, "SELECT project_id, name FROM agents") == [(7, "walnut")]


@pytest.mark.parametrize("with_flags", [False, True])
def test_a_downgrade_takes_away_what_the_upgrade_added_and_nothing_of_the_predecessors(
    empty_database: str, with_flags: bool
) -> None:
    url = predecessor(empty_database, with_flags=with_flags)
    before = columns(url)
    upgrade_database(url)
    assert columns(url) == before | set(FLAGS)
    downgrade_database(url)
    assert columns(url) == before
    assert names(url) == ["hive", "notes"]
    assert columns(url, "bzzz_task_reports") == set()
    upgrade_database(url)
    assert columns(url) == before | set(FLAGS)


def test_each_step_goes_down_and_up_again_with_our_own_data_in_place(empty_database: str) -> None:
    url = empty_database
    with HiveStore(url, RealClock()) as store:
        made = store.add(draft_from({"name": "shop", "git_url": "https://github.com/acme/shop"}, ""))
        assert store.reports.add(made.id, 3, "completed", {"a": 1}) is True
        store.captures.add(prepare("chat-log", {"a": 1}, Redactor()))
        store.keys.add("walnut", Role.NODE, "bzh_some-key-of-a-node")
        store.reports.note_client(made.id, 3, "old")
    for step, table in (("r0005", "bzzz_client_claims"), ("r0004", "bzzz_keys"), ("r0003", "bzzz_captures")):
        downgrade_database(url, step)
        assert columns(url, table) == set()
    assert run(url, "SELECT status FROM bzzz_task_reports") == [("completed",)]
    downgrade_database(url, "r0002")
    assert columns(url) >= set(FLAGS)
    downgrade_database(url, "r0001")
    assert not columns(url) & set(FLAGS)
    assert names(url) == ["shop"]
    with HiveStore(url, RealClock()) as store:
        (again,) = store.projects()
        assert (again.name, again.bzzz_enabled) == ("shop", False)
        assert store.reports.newest(again.id) == {}
    downgrade_database(url)
    assert columns(url) == set()


def test_several_hives_that_start_at_once_upgrade_one_database_once(empty_database: str) -> None:
    url = predecessor(empty_database, with_flags=False)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade_database, url) for _ in range(4)]:
            done.result()
    assert columns(url) >= set(FLAGS)


def test_a_failed_upgrade_leaves_the_database_as_it_was(empty_database: str) -> None:
    url = predecessor(empty_database, with_flags=False)
    run(url, "CREATE TABLE bzzz_webhook_deliveries (id INTEGER PRIMARY KEY)")
    before = columns(url)
    with pytest.raises(UsageError, match="cannot be prepared"):
        upgrade_database(url)
    assert columns(url) == before
    assert columns(url, "bzzz_created") == set()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql+nosuchdriver://u:s3cret@h/d", "oracle9://u:s3cret@h/d"],
)
def test_a_database_url_that_cannot_be_used_is_a_clear_setting_error(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        upgrade_database(url)
    assert "database_url" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "hive.db"
    path.write_text("not a database, but long enough to be taken for the header of one\n" * 20)
    with pytest.raises(UsageError, match="not a database") as caught:
        upgrade_database(sqlite_url(path))
    assert "\n" not in str(caught.value)


def test_a_plain_postgresql_url_is_opened_with_the_driver_that_is_installed(postgres: PostgresServer) -> None:
    url = postgres.create()
    assert url.startswith("postgresql://")
    reader, _ = open_database(url)
    try:
        assert reader.url.drivername == "postgresql+psycopg"
        with reader.connect() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
    finally:
        reader.dispose()


def test_a_postgresql_that_is_away_is_one_clear_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be prepared") as caught:
        upgrade_database(f"postgresql://hive:s3cret@/hive?host={tmp_path}")
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_password_in_the_database_url_is_never_shown() -> None:
    assert "s3cret" not in shown_url("postgresql://hive:s3cret@db/hive")

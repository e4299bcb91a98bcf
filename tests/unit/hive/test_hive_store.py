"""What Hive remembers, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event
from tests.support.hive_server import RealClock
from tests.support.postgres import PostgresServer

from bzzz.errors import UsageError
from bzzz.hive import report_store
from bzzz.hive import store as store_module
from bzzz.hive.capture import prepare
from bzzz.hive.project import change_from, draft_from
from bzzz.hive.redact import Redactor
from bzzz.hive.report_store import NewReport
from bzzz.hive.store import HiveStore


@pytest.fixture
def store(database: str) -> Iterator[HiveStore]:
    with HiveStore(database, RealClock()) as opened:
        yield opened


def add(store: HiveStore, name: str = "shop", repository: str = "acme/shop") -> int:
    return store.add(draft_from({"name": name, "git_url": f"https://github.com/{repository}.git"}, "")).id


def test_a_name_belongs_to_one_project(store: HiveStore) -> None:
    add(store)
    with pytest.raises(UsageError, match="'shop'"):
        add(store, repository="acme/other")


def test_a_repository_belongs_to_one_project_whatever_the_case_of_its_letters(store: HiveStore) -> None:
    add(store)
    with pytest.raises(UsageError, match="already"):
        add(store, "other", "Acme/SHOP")


def test_a_project_may_be_changed_to_what_it_is(store: HiveStore) -> None:
    project_id = add(store)
    same = change_from({"name": "shop", "git_url": "https://github.com/acme/shop.git"})
    assert store.change(project_id, same) is not None


def test_a_new_address_brings_a_new_rest_root_unless_one_is_given(store: HiveStore) -> None:
    project_id = add(store)
    store.change(project_id, change_from({"api_url": "http://proxy.test/api", "metadata": {"team": "till"}}))
    moved = store.change(project_id, change_from({"git_url": "http://git.test/acme/shop"}))
    assert moved is not None
    assert moved.api_url == "http://git.test/api/v3"
    assert moved.metadata == {"team": "till"}


def test_the_id_of_a_removed_project_is_never_another_projects(store: HiveStore) -> None:
    first = add(store)
    assert store.remove(first)
    assert not store.remove(first)
    assert add(store) != first


def test_removing_a_project_removes_its_reports_alone(store: HiveStore) -> None:
    shop, till = add(store), add(store, "till", "acme/till")
    store.reports.add(shop, 1, "completed", {})
    store.reports.add(till, 1, "failed", {})
    store.remove(shop)
    assert store.reports.add(shop, 1, "completed", {}) is None
    assert store.reports.newest(till)[1].status == "failed"


def test_the_newest_report_of_each_task_counts_and_a_late_repeat_changes_nothing(store: HiveStore) -> None:
    shop = add(store)
    store.reports.add(shop, 1, "in_progress", {"epoch": 1})
    store.reports.add(shop, 1, "completed", {"epoch": 1})
    assert store.reports.add(shop, 1, "in_progress", {"epoch": 1}) is False
    store.reports.add(shop, 2, "failed", {})
    assert {number: one.status for number, one in store.reports.newest(shop).items()} == {
        1: "completed",
        2: "failed",
    }


def test_reports_of_one_task_are_bounded_and_the_newest_stay(
    store: HiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_store, "REPORTS_PER_TASK_MAX", 3)
    shop = add(store)
    for step in range(5):
        store.reports.add(shop, 1, "in_progress", {"step": step})
    store.reports.add(shop, 2, "failed", {})
    assert [one.details["step"] for one in store.reports.of(shop, 1)] == [2, 3, 4]
    assert len(store.reports.of(shop, 2)) == 1


def test_reports_from_many_threads_at_once_are_all_stored_and_the_same_one_once(store: HiveStore) -> None:
    shop = add(store)
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: store.reports.add(shop, 1, "completed", {"same": True}), range(16)))
        others = list(pool.map(lambda step: store.reports.add(shop, 2, "in_progress", {"step": step}), range(40)))
    assert sorted(map(bool, same)) == [False] * 15 + [True]
    assert all(others)
    assert len(store.reports.of(shop, 2)) == 40


def test_a_webhook_is_taken_once_and_the_memory_of_it_is_bounded(
    store: HiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "DELIVERIES_REMEMBERED_MAX", 2)
    assert store.take_delivery("a")
    assert not store.take_delivery("a")
    assert store.take_delivery("b")
    assert store.take_delivery("c")
    assert not store.take_delivery("b")
    assert store.take_delivery("a")


def test_of_two_projects_for_one_repository_added_at_once_one_is_refused(store: HiveStore) -> None:
    def attempt(name: str) -> bool:
        try:
            add(store, name)
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.ping(), range(8)))  # connections are there: now all begin at once
        assert sum(pool.map(attempt, "abcdefgh")) == 1


def test_a_closed_store_of_another_process_does_not_lose_what_was_reported(database: str) -> None:
    url = database
    with HiveStore(url, RealClock()) as first:
        shop = add(first)
        first.reports.add(shop, 1, "completed", {"pull_request": "x"})
    with HiveStore(url, RealClock()) as second:
        assert second.reports.newest(shop)[1].details == {"pull_request": "x"}


@contextmanager
def statements(store: HiveStore) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    said: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(store._reader, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(store._reader, "before_cursor_execute", hear)


def test_a_batch_of_reports_is_two_statements_and_one_of_captures_a_single_one(store: HiveStore) -> None:
    project = add(store)
    for round_ in range(2):  # what a store looks up once is not what it does all day
        with statements(store) as said:
            new = [NewReport(project, number, "completed", {"round": round_}) for number in range(1, 31)]
            assert all(stored.new for stored in store.reports.add_many(new))
        writes = [one for one in said if not one.startswith("BEGIN")]
        assert len(writes) == 2, writes
        with statements(store) as said:
            items = [prepare("chat-log", {"number": number, "round": round_}, Redactor()) for number in range(30)]
            assert all(is_new for _, is_new in store.captures.add_many(items))
    writes = [one for one in said if not one.startswith("BEGIN")]
    assert len(writes) == 1, writes


def test_a_connection_that_the_database_ended_is_replaced_without_being_asked(
    postgres: PostgresServer, upgraded_template: str
) -> None:
    url = postgres.create(upgraded_template)
    with HiveStore(url, RealClock()) as store:
        project = add(store)
        with psycopg.connect(url, autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
            left = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'bzzz-hive' AND datname = current_database()"
            )
            while other.execute(left).fetchone() != (0,):
                pass
        assert ended
        assert store.reports.add(project, 1, "completed", {})

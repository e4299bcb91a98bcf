"""What every journal promises: all that was written is there after a crash, once."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.node_world import make_repository

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Task, TaskId, TaskType
from bzzz.errors import UsageError
from bzzz.journal import store as module
from bzzz.journal.store import SqliteJournal
from bzzz.ports import Journal

ROOT = Path(__file__).resolve().parents[2]
TASK = Task(
    TaskId("acme/shop", 1),
    "Mend 'the' \N{HONEYBEE} gate\x00; DROP TABLE claim",
    TaskType.BUG,
    7,
    ("a", "b"),
    ("gate",),
    "https://forge.example/1",
    "2026-01-01T00:00:00Z",
)
RECORD = ClaimRecord(TASK.id, 3, Holder("peer", "walnut", 2), RecordState.HELD, "nonce", reason="why")

Open = Callable[[], Journal]


@pytest.fixture(params=["sqlite"])
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens the journal, after closing the one that was open."""
    opened: list[SqliteJournal] = []

    def open_again() -> Journal:
        if opened:
            opened.pop().close()
        opened.append(SqliteJournal(tmp_path / "node" / "journal.db"))
        return opened[-1]

    yield open_again
    for journal in opened:
        journal.close()


def test_each_start_has_a_higher_incarnation_and_none_below_the_clock(reopen: Open) -> None:
    clock_s = (1_700_000_000, 1_700_000_000, 1_699_000_000, 1_700_000_060, 0)
    found = [reopen().next_incarnation(least) for least in clock_s]
    assert found == [1_700_000_000, 1_700_000_001, 1_700_000_002, 1_700_000_060, 1_700_000_061]


def test_the_first_start_has_an_incarnation_even_where_there_is_no_clock(reopen: Open) -> None:
    assert [reopen().next_incarnation(0) for _ in range(3)] == [1, 2, 3]


def test_a_journal_that_was_lost_numbers_its_starts_above_those_that_peers_remember(tmp_path: Path) -> None:
    def start(folder: str, wall_s: int) -> int:
        journal = SqliteJournal(tmp_path / folder / "journal.db")
        try:
            return journal.next_incarnation(wall_s)
        finally:
            journal.close()

    before = [start("kept", 1_700_000_000), start("kept", 1_700_000_001)]
    assert start("lost", 1_700_000_100) > max(before)


def test_repositories_are_replaced_as_a_whole(reopen: Open) -> None:
    shop, mill = make_repository("acme/shop", 1), make_repository("acme/mill", 2)
    journal = reopen()
    journal.keep_repositories([shop, mill])
    assert list(reopen().repositories()) == [mill, shop]
    reopen().keep_repositories([shop])
    assert list(reopen().repositories()) == [shop]
    reopen().keep_repositories([])
    assert list(reopen().repositories()) == []


def test_an_earlier_claim_with_work_of_its_own_is_kept_beside_a_newer_one(reopen: Open) -> None:
    journal = reopen()
    newer = ClaimRecord(TASK.id, 4, Holder("peer", "walnut", 2), RecordState.HELD, "other")
    journal.remember(TASK, RECORD)
    journal.remember(TASK, newer)
    assert list(reopen().remembered()) == [(TASK, RECORD), (TASK, newer)]
    reopen().forget(TASK.id, RECORD.epoch)
    assert list(reopen().remembered()) == [(TASK, newer)]


def test_a_task_is_remembered_with_its_newest_record_until_it_is_forgotten(reopen: Open) -> None:
    journal = reopen()
    journal.remember(TASK, RECORD)
    newer = ClaimRecord(TASK.id, 3, Holder("peer", "walnut", 2), RecordState.RELEASED, "other")
    journal.remember(TASK, newer)
    assert list(reopen().remembered()) == [(TASK, newer)]
    reopen().forget(TASK.id, newer.epoch)
    reopen().forget(TASK.id, newer.epoch)
    assert list(reopen().remembered()) == []


def test_the_same_report_is_one_report_also_after_it_was_delivered(reopen: Open) -> None:
    journal = reopen()
    for _ in range(2):
        journal.enqueue(TASK.id, 1, "claimed", {"agent": "walnut"})
    (item,) = journal.pending(10)
    assert (item.task, item.epoch, item.kind, dict(item.data)) == (TASK.id, 1, "claimed", {"agent": "walnut"})
    journal.delivered(item.id)
    journal.enqueue(TASK.id, 1, "claimed", {"agent": "walnut"})
    assert (list(journal.pending(10)), journal.outbox_length()) == ([], 0)
    journal.enqueue(TASK.id, 2, "claimed", {})
    assert reopen().outbox_length() == 1


def test_reports_of_one_task_are_given_in_order(reopen: Open) -> None:
    journal = reopen()
    other = TaskId("acme/shop", 2)
    for task, kind in ((TASK.id, "claimed"), (TASK.id, "delivered"), (other, "claimed")):
        journal.enqueue(task, 1, kind, {})
    given = journal.pending(10)
    assert [(item.task, item.kind) for item in given] == [(TASK.id, "claimed"), (other, "claimed")]
    journal.postponed(given[0].id)
    assert [(item.task, item.tries) for item in journal.pending(10)] == [(other, 0), (TASK.id, 1)]
    journal.delivered(given[0].id)
    assert {item.kind for item in journal.pending(10) if item.task == TASK.id} == {"delivered"}
    assert journal.outbox_length() == 2


def test_pending_gives_no_more_than_asked(reopen: Open) -> None:
    journal = reopen()
    for number in range(1, 6):
        journal.enqueue(TaskId("acme/shop", number), 1, "claimed", {})
    assert [item.task.number for item in journal.pending(2)] == [1, 2]


# --- what is SQLite's alone -----------------------------------------------------------------------------


def test_delivered_reports_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_ITEMS_MAX", 5)
    journal = SqliteJournal(tmp_path / "journal.db")
    for number in range(1, 21):
        journal.enqueue(TaskId("acme/shop", number), 1, "claimed", {})
        if number != 2:
            journal.delivered(number)
    rows = journal._db.execute("SELECT id FROM outbox ORDER BY id").fetchall()
    journal.close()
    assert [number for (number,) in rows] == [2, 16, 17, 18, 19, 20]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    SqliteJournal(tmp_path / "node" / "journal.db").close()
    for path in (tmp_path / "node", tmp_path / "node" / "journal.db", tmp_path / "node" / "journal.lock"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_second_node_on_the_same_folder_is_refused_with_a_clear_line(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    code = "import sys; from bzzz.journal.store import SqliteJournal; from pathlib import Path\n"
    code += "from bzzz.errors import UsageError\n"
    code += "try: SqliteJournal(Path(sys.argv[1]))\nexcept UsageError as error: print(error); sys.exit(2)\n"
    second = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal.db")],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    journal.close()
    assert (second.returncode, second.stderr) == (2, "")
    assert second.stdout == f"{tmp_path}: another node is running on this data folder; stop it first\n"
    SqliteJournal(tmp_path / "journal.db").close()


def test_a_process_killed_right_after_remember_finds_it_again(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from tests.conformance.test_journal import RECORD, TASK
from bzzz.journal.store import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
journal.next_incarnation(0)
journal.enqueue(TASK.id, 3, "claimed", {"agent": "walnut"})
journal.remember(TASK, RECORD)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "journal.db"
    killed = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    journal = SqliteJournal(path)
    assert list(journal.remembered()) == [(TASK, RECORD)]
    assert [item.kind for item in journal.pending(10)] == ["claimed"]
    assert journal.next_incarnation(0) == 2
    journal.close()


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        SqliteJournal(path)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_journal_is_refused_and_the_folder_stays_free(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_text("this is not a database, but it is long enough to be looked at" * 50)
    assert "move it away" in refused(path)
    path.unlink()
    SqliteJournal(path).close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in refused(tmp_path / "file" / "journal.db")


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    SqliteJournal(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert "version 99" in refused(path)


def test_a_claim_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.remember(TASK, RECORD)
    journal._db.execute("UPDATE own_claim SET record = '{}'")
    with pytest.raises(UsageError, match="acme/shop#1"):
        journal.remembered()
    journal.close()


def test_a_repository_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.keep_repositories([make_repository("acme/shop"), make_repository("acme/mill")])
    journal._db.execute("""UPDATE repository SET value = '{"later": 1}' WHERE key = 'acme/mill'""")
    assert [repository.key for repository in journal.repositories()] == ["acme/shop"]
    journal.close()

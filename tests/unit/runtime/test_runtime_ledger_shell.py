"""Between core and ledger, forge and Hive: each end becomes the event that says what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import COMMIT, World, admit_all

from bzzz.core.effect import ConfirmTask, DeliverWork, ListTasks, OpenPull, ReadClaim, SaveWork, SwapClaim
from bzzz.core.event import (
    ClaimNotRead,
    PullFound,
    PullNotFound,
    RepositoriesNotFound,
    SwapEnd,
    SwapEnded,
    TaskConfirmed,
    TaskNotConfirmed,
    TasksListed,
    TasksNotListed,
    WorkNotSaved,
    WorkSaved,
)
from bzzz.core.record import ClaimRecord, Holder, RecordState, Version
from bzzz.core.task import Issue, Repository, Task, TaskId
from bzzz.errors import (
    BzzzError,
    LedgerRefused,
    LedgerUncertain,
    ServiceConflict,
    ServiceDenied,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceUnavailable,
)
from bzzz.ports import Work
from bzzz.runtime import ledger_shell as module
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.ledger_shell import LedgerShell
from bzzz.runtime.shells import Shells

ID = TaskId("acme/shop", 1)
RECORD = ClaimRecord(ID, 1, Holder("p", "walnut"), RecordState.HELD, "nonce")
WORK = Work(Path("/nowhere"), COMMIT, "b" * 40, "bzzz/task-1-x")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.world.forge.add("acme/shop", make_issue(1))
        self.running = self.world.node()
        self.running.journal.close()
        self.known: dict[str, Repository] = {"acme/shop": self.world.repositories[0]}
        self.works: dict[tuple[TaskId, int], Work] = {}
        self.events = EventLog(lambda: 0.0)
        self.shell = self.make(self.running.shells)

    def make(self, shells: Shells) -> LedgerShell:
        return LedgerShell(
            shells,
            self.events,
            label="bzzz-task",
            find=self.known.get,
            works_of=lambda task, epoch: [self.works[task, epoch]] if (task, epoch) in self.works else [],
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_one_issue_that_cannot_be_judged_does_not_hide_the_others(bench: Bench) -> None:
    def admit(repository: Repository, issue: Issue) -> Task | str:
        if issue.number == 2:
            raise RecursionError("too deep")
        return admit_all(repository, issue)

    bench.world.forge.add("acme/shop", make_issue(2), make_issue(3))
    shell = bench.make(replace(bench.running.shells, admit=admit))
    listed = await shell.list_tasks(ListTasks("acme/shop"))
    assert isinstance(listed, TasksListed)
    assert [task.id.number for task in listed.tasks] == [1, 3]
    (told,) = bench.events.history()
    assert (told["kind"], told["task"]) == ("issue_not_admitted", "acme/shop#2")


async def test_an_issue_that_is_refused_is_told_once_for_each_reason(bench: Bench) -> None:
    bench.world.forge.add("acme/shop", make_issue(2, "no task"))
    for _ in range(3):
        await bench.shell.list_tasks(ListTasks("acme/shop"))
    assert len(bench.events.history()) == 1


async def test_refusals_are_remembered_within_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFUSALS_KEPT_MAX", 5)
    bench.world.forge.add("acme/shop", *(make_issue(number, "no task") for number in range(2, 30)))
    await bench.shell.list_tasks(ListTasks("acme/shop"))
    assert len(bench.shell._refused) == 5


async def test_texts_are_kept_for_what_is_confirmed_and_within_a_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ISSUES_KEPT_MAX", 3)
    bench.world.forge.add("acme/shop", *(make_issue(number) for number in range(1, 9)))
    await bench.shell.list_tasks(ListTasks("acme/shop"))
    assert bench.shell._issues == {}
    for number in range(1, 9):
        await bench.shell.confirm(ConfirmTask(TaskId("acme/shop", number), read_claim=False))
    assert [task.number for task in bench.shell._issues] == [6, 7, 8]
    reads = bench.world.forge.calls["read_issue"]
    assert (await bench.shell.issue(TaskId("acme/shop", 8))).number == 8
    assert bench.world.forge.calls["read_issue"] == reads
    assert (await bench.shell.issue(TaskId("acme/shop", 1))).number == 1
    assert bench.world.forge.calls["read_issue"] == reads + 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"state": "closed"}, "the issue is closed"), ({"title": "no task"}, "it is not for agents")],
)
async def test_an_issue_that_is_no_task_any_more_is_not_confirmed(
    bench: Bench, change: dict[str, str], reason: str
) -> None:
    bench.world.forge.add("acme/shop", make_issue(1, **change))
    assert await bench.shell.confirm(ConfirmTask(ID, read_claim=True)) == TaskConfirmed(ID, False, reason)


async def test_an_issue_that_is_gone_is_no_task_and_one_that_cannot_be_read_may_be(bench: Bench) -> None:
    bench.world.forge.issues.clear()
    gone = await bench.shell.confirm(ConfirmTask(ID, read_claim=False))
    assert isinstance(gone, TaskConfirmed)
    assert not gone.admitted
    bench.world.forge.faults["read_issue"] = ServiceLimited("forge", "GET", status=429, retry_after_s=2)
    unread = await bench.shell.confirm(ConfirmTask(ID, read_claim=False))
    assert isinstance(unread, TaskNotConfirmed)
    assert unread.retry_after_ms == 2_000


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (LedgerUncertain("lost"), SwapEnd.UNCERTAIN),
        (LedgerRefused("protected"), SwapEnd.REFUSED),
        (ServiceDenied("git", "push", status=403), SwapEnd.REFUSED),
        (ServiceMissing("git", "push", status=404), SwapEnd.REFUSED),
        (ServiceUnavailable("git", "push"), SwapEnd.UNAVAILABLE),
        (ServiceFaulty("git", "push", status=500), SwapEnd.UNAVAILABLE),
    ],
)
async def test_each_error_of_a_write_has_its_meaning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BzzzError, end: SwapEnd
) -> None:
    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench.running.ledger, "swap", fails)
    monkeypatch.setattr(bench.running.ledger, "deliver", fails)
    bench.works[ID, 1] = WORK
    record = replace(RECORD, state=RecordState.DELIVERED, commit=COMMIT)
    for event in (
        await bench.shell.swap(SwapClaim(ID, None, RECORD, "claim")),
        await bench.shell.deliver(DeliverWork(ID, Version("0" * 40), record)),
    ):
        assert isinstance(event, SwapEnded)
        assert (event.end, event.nonce, event.detail) == (end, "nonce", str(error))


async def test_only_the_very_work_that_was_proved_is_delivered(bench: Bench) -> None:
    record = replace(RECORD, state=RecordState.DELIVERED, commit="d" * 40)
    for works in ({}, {(ID, 1): WORK}):
        bench.works.update(works)
        event = await bench.shell.deliver(DeliverWork(ID, Version("0" * 40), record))
        assert isinstance(event, SwapEnded)
        assert event.end is SwapEnd.REFUSED


async def test_work_is_saved_or_said_to_be_here_for_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = await bench.shell.save_work(SaveWork(ID, 1))
    assert missing == WorkNotSaved(ID, 1, "it is not on this machine", final=True)
    bench.works[ID, 1] = WORK
    assert await bench.shell.save_work(SaveWork(ID, 1)) == WorkSaved(ID, 1, "refs/bzzz/rescue/1/1")

    async def fails(*_: object) -> str:
        raise ServiceDenied("git", "push", status=403)

    monkeypatch.setattr(bench.running.ledger, "rescue", fails)
    refused = await bench.shell.save_work(SaveWork(ID, 1))
    assert isinstance(refused, WorkNotSaved)
    assert refused.final
    assert "/nowhere" in refused.detail


async def test_a_pull_request_has_the_forges_title_and_not_a_peers(bench: Bench) -> None:
    await bench.shell.confirm(ConfirmTask(ID, read_claim=False))
    record = replace(RECORD, state=RecordState.DELIVERED, branch="bzzz/task-1-x", commit=COMMIT)
    found = await bench.shell.open_pull(OpenPull(Task(ID, "what a peer made of it"), record))
    assert isinstance(found, PullFound)
    (pull,) = bench.world.forge.pulls.values()
    assert pull.title == "Mend the gate"


async def test_a_pull_request_that_cannot_be_opened_is_tried_again_unless_that_is_vain(bench: Bench) -> None:
    record = replace(RECORD, state=RecordState.DELIVERED, branch="b", commit=COMMIT)
    for error, final in [
        (ServiceConflict("forge", "POST pulls", status=422), True),
        (ServiceDenied("forge", "POST pulls", status=403), True),
        (ServiceMissing("forge", "POST pulls", status=404), False),
        (ServiceFaulty("forge", "POST pulls", status=502), False),
    ]:
        bench.world.forge.faults["open_pull"] = error
        event = await bench.shell.open_pull(OpenPull(Task(ID, "t"), record))
        assert isinstance(event, PullNotFound)
        assert event.final is final
    event = await bench.shell.open_pull(OpenPull(Task(ID, "t"), RECORD))
    assert isinstance(event, PullNotFound)
    assert event.final


async def test_nothing_is_asked_of_a_repository_that_is_not_known(bench: Bench) -> None:
    bench.known.clear()
    bench.works[ID, 1] = WORK
    delivered = replace(RECORD, state=RecordState.DELIVERED, commit=COMMIT, branch="b")
    events = [
        await bench.shell.list_tasks(ListTasks("acme/shop")),
        await bench.shell.confirm(ConfirmTask(ID, read_claim=True)),
        await bench.shell.swap(SwapClaim(ID, None, RECORD, "claim")),
        await bench.shell.deliver(DeliverWork(ID, Version("0" * 40), delivered)),
        await bench.shell.read_claim(ReadClaim(ID)),
        await bench.shell.save_work(SaveWork(ID, 1)),
        await bench.shell.open_pull(OpenPull(Task(ID, "t"), delivered)),
    ]
    kinds = [TasksNotListed, TaskNotConfirmed, SwapEnded, SwapEnded, ClaimNotRead, WorkNotSaved, PullNotFound]
    assert [type(event) for event in events] == kinds
    assert all("not active" in repr(event) for event in events if not isinstance(event, TasksNotListed))
    with pytest.raises(ServiceMissing):
        await bench.shell.issue(ID)


async def test_a_hive_that_is_away_is_told_as_such(bench: Bench) -> None:
    bench.world.hive.away()
    event = await bench.shell.find_repositories(bench.world.hive)
    assert isinstance(event, RepositoriesNotFound)
    assert "away" in event.detail

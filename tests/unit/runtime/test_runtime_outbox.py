"""Reports arrive in the end, once, in order, at every place, without hammering any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.memory_forge import MemoryForge
from tests.support.node_world import World

from bzzz.core.task import Repository, TaskId
from bzzz.errors import ServiceFaulty, ServiceLimited, ServiceMissing, ServiceUnavailable
from bzzz.hive.memory import MemoryHive
from bzzz.journal.store import SqliteJournal
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.outbox import BATCH_ITEMS_MAX, RETRY_S_MAX, Outbox
from bzzz.runtime.shells import AgentChoice, Shells

TASK = TaskId("acme/shop", 1)
KEY = ("acme/shop", 1)
AWAY = ServiceUnavailable("forge forge.example", "POST labels")


class Bench:
    """An outbox, its places, and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        world = World(folder)
        self.forge: MemoryForge = world.forge
        self.hive: MemoryHive = world.hive
        self.known: dict[str, Repository] = {repository.key: repository for repository in world.repositories}
        self.journal = SqliteJournal(folder / "journal.db")
        self.clock = ManualClock()
        self.events = EventLog(self.clock.wall_s)
        self.hooked: list[Mapping[str, Any]] = []
        self.hook_fault: Exception | None = None
        running = world.node()
        running.journal.close()
        self._shells = Shells(
            transport=running.transport,
            ledger=running.ledger,
            forge=self.forge,
            hive=self.hive,
            runner=running.runner,
            journal=self.journal,
            clock=self.clock,
            agent=AgentChoice("walnut"),
            admit=running.shells.admit,
            may_ask=running.shells.may_ask,
            escalate=self._hook,
        )
        self.outbox = self.restart()

    def restart(self) -> Outbox:
        self.outbox = Outbox(self._shells, self.known.get, self.events)
        return self.outbox

    async def _hook(self, escalation: Mapping[str, Any]) -> None:
        if self.hook_fault is not None:
            raise self.hook_fault
        self.hooked.append(escalation)

    def told(self, kind: str) -> list[str]:
        return [event["text"] for event in self.events.history() if event["kind"] == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.journal.close()


async def test_a_report_that_failed_arrives_once_in_the_end(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "asked", {"question": "Which gate?"})
    bench.forge.faults["acme/shop"] = AWAY
    for _ in range(3):
        assert await bench.outbox.deliver_once() == 0
        bench.clock.advance(RETRY_S_MAX)
    bench.forge.faults.clear()
    assert await bench.outbox.deliver_once() == 1
    assert await bench.outbox.deliver_once() == 0
    ((key, body),) = bench.forge.comments[KEY].items()
    assert key == "acme/shop#1@1:asked"
    assert "> Which gate?" in body
    assert bench.journal.outbox_length() == 0
    assert len(bench.told("report_waits")) == 1


async def test_a_report_that_fails_rests_longer_each_time(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    bench.forge.faults["acme/shop"] = AWAY
    tries: list[int] = []
    for second in range(31):
        before = bench.forge.calls["add_labels"]
        await bench.outbox.deliver_once()
        if bench.forge.calls["add_labels"] > before:
            tries.append(second)
        bench.clock.advance(1)
    assert tries == [0, 2, 6, 14, 30]


async def test_a_new_report_does_not_hurry_those_that_rest(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    bench.forge.faults["acme/shop"] = AWAY
    await bench.outbox.deliver_once()
    for number in range(2, 10):
        bench.journal.enqueue(TaskId("acme/shop", number), 1, "claimed", {})
        await bench.outbox.deliver_once()
    assert bench.forge.calls["add_labels"] == 9


async def test_a_forge_that_limits_is_left_alone_as_long_as_it_asks(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    bench.forge.faults["acme/shop"] = ServiceLimited("forge", "POST", status=429, retry_after_s=60)
    await bench.outbox.deliver_once()
    bench.clock.advance(59)
    await bench.outbox.deliver_once()
    assert bench.forge.calls["add_labels"] == 1
    bench.clock.advance(1)
    await bench.outbox.deliver_once()
    assert bench.forge.calls["add_labels"] == 2


async def test_a_late_claimed_does_not_undo_a_delivered(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {"agent": "walnut"})
    bench.forge.faults["acme/shop"] = AWAY
    await bench.outbox.deliver_once()
    bench.journal.enqueue(TASK, 1, "delivered", {"pull_request": "u"})
    bench.forge.faults.clear()
    await bench.outbox.deliver_once()
    bench.clock.advance(RETRY_S_MAX)
    while await bench.outbox.deliver_once():
        pass
    assert bench.forge.labels[KEY] == {"completed"}
    assert [report.status for report in bench.hive.reports] == ["in_progress", "completed"]


async def test_the_places_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 2, "escalated", {"reason": "no idea", "strikes": 3})
    bench.forge.faults["acme/shop"] = AWAY
    await bench.outbox.deliver_once()
    assert [report.status for report in bench.hive.reports] == ["escalated"]
    assert [told["task"] for told in bench.hooked] == ["acme/shop#1"]
    bench.forge.faults.clear()
    bench.clock.advance(RETRY_S_MAX)
    assert await bench.outbox.deliver_once() == 1
    assert bench.forge.labels[KEY] == {"needs-human"}
    assert len(bench.hooked) == 1


async def test_a_place_that_will_never_take_it_does_not_keep_it_from_the_others(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "delivered", {"pull_request": "u"})
    bench.forge.faults["acme/shop"] = ServiceMissing("forge", "POST labels", status=404)
    assert await bench.outbox.deliver_once() == 1
    assert [report.status for report in bench.hive.reports] == ["completed"]
    assert len(bench.told("report_refused")) == 1


async def test_a_hook_that_fails_is_tried_again_and_told_which_report_it_is(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 2, "escalated", {"reason": "no idea"})
    bench.hook_fault = ServiceFaulty("escalation webhook n8n.example", "POST", status=500)
    assert await bench.outbox.deliver_once() == 0
    bench.hook_fault = None
    bench.clock.advance(RETRY_S_MAX)
    assert await bench.outbox.deliver_once() == 1
    assert [(told["key"], told["reason"]) for told in bench.hooked] == [("acme/shop#1@2:escalated", "no idea")]
    assert bench.forge.calls["comment"] == 1


async def test_a_bug_in_a_place_ends_neither_the_outbox_nor_the_report(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    bench.journal.enqueue(TaskId("acme/shop", 2), 1, "asked", {"question": "?"})
    bench.forge.faults["add_labels"] = KeyError("not foreseen")
    assert await bench.outbox.deliver_once() == 1
    assert ("acme/shop", 2) in bench.forge.comments
    assert bench.told("broken") == ["outbox: KeyError: 'not foreseen'"]
    bench.forge.faults.clear()
    bench.clock.advance(RETRY_S_MAX)
    assert await bench.outbox.deliver_once() == 1


async def test_a_report_of_a_withdrawn_repository_waits_until_it_is_back(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    shop = bench.known.pop("acme/shop")
    assert await bench.outbox.deliver_once() == 0
    bench.known["acme/shop"] = shop
    bench.clock.advance(RETRY_S_MAX)
    assert await bench.outbox.deliver_once() == 1


async def test_what_a_crash_left_is_delivered_by_the_next_start(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    bench.forge.faults["acme/shop"] = AWAY
    await bench.outbox.deliver_once()
    bench.forge.faults.clear()
    assert await bench.restart().deliver_once() == 1


async def test_more_than_a_batch_is_delivered_at_one_waking(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    count = BATCH_ITEMS_MAX + 5
    through = asyncio.Event()
    delivered = bench.journal.delivered

    def watched(item_id: int) -> None:
        delivered(item_id)
        if bench.journal.outbox_length() == 0:
            through.set()

    monkeypatch.setattr(bench.journal, "delivered", watched)
    running = asyncio.create_task(bench.outbox.run())
    for number in range(1, count + 1):
        bench.journal.enqueue(TaskId("acme/shop", number), 1, "claimed", {})
    bench.outbox.wake()
    async with asyncio.timeout(20):
        await through.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.forge.calls["add_labels"] == count


async def test_an_outbox_cancelled_in_the_middle_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.journal.enqueue(TASK, 1, "claimed", {})
    in_the_middle = asyncio.Event()

    async def hangs(*_: object) -> None:
        in_the_middle.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(bench.forge, "add_labels", hangs)
        running = asyncio.create_task(bench.outbox.run())
        await in_the_middle.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await bench.outbox.deliver_once() == 1
    assert bench.forge.labels[KEY] == {"in-progress"}


async def test_a_question_of_any_length_and_form_is_quoted(bench: Bench) -> None:
    bench.journal.enqueue(TASK, 1, "asked", {"question": "a\n\n# b\n" + "x" * 10_000})
    bench.journal.enqueue(TaskId("acme/shop", 2), 1, "asked", {"question": ""})
    while await bench.outbox.deliver_once():
        pass
    (body,) = bench.forge.comments[KEY].values()
    assert "> a\n> \n> # b\n" in body
    assert len(body) < 5_000
    (empty,) = bench.forge.comments["acme/shop", 2].values()
    assert "nothing was said" in empty

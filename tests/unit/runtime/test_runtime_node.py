"""A whole node over adapters in memory: what it does when all is well, and when something is not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import ANSWER_S_MAX, COMMIT, Running, World, gated, make_repository, proved

from bzzz.core.event import Heard, Ticked
from bzzz.core.message import COORDINATION_TOPIC, Announced, Availability, TaskAnnouncement
from bzzz.core.record import RecordState
from bzzz.core.task import Task, TaskId
from bzzz.errors import (
    LedgerRefused,
    ServiceDenied,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceNonsense,
    ServiceUnavailable,
    TransportError,
)
from bzzz.hive.memory import MemoryHive
from bzzz.ledger.memory import MemoryLedger
from bzzz.ports import AttemptFinished, Outcome, Received, Work
from bzzz.runtime import node as module
from bzzz.wire import decode

TASK = TaskId("acme/shop", 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.forge.add("acme/shop", make_issue(1))
    return made


@pytest.fixture(autouse=True)
def quick_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOP_RETRY_S", 0.01)
    monkeypatch.setattr(module, "HIVE_STREAM_RETRY_S", 0.01)


async def test_a_task_goes_from_the_listing_to_its_pull_request(world: World) -> None:
    walnut = world.node()
    async with world.running(walnut):
        told = await walnut.report("delivered")
        (pull,) = world.forge.pulls.values()
        assert told["pull_request"] == pull.url
        assert (pull.base_branch, pull.title) == ("main", "Mend the gate")
        chain = await walnut.ledger.history(world.repositories[0], 1)
        assert [seen.record.state for seen in chain] == [RecordState.HELD, RecordState.DELIVERED]
        assert world.store.repositories["acme/shop"].refs[f"refs/heads/{pull.head_branch}"] == COMMIT
    assert world.forge.labels["acme/shop", 1] == {"completed"}
    assert [report.status for report in world.hive.reports] == ["in_progress", "completed"]
    assert [spec.attempt_id for spec in walnut.runner.started] == walnut.runner.forgotten
    assert walnut.told("broken") == []


async def test_several_tasks_are_done_one_after_the_other(world: World) -> None:
    world.forge.add("acme/shop", make_issue(2), make_issue(3, "no task"))
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered", "acme/shop#1")
        await walnut.report("delivered", "acme/shop#2")
    assert len(world.forge.pulls) == 2
    (refused,) = walnut.told("issue_not_admitted")
    assert (refused["task"], refused["text"]) == ("acme/shop#3", "it is not for agents")


async def test_what_the_attempt_of_a_dead_node_shows_is_captured_once_however_often_the_node_starts(
    world: World,
) -> None:
    async def dies(running: Running, after: str) -> None:
        task = asyncio.create_task(running.node.run(running.stop))
        await running.until(lambda event: event["kind"] == after)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    walnut = world.node(script_for=gated(asyncio.Event()))
    await dies(walnut, "agent_started")
    (spec,) = walnut.runner.started
    work = Work(Path("/nowhere"), COMMIT, "b" * 40, spec.branch)
    shown = {"prompt": "Mend it", "diff": "+x", "files": {"a.py": "x"}}
    left = AttemptFinished(spec.attempt_id, Outcome.PROVED, "done", work, {"status": 0}, shown=shown)

    for _ in range(2):
        world.hive = MemoryHive(world.repositories)  # the dead node's client is closed
        world.hive.away()
        again = world.node()
        again.runner._left = [left]
        await dies(again, "started")
    world.hive = MemoryHive(world.repositories)
    walnut = world.node()
    walnut.runner._left = [left]
    async with world.running(walnut):
        await walnut.report("delivered")
        async with asyncio.timeout(ANSWER_S_MAX):
            while walnut.journal.outbox_length():
                await walnut.node.outbox.deliver_once()
                await asyncio.sleep(0)
    kept = {item.kind: item.body for item in world.hive.captures}
    assert len(kept) == len(world.hive.captures) == 3
    assert kept["log-prompt"]["prompt_content"] == "Mend it"
    assert (kept["submit-work"]["content"], kept["submit-work"]["attempt_id"]) == ("+x", spec.attempt_id)
    assert kept["create-pr"]["check"] == {"status": 0}


# --- breaking -------------------------------------------------------------------------------------------


def failing_once(call: Callable[..., Awaitable[Any]], error: Exception) -> Callable[..., Awaitable[Any]]:
    left = [error]

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return await call(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("adapter", "method"),
    [
        ("ledger", "list"),
        ("ledger", "swap"),
        ("ledger", "deliver"),
        ("forge", "list_issues"),
        ("forge", "read_issue"),
        ("forge", "open_pull"),
        ("forge", "add_labels"),
        ("hive", "active_repositories"),
        ("hive", "changes"),
        ("hive", "report_status"),
        ("runner", "receive"),
        ("runner", "forget"),
        ("transport", "receive"),
        ("transport", "publish"),
    ],
)
async def test_a_bug_in_an_adapter_is_told_and_the_node_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, adapter: str, method: str
) -> None:
    walnut = world.node()
    part = getattr(walnut.shells, adapter)
    monkeypatch.setattr(part, method, failing_once(getattr(part, method), RuntimeError("not foreseen")))
    async with world.running(walnut):
        await walnut.report("delivered")
        broken = await walnut.until(lambda event: event["kind"] == "broken")
        assert "not foreseen" in broken["text"]
    assert len(world.forge.pulls) == 1


async def test_a_bug_in_the_core_does_not_stop_its_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    walnut = world.node()
    handlers = walnut.node.core._handlers

    def broken(event: Ticked) -> None:
        handlers[Ticked] = lambda _: None
        raise RuntimeError("not foreseen")

    handlers[Ticked] = broken
    async with world.running(walnut):
        await walnut.until(lambda event: event["kind"] == "broken" and "not foreseen" in event["text"])
        world.forge.add("acme/shop", make_issue(2))
        await walnut.report("delivered", "acme/shop#2")
        assert walnut.node.counters["broken_steps"] == 1


async def test_nothing_is_claimed_that_the_journal_cannot_remember(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    walnut = world.node()
    remember = walnut.journal.remember
    swaps: list[RecordState] = []
    full = True

    def fails(*args: Any) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        remember(*args)

    swap = walnut.ledger.swap

    async def watched(repository: Any, expected: Any, record: Any) -> Any:
        swaps.append(record.state)
        return await swap(repository, expected, record)

    monkeypatch.setattr(walnut.journal, "remember", fails)
    monkeypatch.setattr(walnut.ledger, "swap", watched)
    async with world.running(walnut):
        notice = await walnut.until(lambda event: "journal cannot be written" in event.get("text", ""))
        assert notice["kind"] == "notice"
        assert swaps == []
        full = False
        await walnut.report("delivered")
        assert swaps[0] is RecordState.HELD


async def test_a_mesh_that_cannot_start_leaves_nothing_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    walnut = world.node()

    async def refuses() -> None:
        raise TransportError("the port is taken")

    monkeypatch.setattr(walnut.transport, "start", refuses)
    with pytest.raises(TransportError, match="the port is taken"):
        await walnut.node.run(asyncio.Event())
    assert world.forge.closed
    again = world.node()
    again.journal.close()


async def test_an_ended_node_takes_in_nothing_more(world: World) -> None:
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered")
    steps = walnut.node.core.context.now_ms
    walnut.node.feed(Ticked())
    assert walnut.node.core.context.now_ms == steps
    assert walnut.node.closed


# --- stopping and taking over ---------------------------------------------------------------------------


async def listening(world: World) -> AsyncGenerator[Availability]:
    observer = world.transport("observer")
    await observer.start()
    await observer.join(COORDINATION_TOPIC)
    try:
        while True:
            event = await observer.receive()
            if isinstance(event, Received):
                _, message = decode(event.payload, event.peer)
                if isinstance(message, Availability):
                    yield message
    finally:
        await observer.stop()


async def test_an_orderly_stop_gives_the_claim_back_and_says_goodbye(world: World) -> None:
    heard = listening(world)
    hearing = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    walnut = world.node(script_for=gated(asyncio.Event()))
    async with world.running(walnut):
        await walnut.until(lambda event: event["kind"] == "agent_started")
        assert not (await hearing).leaving
        await walnut.end()
        while not (last := await anext(heard)).leaving:
            pass
    await heard.aclose()
    assert last.tasks == {}
    standing = await MemoryLedger(world.store).read(world.repositories[0], 1)
    assert standing is not None
    assert (standing.record.state, standing.record.strikes) == (RecordState.RELEASED, 0)
    assert walnut.told("stop_overdue") == []
    assert walnut.told("stopped")


async def test_another_node_takes_over_at_once_after_an_orderly_leave(world: World) -> None:
    walnut, ironwood = world.node("walnut", gated(asyncio.Event())), world.node("ironwood", proved)
    async with world.running(walnut):
        await walnut.until(lambda event: event["kind"] == "agent_started")
        async with world.running(ironwood):
            await ironwood.until(lambda event: event["kind"] == "peer_connected")
            await walnut.end()
            await ironwood.report("delivered")
    chain = await MemoryLedger(world.store).history(world.repositories[0], 1)
    told = [(seen.record.holder.agent, seen.record.epoch, seen.record.state.value) for seen in chain]
    assert told == [
        ("walnut", 1, "held"),
        ("walnut", 1, "released"),
        ("ironwood", 2, "held"),
        ("ironwood", 2, "delivered"),
    ]
    assert len(world.forge.pulls) == 1


async def test_a_peers_hints_cost_no_more_than_one_reading_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    walnut = world.node(script_for=gated(asyncio.Event()))
    begun, go_on = asyncio.Event(), asyncio.Event()
    read = world.forge.read_issue

    async def slow(repository: Any, number: int) -> Any:
        begun.set()
        await go_on.wait()
        return await read(repository, number)

    gone = TaskAnnouncement((Announced(Task(TASK, "Mend the gate"), open=False),))
    async with world.running(walnut):
        await walnut.until(lambda event: event["kind"] == "agent_started")
        before = world.forge.calls["read_issue"]
        monkeypatch.setattr(world.forge, "read_issue", slow)
        for _ in range(500):
            walnut.node.feed(Heard("liar", gone))
        await begun.wait()
        go_on.set()
        await walnut.end()
    assert 1 <= world.forge.calls["read_issue"] - before <= 2
    assert walnut.node.counters["readings_joined"] >= 490


# --- Hive and forge away --------------------------------------------------------------------------------


async def test_without_hive_the_journals_repositories_are_worked_on_and_it_is_said_once(world: World) -> None:
    walnut = world.node()
    walnut.journal.keep_repositories(world.repositories)
    walnut.journal.close()
    world.hive.away(ServiceUnavailable("Hive http://hive.example", "GET /api/bzzz/active-repos", "refused"))
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered")
        world.forge.add("acme/shop", make_issue(2))
        await walnut.report("delivered", "acme/shop#2")
        warnings = [e["text"] for e in walnut.told("notice") if e["level"] == "warning"]
        (said,) = warnings
        assert "Hive http://hive.example" in said
        assert "going on with the one repository known before" in said
        world.hive.back()
        await walnut.until(lambda event: event.get("text") == "Hive is back")


async def test_a_node_that_nobody_told_of_a_hive_says_that_it_has_nothing_to_work_on(world: World) -> None:
    walnut = world.node(with_hive=False)
    async with world.running(walnut):
        said = await walnut.until(lambda event: event.get("level") == "warning")
        assert "set hive.url" in str(said["text"])


FORGE = "forge forge.example"
FAULTS = [
    ServiceDenied(FORGE, "listing", status=401),
    ServiceDenied(FORGE, "listing", status=403),
    ServiceMissing(FORGE, "listing", status=404),
    ServiceLimited(FORGE, "listing", status=429, retry_after_s=0.2),
    ServiceLimited(FORGE, "listing", status=429, retry_after_s=float("inf")),
    ServiceFaulty(FORGE, "listing", status=502),
    ServiceUnavailable(FORGE, "listing", "refused"),
    ServiceNonsense(FORGE, "listing", "<html>"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{type(fault).__name__}-{fault.status}")
async def test_a_forge_that_fails_for_one_repository_is_told_once_and_the_other_goes_on(
    tmp_path: Path, fault: Exception
) -> None:
    world = World(tmp_path, "acme/shop", "acme/mill")
    world.forge.add("acme/shop", make_issue(1))
    world.forge.add("acme/mill", make_issue(1), make_issue(2))
    world.forge.faults["acme/shop"] = fault
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered", "acme/mill#1")
        await walnut.report("delivered", "acme/mill#2")
        said = [event["text"] for event in walnut.told("notice") if "acme/shop" in event["text"]]
        assert said == [f"acme/shop cannot be read: {fault}"]
        assert "\n" not in said[0]
        assert walnut.told("broken") == []


async def test_a_repository_that_can_be_read_again_is_worked_on(world: World) -> None:
    world.forge.faults["acme/shop"] = ServiceFaulty(FORGE, "listing", status=502)
    walnut = world.node()
    async with world.running(walnut):
        await walnut.until(lambda event: "cannot be read" in event.get("text", ""))
        world.forge.faults.clear()
        await walnut.report("delivered")


async def test_a_forge_that_fails_after_the_claim_is_asked_again_and_costs_no_strike(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzzz.runtime.attempt_shell.READ_RETRIES_S", (0.01, 0.01))
    world.forge.add("acme/shop", make_issue(1, comments=1))
    monkeypatch.setattr(
        world.forge,
        "list_comments",
        failing_once(world.forge.list_comments, ServiceFaulty(FORGE, "comments", status=500)),
    )
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered")
    chain = await walnut.ledger.history(world.repositories[0], 1)
    assert [seen.record.strikes for seen in chain] == [0, 0]


async def test_a_git_server_that_refuses_the_delivery_gives_a_question_to_people(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object) -> Any:
        raise LedgerRefused("the branch is protected")

    walnut = world.node()
    monkeypatch.setattr(walnut.ledger, "deliver", refuses)
    async with world.running(walnut):
        asked = await walnut.report("asked")
        assert "the branch is protected" in asked["question"]
    assert world.forge.pulls == {}


HOSTILE = [
    "\x00\x1b[2J\x07\u202egod",
    "$(touch /tmp/owned); `id` && rm -rf / | cat > ../../x",
    "../../../etc/passwd",
    "half \ud83d a character",
    "[bold red]x[/] {0} %s %(x)s",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
async def test_hostile_text_in_an_issue_is_data(world: World, text: str) -> None:
    world.forge.add(
        "acme/shop", make_issue(1, title=text[:2_000], body=text, url=text[:100], labels=("bzzz-task", text))
    )
    walnut, ironwood = world.node("walnut"), world.node("ironwood")
    async with world.running(walnut, ironwood):
        reports = [asyncio.ensure_future(each.report("delivered")) for each in (walnut, ironwood)]
        await asyncio.wait(reports, return_when=asyncio.FIRST_COMPLETED)
        for report in reports:
            report.cancel()
        await asyncio.gather(*reports, return_exceptions=True)
    assert [each.told("broken") for each in (walnut, ironwood)] == [[], []]
    (spec,) = [*walnut.runner.started, *ironwood.runner.started]
    assert spec.issue.body == text
    assert "/" not in spec.attempt_id


async def test_of_two_repositories_with_one_name_the_first_is_kept_for_the_next_start(world: World) -> None:
    twin = make_repository("acme/shop", 9)
    walnut = world.node()
    walnut.journal.keep_repositories([*world.repositories, twin])
    assert walnut.journal.repositories() == world.repositories
    walnut.journal.close()

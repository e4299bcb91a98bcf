"""Scenarios (``bzzz.hive.scenario``): read, planned from a seed, played on a real forge, and spoilt on purpose.

With test_hive_scenario_process it speaks for bzzz.cli.scenario.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.hive_server import RealClock, RunningHive, running_hive
from tests.support.hive_world import issue
from tests.support.manual_clock import ManualClock

from bzzz.core.capability import priority, task_type
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId
from bzzz.errors import SettingError, UsageError
from bzzz.forge.client import GitHubForge
from bzzz.hive.board import find_dependencies
from bzzz.hive.link import HiveLink
from bzzz.hive.scenario.director import Director
from bzzz.hive.scenario.fault import FaultBox
from bzzz.hive.scenario.plan import (
    FaultBegins,
    ProjectArrives,
    ProjectLeaves,
    TaskArrives,
    body_of,
    files_of,
    labels_of,
    timetable,
)
from bzzz.hive.scenario.script import Fault, Scenario, SceneProject, TaskMix, load_scenario, read_scenario, shipped
from bzzz.hive.scenario.trigger import Trigger, Wish

SMALL = """
about = "small"
seed = 3
duration_s = 100
[[project]]
name = "shop"
away_s = [[50, 60]]
[[project]]
name = "till"
arrives_s = 20
[tasks]
first = 2
every_s = [10, 10]
most = 6
depends = 1.0
across = 0.5
urgent = 0.5
"""


def small() -> Scenario:
    return read_scenario(SMALL, "small", "small.toml")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with running_forge(tmp_path_factory.mktemp("forge")) as server:
        yield server


def test_the_scenarios_that_ship_are_readable_and_play_what_they_are_for() -> None:
    assert shipped() == ["calm", "cross-repo", "storm"]
    plans = {name: timetable(load_scenario(name)) for name in shipped()}
    assert not any(isinstance(one, FaultBegins) for one in plans["calm"])
    waiting = [one for one in plans["cross-repo"] if isinstance(one, TaskArrives) and one.after is not None]
    tasks = [one for one in plans["cross-repo"] if isinstance(one, TaskArrives)]
    assert any(tasks[one.after].project != one.project for one in waiting if one.after is not None)
    assert {one.fault.kind for one in plans["storm"] if isinstance(one, FaultBegins)} == {
        "slow",
        "error",
        "limited",
        "away",
    }
    assert any(isinstance(one, ProjectLeaves) for one in plans["storm"])
    assert sum(isinstance(one, TaskArrives) and one.urgent for one in plans["storm"]) > 10


def test_the_same_seed_gives_the_same_timetable_and_another_one_another() -> None:
    assert timetable(small()) == timetable(small())
    assert timetable(small()) != timetable(replace(small(), seed=4))


def test_tasks_arrive_only_in_projects_that_are_there_and_wait_only_for_earlier_ones() -> None:
    scenario = replace(small(), duration_s=2000, tasks=replace(small().tasks, most=200))
    for one in timetable(scenario):
        if isinstance(one, TaskArrives):
            assert one.project != "till" or one.at_s >= 20
            assert one.project != "shop" or not 50 <= one.at_s < 60
            assert one.after is None or one.after < one.index


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "project"),
        ("[[project]]\nname = 'A B'", "project.name"),
        ("[[project]]\nname = 'a'\narrives_s = 5", "project.arrives_s"),
        ("[[project]]\nname = 'a'\n[[project]]\nname = 'a'", "project"),
        ("[[project]]\nname = 'a'\naway_s = [[5, 3]]", "project.away_s"),
        ("[[project]]\nname = 'a'\naway_s = [[1, 5], [4, 9]]", "project.away_s"),
        ("[[project]]\nname = 'a'\nspeed = 3", "project.speed"),
        ("tempo = 3\n[[project]]\nname = 'a'", "tempo"),
        ("seed = 1.5\n[[project]]\nname = 'a'", "seed"),
        ("[[project]]\nname = 'a'\n[tasks]\nevery_s = [3, 1]", "tasks.every_s"),
        ("[[project]]\nname = 'a'\n[tasks]\nkinds = { bugs = 1 }", "tasks.kinds"),
        ("[[project]]\nname = 'a'\n[tasks]\nurgent = 2", "tasks.urgent"),
        ("[[project]]\nname = 'a'\n[[fault]]\nkind = 'fire'\ntarget = 'hive'", "fault.kind"),
        ("[[project]]\nname = 'a'\n[[fault]]\nkind = 'slow'\ntarget = 'hive'\ndelay_s = 1e9", "fault.delay_s"),
        ("project = 3", "project"),
    ],
)
def test_a_mistake_in_a_scenario_names_file_and_key(text: str, named: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_scenario(text, "x", "mine.toml")
    assert str(caught.value).startswith(f"mine.toml: {named} = ")


def test_a_user_can_write_one_and_an_unknown_name_tells_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL)
    assert load_scenario(str(tmp_path / "mine.toml")).about == "small"
    with pytest.raises(UsageError, match="there is calm, cross-repo, storm"):
        load_scenario("stormy")
    with pytest.raises(UsageError, match="cannot be read"):
        load_scenario(str(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("[[")
    with pytest.raises(UsageError, match=r"bad\.toml"):
        load_scenario(str(tmp_path / "bad.toml"))


def test_a_tasks_issue_says_type_priority_and_dependency_and_holds_the_diff_that_does_it(tmp_path: Path) -> None:
    for name, text in files_of(SceneProject("shop")).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    for task in (one for one in timetable(load_scenario("storm")) if isinstance(one, TaskArrives)):
        body = body_of(task, "scenario/till#3")
        labels = labels_of(task, "bzzz-task")
        assert task_type(labels, task.title, body) is task.kind
        assert priority(labels) == task.priority
        assert find_dependencies("scenario/shop", body) == ("scenario/till#3",)
        diff = body.partition("```diff\n")[2].rpartition("```")[0]
        subprocess.run([*git, "apply", "-"], input=diff.encode(), check=True)
    assert subprocess.run(["python3", "check.py"], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "notes" / "empty.md").write_text("")
    assert subprocess.run(["python3", "check.py"], cwd=tmp_path, check=False, capture_output=True).returncode == 1


@asynccontextmanager
async def playing(
    folder: Path,
    forge: ForgeServer,
    scenario: Scenario,
    box: FaultBox,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[tuple[RunningHive, Director]]:
    """A Hive that plays a scenario on a real forge."""
    director = Director(scenario, forge.forge, box, sleep=sleep)
    client = GitHubForge(lambda _: forge.token, RealClock())
    try:
        async with running_hive(folder, forge=client, director=director, forge_base_url=forge.base_url) as hive:
            yield hive, director
    finally:
        await client.close()


async def until(hive: RunningHive, done: int) -> dict[str, Any]:
    async with hive.client() as client, asyncio.timeout(20):
        while True:
            status: dict[str, Any] = (await client.get("/api/bzzz/scenario")).json()
            if status["done"] >= done:
                return status
            await asyncio.sleep(0.02)


async def test_a_scenario_is_played_on_a_real_forge_with_projects_that_come_and_go(
    tmp_path: Path, forge: ForgeServer
) -> None:
    released = asyncio.Semaphore(0)

    async def step(_seconds: float) -> None:
        await released.acquire()

    plan = timetable(small())
    async with playing(tmp_path, forge, small(), FaultBox(RealClock()), step) as (hive, _), hive.client() as client:
        first = sum(one.at_s == 0 for one in plan)
        await until(hive, first)
        (shop,) = (await client.get("/api/bzzz/active-repos")).json()["repositories"]
        assert (shop["key"], shop["ready_to_claim"]) == ("scenario/shop", True)
        tasks = (await client.get(f"/api/bzzz/projects/{shop['project_id']}/tasks")).json()
        assert len(tasks) == 2
        left = next(place for place, one in enumerate(plan) if isinstance(one, ProjectLeaves))
        for _ in range(left + 1 - first):
            released.release()
        await until(hive, left + 1)
        active = (await client.get("/api/bzzz/active-repos")).json()["repositories"]
        assert [one["key"] for one in active] == ["scenario/till"]
        for _ in plan:
            released.release()
        status = await until(hive, len(plan))
        assert status["counters"] == {"projects": 2, "tasks": 6}
        assert len((await client.get("/api/bzzz/active-repos")).json()["repositories"]) == 2
    cloned = tmp_path / "clone"
    command = ["git", "clone", "-q", forge.git_url("scenario", "till"), str(cloned)]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert (cloned / "check.py").is_file()
    bodies = [one["body"] for name in ("shop", "till") for one in forge.forge.list_issues("scenario", name)]
    assert any("Depends on scenario/" in body for body in bodies)


async def test_what_the_forge_refuses_is_counted_and_the_rest_goes_on(
    tmp_path: Path, forge: ForgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario("x", "", 1, 10, (SceneProject("one"), SceneProject("two")), TaskMix(first=2, most=2), ())
    create = forge.forge.create_repository

    def refuse(owner: str, title: str, **more: Any) -> Any:
        if title == "one":
            raise UsageError("the disk is full")
        return create(owner, title, **more)

    monkeypatch.setattr(forge.forge, "create_repository", refuse)
    async with playing(tmp_path, forge, scenario, FaultBox(RealClock())) as (hive, _):
        status = await until(hive, 4)
    assert status["counters"]["projects"] == 1
    assert status["counters"]["happenings_failed"] >= 1
    assert any("the disk is full" in event for event in status["events"])


def test_a_fault_befalls_its_share_of_its_target_for_its_time() -> None:
    clock = ManualClock()
    numbers = iter([0.1, 0.9, 0.1])
    box = FaultBox(clock, lambda: next(numbers))
    fault = Fault("error", "forge", 0, for_s=5, share=0.5)
    box.begin(fault)
    assert box.hits("hive") is None
    assert [box.hits("forge"), box.hits("forge"), box.hits("forge")] == [fault, None, fault]
    clock.advance(5)
    assert (box.hits("forge"), box.on()) == (None, [])
    box.begin(fault)
    box.end()
    assert box.on() == []
    assert box.counts == {"faults_error": 2}


async def test_each_fault_spoils_answers_as_it_says_and_spares_what_steers_it(
    tmp_path: Path, forge: ForgeServer
) -> None:
    scenario = replace(small(), tasks=TaskMix(first=0, most=0))
    async with playing(tmp_path, forge, scenario, FaultBox(RealClock())) as (hive, _), hive.client() as client:
        path = "/api/bzzz/projects"

        async def begin(kind: str, **more: Any) -> None:
            await client.delete("/api/bzzz/scenario/fault")
            wanted = {"kind": kind, "target": "hive", "for_s": 60, **more}
            assert (await client.post("/api/bzzz/scenario/fault", json=wanted)).status_code == 200

        assert (await client.get(path)).status_code == 200
        await begin("error")
        assert ((await client.get(path)).status_code, (await client.get(path)).json()["error"]) == (
            500,
            "internal_error",
        )
        await begin("limited")
        limited = await client.get(path)
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
        await begin("away")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/api/bzzz/scenario")).json()["faults"] == ["away hive"]
        await begin("slow", delay_s=0.05)
        assert (await client.get(path)).status_code == 200
        await client.delete("/api/bzzz/scenario/fault")
        assert (await client.get("/api/bzzz/scenario")).json()["counters"]["faults_slow"] == 1
        assert (await client.post("/api/bzzz/scenario/fault", json={"kind": "fire"})).status_code == 422


async def test_a_hive_that_plays_none_says_so(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive, hive.client() as client:
        for answer in (
            await client.get("/api/bzzz/scenario"),
            await client.post("/api/bzzz/scenario/urgent", json={}),
        ):
            assert answer.status_code == 404
            assert "plays no scenario" in answer.json()["detail"]


async def test_an_urgent_task_is_opened_on_demand_in_a_project_of_the_scenario(
    tmp_path: Path, forge: ForgeServer
) -> None:
    scenario = replace(small(), projects=(SceneProject("urgency"),), tasks=TaskMix(first=0, most=0))
    async with playing(tmp_path, forge, scenario, FaultBox(RealClock())) as (hive, _), hive.client() as client:
        await until(hive, 1)
        answer = await client.post("/api/bzzz/scenario/urgent", json={"project": "urgency"})
        assert answer.json()["task"] == "scenario/urgency#1"
        (task,) = forge.forge.list_issues("scenario", "urgency")
        assert "urgent" in {label["name"] for label in task["labels"]}
        assert (await client.post("/api/bzzz/scenario/urgent", json={"project": "x"})).status_code == 409


async def test_a_trigger_plays_claims_and_updates_and_tells_what_nodes_did(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive:
        hive.add_project()
        hive.forge.put("acme/shop", issue(1), issue(2), issue(3))
        repository = hive.parts.store.projects()[0].to_repository()
        link, clock = HiveLink(hive.url, None, RealClock()), ManualClock()

        async def node(seconds: float) -> None:
            """While the trigger waits, a node takes what was given back, and delivers it at the next look."""
            clock.advance(seconds)
            for number in (1, 2, 3):
                top = await hive.ledger.read(repository, number)
                if top is None or (
                    top.record.holder.agent.startswith("scenario") and top.record.state is RecordState.HELD
                ):
                    continue
                epoch = top.record.epoch + (top.record.state is RecordState.RELEASED)
                state = RecordState.DELIVERED if top.record.state is RecordState.HELD else RecordState.HELD
                if top.record.state is not RecordState.DELIVERED:
                    record = ClaimRecord(
                        TaskId("acme/shop", number), epoch, Holder("12D3", "walnut"), state, f"n{epoch}{state}"
                    )
                    await hive.ledger.swap(repository, top.version, record)

        outcome = await Trigger(link, clock, node).play(Wish(claims=2, updates=1, urgent=1, wait_s=5))
        await link.close()
    value = outcome.to_object()
    assert json.loads(json.dumps(value))["fine"] is True
    assert [one["what"] for one in value["played"]] == [
        *("claim", "rival's claim") * 2,
        "in_progress",
        "failed",
    ]
    assert sum("is held by scenario-" in one["answer"] for one in value["played"]) == 2
    states = {one["task"]: (one["state"], one["holder"]) for one in value["watched"]}
    assert sorted(states.values()) == [("delivered", "walnut"), ("held", "scenario-2")]
    (delivered,) = [one for one in value["watched"] if one["state"] == "delivered"]
    assert (delivered["taken_s"], delivered["delivered_s"]) == (1.0, 2.0)
    assert value["notes"] == ["no urgent task: this Hive plays no scenario"]


async def test_a_hive_that_grants_one_task_twice_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzzz.hive.routes.claim.next_record", _always)
    async with running_hive(tmp_path) as hive:
        hive.add_project()
        hive.forge.put("acme/shop", issue(1))
        link = HiveLink(hive.url, None, RealClock())
        outcome = await Trigger(link, ManualClock()).play(Wish(claims=1, updates=0, urgent=0, wait_s=0))
        await link.close()
    assert not outcome.fine
    assert outcome.played[-1].answer == "taken as well"


def _always(standing: Any, task: TaskId, agent: str, *, nonce: str, noted_at: str, ttl_s: int) -> ClaimRecord:
    return ClaimRecord(task, 1, Holder(f"hive:{agent}", agent), RecordState.HELD, nonce)


def test_projects_and_tasks_arrive_before_anything_leaves_at_the_same_time() -> None:
    plan = timetable(small())
    assert isinstance(plan[0], ProjectArrives)
    assert [one.at_s for one in plan] == sorted(one.at_s for one in plan)

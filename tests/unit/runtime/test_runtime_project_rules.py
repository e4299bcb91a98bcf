"""What a project asks for (``bzzz.core.task.ProjectRules``), in whole nodes over adapters in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import World, gated, proved

from bzzz.agents.memory import Script
from bzzz.core.task import ProjectRules
from bzzz.errors import ServiceConflict
from bzzz.hive.memory import MemoryHive
from bzzz.journal.store import SqliteJournal
from bzzz.ports import AttemptFinished, AttemptSpec, Outcome


def ruled(folder: Path, *keys: str, **rules: Any) -> World:
    """A world whose first repository has these rules."""
    world = World(folder, *(keys or ("acme/shop",)))
    first, *others = world.repositories
    world.repositories = [replace(first, rules=ProjectRules(**rules)), *others]
    world.hive = MemoryHive(world.repositories)
    return world


def failed(_: AttemptSpec) -> Script:
    return Script(AttemptFinished("", Outcome.CHECK_FAILED, "the check failed"))


async def test_a_node_does_no_more_of_a_projects_tasks_at_once_than_the_project_allows(tmp_path: Path) -> None:
    world = ruled(tmp_path, "acme/shop", "acme/till", tasks_max=1)
    world.forge.add("acme/shop", make_issue(1), make_issue(2))
    world.forge.add("acme/till", make_issue(1))
    gate = asyncio.Event()
    walnut = world.node(script_for=gated(gate), max_tasks=3)
    async with world.running(walnut):
        await walnut.until(lambda event: event["kind"] == "agent_started" and event["task"] == "acme/till#1")
        await walnut.until(lambda event: event["kind"] == "agent_started" and "acme/shop" in event["task"])
        gate.set()
        await walnut.report("delivered", "acme/shop#1")
        await walnut.report("delivered", "acme/shop#2")
    kinds = ("agent_started", "attempt_ended")
    shop = [e["kind"] for e in walnut.node.events.history() if e["kind"] in kinds and "acme/shop" in e["task"]]
    assert shop == ["agent_started", "attempt_ended", "agent_started", "attempt_ended"]


async def test_a_person_is_asked_after_as_many_failures_as_the_project_says(tmp_path: Path) -> None:
    world = ruled(tmp_path, strikes_max=1)
    world.forge.add("acme/shop", make_issue(1))
    walnut = world.node(script_for=failed)
    async with world.running(walnut):
        assert (await walnut.report("escalated"))["strikes"] == 1


async def test_an_attempt_has_the_smaller_limit_and_is_told_the_projects_check(tmp_path: Path) -> None:
    world = ruled(tmp_path, wall_s_max=7.0, idle_s_max=10_000.0, check_command=("make", "test"))
    world.forge.add("acme/shop", make_issue(1))
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered")
    (spec,) = walnut.runner.started
    assert (spec.wall_s_max, spec.idle_s_max) == (7.0, 600.0)
    assert spec.repository.rules.check_command == ("make", "test")


@pytest.mark.parametrize("refused", [False, True])
async def test_reviewers_are_asked_and_a_refusal_is_told_and_costs_nothing_else(
    tmp_path: Path, refused: bool
) -> None:
    world = ruled(tmp_path, reviewers=("ana", "bo"))
    world.forge.add("acme/shop", make_issue(1))
    if refused:
        world.forge.faults["ask_reviewers"] = ServiceConflict("forge", "asking for a review", "no such person", 422)
    walnut = world.node()
    async with world.running(walnut):
        await walnut.report("delivered")
    assert world.forge.reviewers == ({} if refused else {("acme/shop", 1): {"ana", "bo"}})
    assert [("ana, bo" in event["text"]) for event in walnut.told("reviewers_not_asked")] == [True] * refused


async def test_a_projects_own_label_is_what_is_listed(tmp_path: Path) -> None:
    world = ruled(tmp_path, labels=("agents",))
    world.forge.add("acme/shop", make_issue(1), make_issue(2, labels=("agents",)))
    walnut = world.node(script_for=proved)
    async with world.running(walnut):
        await walnut.report("delivered", "acme/shop#2")
    assert [spec.task.number for spec in walnut.runner.started] == [2]


def test_a_journal_keeps_a_repository_with_its_rules(tmp_path: Path) -> None:
    kept = ruled(tmp_path, labels=("a", "b"), reviewers=("ana",), wall_s_max=5.0, tasks_max=2).repositories
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.keep_repositories(kept)
    assert list(journal.repositories()) == kept
    journal.close()

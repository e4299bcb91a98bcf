"""What the checkers are worth: with each safety rule turned off in turn, they fail; and each of them can fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import TaskId
from bzzz.simulation.agent import Folder
from bzzz.simulation.fault import FaultKind
from bzzz.simulation.flaw import Flaw
from bzzz.simulation.ledger import ClaimLedger, Write
from bzzz.simulation.world import Scale, World

SEEDS_MAX = 30

CASES: list[tuple[Flaw, Sequence[FaultKind], set[str]]] = [
    (Flaw.NO_NONCE, tuple(FaultKind), {"attempt", "one-delivery", "fence"}),
    (Flaw.NO_ATOMIC_PUSH, (FaultKind.ISOLATION,), {"epoch", "fence", "one-delivery"}),
    (Flaw.CLAIM_UNCHANGED, (), {"fence"}),
    (Flaw.EPOCH_UNCHECKED, (FaultKind.ISOLATION,), {"epoch", "fence", "one-delivery"}),
    (Flaw.SILENCE_RECLAIM, (FaultKind.PAUSE,), {"kept"}),
    (Flaw.RELEASE_BY_DELETION, (FaultKind.CRASH,), {"epoch"}),
]


def test_every_flaw_has_its_case() -> None:
    assert {flaw for flaw, _, _ in CASES} == set(Flaw)


@pytest.mark.parametrize(("flaw", "faults", "checkers"), CASES, ids=[flaw.value for flaw, _, _ in CASES])
def test_the_checkers_find_a_rule_that_is_turned_off(
    flaw: Flaw, faults: Sequence[FaultKind], checkers: set[str]
) -> None:
    for seed in range(SEEDS_MAX):
        found = World(seed, Scale(3, 20), faults=faults, flaw=flaw).run().violations
        if found:
            assert {violation.checker for violation in found} <= checkers
            sound = World(seed, Scale(3, 20), faults=faults).run().violations
            assert not sound, "the same world holds with the rule"
            return
    pytest.fail(f"{SEEDS_MAX} worlds without {flaw} and no checker noticed")


# --- each checker alone -------------------------------------------------------------------------------------


def quiet_world() -> World:
    world = World(3, Scale(2, 3))
    assert not world.run().violations
    return world


def task_of(world: World) -> TaskId:
    return next(iter(world.forge.tasks))


def names(world: World) -> set[str]:
    return {violation.checker for violation in world.violations}


def test_the_work_checker_sees_work_deleted_that_is_nowhere_else() -> None:
    world = quiet_world()
    shell, task = world.shells[0], task_of(world)
    shell.folders[task, 9] = Folder(["lost"])
    world.checkers.work_made(task, "lost")
    world.checkers.forgotten(shell, task, 9)
    assert names(world) == {"work"}


def test_the_work_checker_sees_work_that_vanished_from_a_disk() -> None:
    world = quiet_world()
    world.checkers.work_made(task_of(world), "gone")
    world.checkers.at_end()
    assert names(world) == {"work"}


def test_the_pull_checker_sees_a_delivery_without_a_pull_request_and_one_with_two() -> None:
    for change in (-1, 1):
        world = quiet_world()
        opened = world.forge.pulls_opened
        world.forge.pulls_opened = opened[1:] if change < 0 else [opened[0], *opened]
        world.checkers.at_end()
        assert names(world) == {"pull"}


def test_the_end_checker_sees_a_task_that_nobody_ends() -> None:
    world = quiet_world()
    world.forge.tasks[TaskId("acme/orchard", 99)] = world.forge.tasks[task_of(world)]
    world.checkers.at_end()
    assert names(world) == {"end"}


def test_the_rest_checker_sees_what_a_node_keeps() -> None:
    world = quiet_world()
    core = world.shells[0].core
    assert core is not None
    task = task_of(world)
    core.context.active.add(task)
    world.checkers.at_end()
    assert names(world) == {"rest"}
    world.violations.clear()
    core.context.active.clear()
    core.context.entries[task].own = world.ledger.read(task)
    world.checkers.at_end()
    assert names(world) == {"rest"}


def test_the_core_checker_sees_a_core_that_raises() -> None:
    world = quiet_world()
    world.shells[0].receive("no event")  # type: ignore[arg-type]
    assert names(world) == {"core"}


def test_the_one_delivery_and_fence_checkers_see_a_second_branch() -> None:
    world = quiet_world()
    task = task_of(world)
    standing = world.ledger.read(task)
    assert standing is not None
    world.checkers.written(Write(task, "somebody", standing.record, standing, standing, "bzzz/again"))
    assert names(world) == {"one-delivery", "fence"}


# --- the ledger model ---------------------------------------------------------------------------------------


def test_two_claimers_with_the_same_record_both_see_success_and_a_nonce_prevents_it() -> None:
    ledger = ClaimLedger()
    task = TaskId("acme/orchard", 1)
    record = ClaimRecord(task, 1, Holder("same", "same"), RecordState.HELD, "same")
    assert ledger.swap(None, record, "a").won
    assert ledger.swap(None, record, "b").won, "pushing the same commit is no conflict"
    other = ClaimRecord(task, 1, Holder("same", "same"), RecordState.HELD, "other")
    assert not ledger.swap(None, other, "b").won

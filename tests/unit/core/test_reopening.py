"""What was delivered or escalated begins anew when a person asks, by one write, once."""

from __future__ import annotations

import pytest

from bzzz.core.claim import ClaimState
from bzzz.core.effect import ConfirmTask, Effect, Forget, SwapClaim
from bzzz.core.event import AskedAgain, Event, RepositoriesFound, Started, SwapEnd, SwapEnded, TasksListed
from bzzz.core.node import NodeCore
from bzzz.core.profile import Policy, Profile
from bzzz.core.record import ClaimRecord, Holder, Observation, RecordState, Version
from bzzz.core.task import Repository, Task, TaskId

REPOSITORY = Repository(1, "shop", "acme", "shop", "http://forge/acme/shop.git", "http://forge/api/v3")
TASK = Task(TaskId("acme/shop", 7), "a title", updated_at="2026-01-01T00:00:00Z")


class Driver:
    """A core with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.core = NodeCore(Profile("me", "walnut", 1, "seed"), Policy())
        self.now_ms = 0
        self.feed(Started())
        self.feed(RepositoriesFound((REPOSITORY,)))

    def feed(self, event: Event) -> list[Effect]:
        self.now_ms += 10
        return self.core.step(self.now_ms, event)

    def listed(
        self, standing: Observation | None, *asked: AskedAgain, tasks: tuple[Task, ...] = (TASK,)
    ) -> list[Effect]:
        claims = () if standing is None else ((7, standing),)
        return self.feed(TasksListed("acme/shop", tasks, claims, asked=asked))

    @property
    def state(self) -> ClaimState:
        return self.core.context.entries[TASK.id].state


def standing(state: RecordState, *, answered: int = 0) -> Observation:
    holder = Holder("other", "acacia", 3)
    record = ClaimRecord(TASK.id, 4, holder, state, "n", branch="b", strikes=3, answered=answered)
    return Observation(Version("v4"), record)


def swaps(effects: list[Effect]) -> list[SwapClaim]:
    return [effect for effect in effects if isinstance(effect, SwapClaim)]


@pytest.mark.parametrize("state", [RecordState.DELIVERED, RecordState.ESCALATED])
def test_a_task_asked_for_again_is_released_after_exactly_the_record_that_stood(state: RecordState) -> None:
    driver = Driver()
    (swap,) = swaps(driver.listed(standing(state), AskedAgain(7, "asked again", 55)))
    assert swap.expected == "v4"
    assert (swap.record.state, swap.record.epoch) == (RecordState.RELEASED, 5)
    assert (swap.record.strikes, swap.record.answered) == (0, 55)
    assert driver.state is ClaimState.REOPENING


@pytest.mark.parametrize("state", [RecordState.HELD, RecordState.RELEASED])
def test_what_is_held_or_free_is_not_reopened(state: RecordState) -> None:
    assert swaps(Driver().listed(standing(state), AskedAgain(7, "asked again", 55))) == []


def test_a_comment_that_was_answered_reopens_nothing() -> None:
    assert swaps(Driver().listed(standing(RecordState.DELIVERED, answered=55), AskedAgain(7, "again", 55))) == []


def test_once_reopened_the_task_is_claimed_with_the_next_epoch() -> None:
    driver = Driver()
    (swap,) = swaps(driver.listed(standing(RecordState.DELIVERED), AskedAgain(7, "asked again", 55)))
    now = Observation(Version("v5"), swap.record)
    effects = driver.feed(SwapEnded(TASK.id, swap.record.nonce, SwapEnd.WON, now))
    assert any(isinstance(effect, Forget) for effect in effects)
    assert TASK.id not in driver.core.context.active
    driver.now_ms += 60_000
    confirms = [effect for effect in driver.listed(now) if isinstance(effect, ConfirmTask)]
    assert confirms
    assert driver.state is ClaimState.CONFIRMING


def test_who_loses_the_reopening_to_another_watcher_lets_it_be() -> None:
    driver = Driver()
    (swap,) = swaps(driver.listed(standing(RecordState.DELIVERED), AskedAgain(7, "asked again", 55)))
    other = Observation(
        Version("v5"), ClaimRecord(TASK.id, 5, Holder("other", "acacia"), RecordState.RELEASED, "m")
    )
    driver.feed(SwapEnded(TASK.id, swap.record.nonce, SwapEnd.LOST, other))
    assert driver.state is ClaimState.IDLE
    assert TASK.id not in driver.core.context.active


def test_an_issue_opened_anew_after_its_delivery_is_a_new_wish() -> None:
    driver = Driver()
    delivered = standing(RecordState.DELIVERED)
    assert swaps(driver.listed(delivered)) == []
    driver.listed(delivered, tasks=())
    again = Task(TASK.id, TASK.title, updated_at="2026-01-02T00:00:00Z")
    assert len(swaps(driver.listed(delivered, tasks=(again,)))) == 1


def test_an_issue_that_was_only_missing_from_one_listing_is_no_new_wish() -> None:
    driver = Driver()
    delivered = standing(RecordState.DELIVERED)
    driver.listed(delivered)
    driver.listed(delivered, tasks=())
    assert swaps(driver.listed(delivered)) == []

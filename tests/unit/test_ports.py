"""What the ports themselves decide: which outcomes count against a task."""

from __future__ import annotations

import pytest

from bzzz.ports import Outcome


@pytest.mark.parametrize(
    "outcome", [Outcome.CRASHED, Outcome.NO_CHANGE, Outcome.CHECK_FAILED, Outcome.OUT_OF_BUDGET, Outcome.NEEDS_HELP]
)
def test_a_failed_try_costs_a_strike(outcome: Outcome) -> None:
    assert outcome.costs_strike


@pytest.mark.parametrize("outcome", [Outcome.PROVED, Outcome.RATE_LIMITED, Outcome.AGENT_MISSING, Outcome.STOPPED])
def test_what_is_not_the_tasks_fault_costs_no_strike(outcome: Outcome) -> None:
    assert not outcome.costs_strike

"""Whether the contention benchmark would see a double delivery, and what a small race comes to."""

from __future__ import annotations

import pytest
from benchmarks.contention import Race, Tally

from bzzz.simulation.flaw import Flaw


def _races(flaw: Flaw | None) -> Tally:
    total = Tally()
    for seed in range(12):
        total.add(Race(seed, flaw, paused_share=0.1).run())
    return total


def test_racing_cores_deliver_each_task_once_and_meet_the_fence() -> None:
    tally = _races(None)
    assert tally.double_deliveries == tally.double_holders == tally.double_attempts == 0
    assert tally.contended > 500
    assert tally.reclaimed > 0
    assert tally.fenced > 0


@pytest.mark.parametrize("flaw", [Flaw.NO_ATOMIC_PUSH, Flaw.EPOCH_UNCHECKED])
def test_a_ledger_without_its_fence_shows_double_deliveries(flaw: Flaw) -> None:
    assert _races(flaw).double_deliveries > 0

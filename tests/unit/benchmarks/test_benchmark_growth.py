"""What the growth benchmark counts in a fleet small enough to know the answer."""

from __future__ import annotations

from benchmarks.growth import Fleet, _label_writes

from bzzz.core.effect import DeliverWork, Report, SwapClaim
from bzzz.core.task import TaskId


def test_a_calm_fleet_of_three_writes_one_claim_and_one_delivery_a_task() -> None:
    fleet = Fleet(3, 4)
    fleet.run()
    assert fleet.effects[SwapClaim] == fleet.effects[DeliverWork] == 4
    assert fleet.messages["TaskClaim"] == fleet.messages["TaskComplete"] == 4
    assert [report.kind for report in fleet.reports].count("delivered") == 4


async def test_reports_are_counted_as_the_outbox_writes_them() -> None:
    task = TaskId("acme/orchard", 1)
    claimed, delivered = Report(task, 1, "claimed"), Report(task, 1, "delivered", {"pull_request": "x"})
    assert await _label_writes([claimed]) == 1
    assert await _label_writes([claimed, delivered]) == 3

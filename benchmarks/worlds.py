"""How many simulated worlds of five nodes by twenty tasks, with every kind of fault, one process plays in a minute.

The processor's time counts and not the clock's, so that what else runs on the machine disturbs little. That every
world holds is what continuous integration plays a thousand of; one that does not is an error here too.
"""

from __future__ import annotations

import time
from typing import Any

from bzzz.simulation.fault import FaultKind
from bzzz.simulation.report import run_worlds
from bzzz.simulation.world import Scale

WORLDS = 60
SEED = 1
SCALE = Scale(5, 20)


def run() -> list[dict[str, Any]]:
    began_s = time.process_time()
    results = [result for result, _ in run_worlds(SEED, WORLDS, SCALE, tuple(FaultKind))]
    took_s = time.process_time() - began_s
    found = [violation for result in results for violation in result.violations]
    if found:
        raise AssertionError(f"seed {found[0].seed}: {found[0].checker} does not hold: {found[0].detail}")
    tasks = sum(result.tasks for result in results)
    return [
        {"name": "worlds a minute of one core, all faults", "value": 60 * WORLDS / took_s, "unit": "worlds/min"},
        {"name": "worlds played", "value": WORLDS, "unit": "worlds"},
        {
            "name": "double deliveries",
            "value": sum(result.double_deliveries for result in results),
            "unit": "deliveries",
        },
        {
            "name": "claim writes under faults",
            "value": sum(result.claim_writes for result in results) / tasks,
            "unit": "writes/task",
        },
    ]

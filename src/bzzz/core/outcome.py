"""How an attempt ends, and what each ending costs.

An agent's own word is never among these: ``PROVED`` means that the node saw the proof.
"""

from __future__ import annotations

import enum


class Outcome(enum.StrEnum):
    """How an attempt ended; each is handled differently by the claim protocol."""

    PROVED = "proved"
    NO_CHANGE = "no_change"
    CHECK_FAILED = "check_failed"
    NEEDS_HELP = "needs_help"
    OUT_OF_BUDGET = "out_of_budget"
    RATE_LIMITED = "rate_limited"
    SERVICE_FAILED = "service_failed"
    AGENT_MISSING = "agent_missing"
    CRASHED = "crashed"
    STOPPED = "stopped"

    @property
    def costs_strike(self) -> bool:
        """Whether this counts against the task.

        A provider's limit, a forge or git server that failed before the agent began, a missing agent and
        being told to stop say nothing about the task.
        """
        return self in _STRIKES


_STRIKES = frozenset(
    {Outcome.NO_CHANGE, Outcome.CHECK_FAILED, Outcome.NEEDS_HELP, Outcome.OUT_OF_BUDGET, Outcome.CRASHED}
)

"""What the core is told when carrying out an effect broke in a way that nobody foresaw.

Each effect that waits for an answer gets one, always: a core that waits for ever would hold a task for ever.
For a write the only honest answer is that its fate is unknown.
"""

from __future__ import annotations

import math

from bzzz.core.effect import (
    ConfirmTask,
    DeliverWork,
    Effect,
    FindRepositories,
    ListTasks,
    OpenPull,
    ProbePeer,
    ReadClaim,
    SaveWork,
    StartAttempt,
    SwapClaim,
)
from bzzz.core.event import (
    AttemptEnded,
    ClaimNotRead,
    Event,
    Probed,
    ProbeEnded,
    PullNotFound,
    RepositoriesNotFound,
    SwapEnd,
    SwapEnded,
    TaskNotConfirmed,
    TasksNotListed,
    WorkNotSaved,
)
from bzzz.core.outcome import Outcome
from bzzz.errors import BzzzError, ServiceLimited

RETRY_AFTER_S_MAX = 24 * 3600.0


def failure_event(effect: Effect, detail: str) -> Event | None:
    """The event that says that an effect failed; ``None`` for those that nobody waits for."""
    match effect:
        case SwapClaim() | DeliverWork():
            return SwapEnded(effect.task, effect.record.nonce, SwapEnd.UNCERTAIN, None, detail)
        case ListTasks():
            return TasksNotListed(effect.repository, detail)
        case FindRepositories():
            return RepositoriesNotFound(detail)
        case ConfirmTask():
            return TaskNotConfirmed(effect.task, detail)
        case ReadClaim():
            return ClaimNotRead(effect.task, detail)
        case SaveWork():
            return WorkNotSaved(effect.task, effect.epoch, detail)
        case OpenPull():
            return PullNotFound(effect.task.id, detail)
        case StartAttempt():
            return AttemptEnded(effect.task.id, effect.record.epoch, Outcome.CRASHED, detail, False)
        case ProbePeer():
            return ProbeEnded(effect.peer, Probed.SILENT)
        case _:
            return None


def retry_after_ms(error: BzzzError) -> int | None:
    """How long a service that limits us wants to be left alone, if it said so."""
    return bounded_ms(error.retry_after_s) if isinstance(error, ServiceLimited) else None


def bounded_ms(wait_s: float | None) -> int | None:
    """Seconds that a service or an agent named, as milliseconds from 0 to a day; ``None`` for what is none."""
    if wait_s is None or math.isnan(wait_s):
        return None
    return int(min(RETRY_AFTER_S_MAX, max(0.0, wait_s)) * 1000)

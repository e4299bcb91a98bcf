"""When to try a peer again: exponential backoff with jitter, pure.

Both ends of a cut link start trying at the same moment; the jitter keeps a fleet from knocking in step.
"""

from __future__ import annotations

REDIAL_BASE_S = 0.25
REDIAL_MAX_S = 15.0
REFUSED_BASE_S = 2.5
REFUSED_MAX_S = 60.0


def redial_delay_s(
    attempt: int, chance: float, base_s: float = REDIAL_BASE_S, max_s: float = REDIAL_MAX_S
) -> float:
    """Seconds to wait before try number ``attempt``.

    Args:
        attempt: failures so far, 0 or more.
        chance: a random number in [0, 1), injected.
        base_s: the delay after no failure.
        max_s: the greatest delay.

    Returns:
        between half of and the whole of ``min(max_s, base_s * 2 ** attempt)``.
    """
    whole = min(max_s, base_s * 2.0 ** min(attempt, 30))
    return whole * (0.5 + chance / 2)


def first_dial_delay_s(own_peer: str, other_peer: str, deference_s: float) -> float:
    """How long to hold back the first dial to a peer that was discovered, and has discovered us too.

    Both dialling at once makes two connections of which one must be pruned; so the greater id waits.
    """
    return deference_s if own_peer > other_peer else 0.0

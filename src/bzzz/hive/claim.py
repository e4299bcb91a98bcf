"""Taking a claim for a client that cannot take a ref itself.

The ref stays the one authority: ``next_record`` says which record would be appended to what stands there,
and the ledger's swap alone decides who won. Such a holder is named ``hive:<agent>``; Hive does not renew for
it, so its claim goes stale as any silent holder's does.
"""

from __future__ import annotations

from datetime import datetime

from bzzz.core.record import ClaimRecord, Holder, Observation, RecordState
from bzzz.core.task import TaskId

PEER_PREFIX = "hive:"


def next_record(
    standing: Observation | None, task: TaskId, agent: str, *, nonce: str, noted_at: str, ttl_s: int
) -> ClaimRecord | None:
    """The record that claims ``task`` for ``agent`` after what stands; ``None`` where that forbids it.

    Only an unclaimed or released task may be claimed this way: taking over needs evidence that a node has
    and Hive has not. Failed attempts so far are carried on.
    """
    before = None if standing is None else standing.record
    if before is not None and before.state is not RecordState.RELEASED:
        return None
    return ClaimRecord(
        task=task,
        epoch=1 if before is None else before.epoch + 1,
        holder=Holder(peer=PEER_PREFIX + agent, agent=agent),
        state=RecordState.HELD,
        nonce=nonce,
        ttl_s=ttl_s,
        strikes=0 if before is None else before.strikes,
        noted_at=noted_at,
    )


def held_since(standing: Observation, history: list[Observation]) -> int | None:
    """When the holder took what stands, in Unix seconds, as its records say; for people only.

    A renewed claim's newest record tells when it was renewed, so the first record of its epoch is looked for.
    """
    epoch = standing.record.epoch
    first = next((link.record for link in history if link.record.epoch == epoch), standing.record)
    try:
        return int(datetime.fromisoformat(first.noted_at or "").timestamp())
    except (ValueError, OverflowError):
        return None

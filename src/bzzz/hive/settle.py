"""Moving on a claim that Hive took for a client, once that client reports what became of the task.

The client cannot write to the claim ref, so Hive writes for it, by the same compare-and-swap: a claim that has
moved on meanwhile stays as it is. Nodes' own claims are never touched; which claims are clients' is remembered when
they are taken. ``settled_record`` says what is written, and never takes a client's word for work that the forge
does not show.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fastapi.concurrency import run_in_threadpool

from bzzz.core.record import ClaimRecord, RecordState
from bzzz.core.task import Pull, Repository
from bzzz.hive.capture import CaptureQuery
from bzzz.hive.claim import PEER_PREFIX
from bzzz.hive.part import HiveParts
from bzzz.hive.project import Project

STRIKES_MAX = 3
REASON_CHARACTERS_MAX = 500
UNPROVED = "reported completed, but no pull request of it was found on the forge"

_REASONS = ("reason", "error", "message", "summary", "detail")
_BRANCHES = ("branch", "branch_name")


@dataclass(frozen=True, slots=True)
class Told:
    """What a client told of a task: its ``status``, and what it said beside that."""

    number: int
    status: str
    details: Mapping[str, Any]
    agent: str = ""


def settled_record(
    held: ClaimRecord, told: Told, pull: Pull | None, *, nonce: str, noted_at: str, strikes_max: int = STRIKES_MAX
) -> ClaimRecord:
    """The record that follows a client's held claim.

    ``in_progress`` renews it. ``completed`` delivers it where the forge has a pull request that is open or merged,
    and else releases it, since an agent's word counts for nothing. ``failed`` releases it. Each that does not
    deliver costs a strike, and the last of ``strikes_max`` escalates; ``escalated`` does at once.
    """
    after = replace(held, nonce=nonce, noted_at=noted_at)
    if told.status == "in_progress":
        return after
    if told.status == "completed" and pull is not None:
        return replace(
            after,
            state=RecordState.DELIVERED,
            branch=pull.head_branch,
            commit=pull.head_commit or None,
            pull_request=pull.url,
            reason=None,
        )
    said = next((str(told.details[key]) for key in _REASONS if told.details.get(key)), "")
    reason = UNPROVED if told.status == "completed" else said or f"its client reported {told.status}"
    reason = "".join(one if one.isprintable() else " " for one in reason)[:REASON_CHARACTERS_MAX]
    strikes = held.strikes + (told.status != "escalated")
    escalates = told.status == "escalated" or strikes >= strikes_max
    state = RecordState.ESCALATED if escalates else RecordState.RELEASED
    return replace(after, state=state, reason=reason, strikes=strikes)


async def settle(parts: HiveParts, project: Project, told: Told, agents: Collection[str]) -> str | None:
    """Move a client's claim on; gives the state that stands then, or ``None`` where it is no client's.

    May be repeated: a claim that was moved on is not moved again. ``agents`` are the clients that Hive took it for.

    Raises:
        ServiceError: the forge or the git server fails; the client is to report again.
        LedgerError: the claim cannot be read or written.
    """
    if project.problem or (told.agent and told.agent not in agents):
        return None
    repository = project.to_repository()
    standing = await parts.ledger.read(repository, told.number)
    if standing is None or standing.record.holder.peer not in {PEER_PREFIX + agent for agent in agents}:
        return None
    record, epoch = standing.record, told.details.get("epoch")
    if record.state is not RecordState.HELD:
        await run_in_threadpool(parts.store.reports.forget_clients, project.id, told.number)
        return record.state.value
    if (told.agent and told.agent != record.holder.agent) or (isinstance(epoch, int) and epoch != record.epoch):
        return None
    pull = await _delivery(parts, project, repository, told) if told.status == "completed" else None
    noted_at = datetime.fromtimestamp(int(parts.clock.wall_s()), UTC).isoformat().replace("+00:00", "Z")
    strikes_max = repository.rules.strikes_max or STRIKES_MAX
    after = settled_record(record, told, pull, nonce=parts.new_nonce(), noted_at=noted_at, strikes_max=strikes_max)
    result = await parts.ledger.swap(repository, standing.version, after)
    if not result.won:
        return None if result.standing is None else result.standing.record.state.value
    if after.state is not RecordState.HELD:
        await run_in_threadpool(parts.store.reports.forget_clients, project.id, told.number)
        parts.announce(project)
    return after.state.value


async def _delivery(parts: HiveParts, project: Project, repository: Repository, told: Told) -> Pull | None:
    """The pull request of what was completed, as the forge shows it."""
    branch = next((told.details[key] for key in _BRANCHES if isinstance(told.details.get(key), str)), "")
    if not branch:
        query = CaptureQuery(kind="create-pr", project_id=project.id, task_number=told.number)
        found = await run_in_threadpool(parts.store.captures.page, query, 1)
        body = found[0].capture.body if found else None
        branch = str(body.get("branch_name") or "") if isinstance(body, dict) else ""
    if not branch or not branch.isprintable():
        return None
    pull = await parts.forge.find_pull(repository, branch)
    return pull if pull is not None and (pull.merged or pull.state == "open") else None

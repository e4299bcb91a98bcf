"""A node's state as JSON-ready values: what ``bzzz status``, ``peers``, ``tasks`` and the monitor show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bzzz.core.claim import ClaimState
from bzzz.core.entry import Entry
from bzzz.core.ranking import watcher
from bzzz.core.record import RecordState
from bzzz.core.task import TaskId
from bzzz.ports import Transport
from bzzz.runtime.node import Node


def node_status(node: Node, transport: Transport, outbox_waiting: int) -> dict[str, Any]:
    """The node itself: identity, load, repositories, troubles, counters."""
    ctx = node.core.context
    profile = ctx.profile
    peers = ctx.membership.live_peers()
    return {
        "node_id": profile.peer,
        "name": profile.agent,
        "version": profile.version,
        "incarnation": profile.incarnation,
        "uptime_s": round((node.now_ms() - node.started_ms) / 1000, 1),
        "status": _node_state(node),
        "current_tasks": profile.max_tasks - ctx.places_left(),
        "max_tasks": profile.max_tasks,
        "capabilities": list(profile.capabilities),
        "specialization": profile.specialization,
        "models": list(profile.models),
        "addresses": list(transport.addresses),
        "connected_peers": len(transport.peers()),
        "hive": {
            "configured": node.has_hive,
            "reachable": node.has_hive and not node.core.watch.hive_trouble,
            "trouble": node.core.watch.hive_trouble,
        },
        "repositories": [
            {
                "repository": key,
                "watcher": _agent_of(node, watcher(key, peers)),
                "watching": watched.watching,
                "trouble": watched.trouble,
            }
            for key, watched in sorted(node.core.watch.watched.items())
        ],
        "outbox_waiting": outbox_waiting,
        "counters": {
            "core": dict(ctx.counters),
            "mesh": {**transport.counters(), **node.mesh.counters, **node.mesh.inbox.dropped},
            "node": {**node.counters, "missed_events": node.events.missed},
        },
    }


def peers_status(node: Node, transport: Transport) -> list[dict[str, Any]]:
    """The other nodes, as this one knows them."""
    ctx = node.core.context
    connected = transport.peers()
    return [
        {
            "node_id": member.peer,
            "name": member.agent or member.peer[-8:],
            "liveness": member.liveness.value,
            "connected": member.peer in connected,
            "incarnation": member.incarnation,
            "current_tasks": member.current_tasks,
            "max_tasks": member.max_tasks,
            "tasks": [str(task) for task in sorted(member.tasks)],
            "capabilities": list(member.capabilities),
            "specialization": member.specialization,
            "models": list(member.models),
            "version": member.version,
            "heard_s_ago": round(max(0, node.now_ms() - member.heard_ms) / 1000, 1),
            "addresses": list(connected.get(member.peer, member.addresses)),
        }
        for member in sorted(ctx.membership, key=lambda m: (m.agent, m.peer))
    ]


def tasks_status(node: Node) -> list[dict[str, Any]]:
    """The tasks that this node knows, open ones first."""
    entries: Mapping[TaskId, Entry] = node.core.context.entries
    rows = [task_status(node, entry) for entry in entries.values()]
    return sorted(rows, key=lambda row: (row["state"] in ("delivered", "closed"), -row["priority"], row["task"]))


def task_status(node: Node, entry: Entry) -> dict[str, Any]:
    """One task: what is known of its claim and, where it is ours, of the attempt."""
    claim = entry.believed()
    if entry.state not in (ClaimState.IDLE, ClaimState.LOSING):
        state = entry.state.value
    elif claim is None:
        state = "open" if entry.open else "closed"
    else:
        state = claim.state.value
        if claim.state is RecordState.RELEASED:
            state = "open" if entry.open else "closed"
    return {
        "task": str(entry.task.id),
        "title": entry.task.title,
        "task_type": entry.task.task_type.value,
        "priority": entry.task.priority,
        "labels": list(entry.task.labels),
        "state": state,
        "holder": None if claim is None else _agent_of(node, claim.peer),
        "epoch": None if claim is None else claim.epoch,
        "strikes": 0 if claim is None else claim.strikes,
        "running": entry.running,
        "pull_request": entry.pull_request,
        "html_url": entry.task.url,
    }


def _node_state(node: Node) -> str:
    ctx = node.core.context
    if ctx.stopping:
        return "stopping"
    if node.now_ms() < ctx.settled_ms:
        return "starting"
    return "busy" if ctx.places_left() == 0 else "ready"


def _agent_of(node: Node, peer: str | None) -> str | None:
    ctx = node.core.context
    if peer is None:
        return None
    if peer == ctx.profile.peer:
        return ctx.profile.agent
    member = ctx.membership.get(peer)
    return member.agent if member is not None and member.agent else peer[-8:]

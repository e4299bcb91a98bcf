"""How busy a member is said to be: by the tasks it lists, or by its count alone, as the predecessor tells it."""

from __future__ import annotations

import json

import pytest

from bzzz.core.membership import Membership
from bzzz.core.message import Availability
from bzzz.core.profile import Policy
from bzzz.wire import decode

PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"


@pytest.mark.parametrize(
    ("told", "busy"),
    [
        ({"current_tasks": 2}, 2),
        ({"current_tasks": 1, "tasks": [["demo/thing#1", 1]]}, 1),
        ({"current_tasks": 0, "tasks": [["demo/thing#1", 1]]}, 1),
    ],
    ids=["counted", "listed", "listed, and counted late"],
)
def test_a_member_is_as_busy_as_it_counts_or_lists(told: dict[str, object], busy: int) -> None:
    now = "2026-01-05T09:00:00Z"
    data = {
        "node_id": PEER,
        "available_for_work": True,
        "max_tasks": 7,
        "last_activity": now,
        "status": "working",
        "timestamp": now,
        **told,
    }
    envelope = {"type": "availability_broadcast", "from": PEER, "timestamp": now, "data": data}
    _, message = decode(json.dumps(envelope).encode(), PEER)
    assert isinstance(message, Availability)
    members = Membership("own", Policy())
    members.availability(PEER, message, now_ms=0)
    member = members.get(PEER)
    assert member is not None
    assert member.current_tasks == busy

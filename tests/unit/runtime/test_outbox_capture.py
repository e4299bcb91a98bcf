"""A delivery reaches Hive twice over: as a status, and as a pull request that is kept (``bzzz.runtime.outbox``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.hive_world import SmallForge
from tests.support.manual_clock import ManualClock

from bzzz.core.task import Repository, TaskId
from bzzz.hive.capture_schema import PromptItem, PullItem, WorkItem
from bzzz.hive.memory import MemoryHive
from bzzz.journal.store import SqliteJournal
from bzzz.ledger.memory import MemoryLedger, MemoryStore
from bzzz.runtime.event_log import EventLog
from bzzz.runtime.outbox import ATTEMPTED, RETRY_S, Outbox
from bzzz.runtime.shells import AgentChoice, Shells

SHOP = Repository(1, "shop", "acme", "shop", "http://forge.test/acme/shop.git", "http://forge.test/api/v3")
DATA = {"pull_request": "http://forge.test/acme/shop/pull/4", "branch": "b", "commit": "c", "check": {"status": 0}}


class LabelForge(SmallForge):
    """A forge that takes labels."""

    async def add_labels(self, repository: Repository, number: int, labels: Sequence[str]) -> None:
        return None

    async def remove_label(self, repository: Repository, number: int, label: str) -> None:
        return None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(tmp_path / "journal.db")
    yield opened
    opened.close()


async def test_a_delivery_is_captured_once_with_its_pull_request_and_check_also_after_hive_was_away(
    journal: SqliteJournal,
) -> None:
    hive = MemoryHive([SHOP])
    unused = cast("Any", None)
    clock, store = ManualClock(), MemoryStore()
    store.add(SHOP.key)
    shells = Shells(
        transport=unused,
        ledger=MemoryLedger(store),
        forge=LabelForge(),
        hive=hive,
        runner=unused,
        journal=journal,
        clock=clock,
        agent=AgentChoice("walnut"),
        admit=unused,
    )
    outbox = Outbox(shells, lambda key: SHOP if key == SHOP.key else None, EventLog(lambda: 0.0, lambda _: None))
    journal.enqueue(TaskId("acme/shop", 3), 2, "delivered", DATA)
    hive.away()
    await outbox.deliver_once()
    assert (journal.outbox_length(), hive.captures) == (1, ())
    hive.back()
    clock.advance(RETRY_S)
    await outbox.deliver_once()
    (kept,) = hive.captures
    assert journal.outbox_length() == 0
    assert (kept.kind, kept.number) == ("create-pr", 3)
    item = PullItem.model_validate({**kept.body, "task_number": kept.number})
    assert (item.agent_id, item.pr_url) == ("walnut", DATA["pull_request"])
    assert kept.body["check"] == {"status": 0}


async def test_what_an_attempt_shows_of_itself_is_captured_whoever_holds_the_task_now(
    journal: SqliteJournal,
) -> None:
    hive = MemoryHive([SHOP])
    unused = cast("Any", None)
    store = MemoryStore()
    store.add(SHOP.key)
    shells = Shells(
        transport=unused,
        ledger=MemoryLedger(store),
        forge=LabelForge(),
        hive=hive,
        runner=unused,
        journal=journal,
        clock=ManualClock(),
        agent=AgentChoice("walnut"),
        admit=unused,
    )
    shown = {
        "prompt": "Mend it",
        "answer": "Mended",
        "files": {"a.py": "x"},
        "diff": "+x",
        "attempt_id": "a.1",
        "outcome": "check_failed",
        "usage": {"model": "qwen", "input_tokens": 12},
    }
    journal.enqueue(TaskId("acme/shop", 3), 1, f"{ATTEMPTED}a.1", shown)
    # Left by an earlier start, and never asked about in the ledger: there is no claim of this task at all.
    outbox = Outbox(shells, lambda _: SHOP, EventLog(lambda: 0.0, lambda _: None))
    await outbox.deliver_once()
    prompt, work = hive.captures
    assert (prompt.kind, prompt.body["prompt_content"], prompt.body["response"]) == (
        "log-prompt",
        "Mend it",
        "Mended",
    )
    assert (prompt.body["model_used"], prompt.body["usage"]["input_tokens"]) == ("qwen", 12)
    assert (work.kind, work.body["files"], work.body["content"]) == ("submit-work", {"a.py": "x"}, "+x")
    PromptItem.model_validate({**prompt.body, "task_number": 3})
    WorkItem.model_validate({**work.body, "task_number": 3})
    assert journal.outbox_length() == 0

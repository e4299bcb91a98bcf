"""The transition table: every state by every event, and the page that is drawn from it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.support.one_core import TASK

from bzzz.core.claim import HOLDING, OCCUPYING, TRANSITIONS, ClaimEvent, ClaimState, advance
from bzzz.core.diagram import mermaid, page
from bzzz.core.entry import Entry
from bzzz.errors import IllegalTransition

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ClaimState, ClaimEvent)))
def test_every_event_in_every_state_follows_the_table_or_raises_and_changes_nothing(
    state: ClaimState, event: ClaimEvent
) -> None:
    entry = Entry(TASK, state=state)
    before = repr(entry)
    if (state, event) in TRANSITIONS:
        entry.happen(event)
        assert entry.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition) as raised:
            entry.happen(event)
        assert repr(entry) == before
        assert state.name in str(raised.value)
        assert event.name in str(raised.value)


def test_every_state_can_be_reached_and_left_for_idle() -> None:
    reached = {ClaimState.IDLE}
    while True:
        further = {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached
        if not further:
            break
        reached |= further
    assert reached == set(ClaimState)
    ending = {ClaimState.IDLE}
    while True:
        further = {state for (state, _), after in TRANSITIONS.items() if after in ending} - ending
        if not further:
            break
        ending |= further
    assert ending == set(ClaimState)


def test_a_holder_never_becomes_idle_but_by_an_answer_about_the_ledger_or_the_pull_request() -> None:
    causes = {
        event for (state, event), after in TRANSITIONS.items() if state in HOLDING and after is ClaimState.IDLE
    }
    assert causes == {ClaimEvent.PULL_FOUND, ClaimEvent.SWAP_WON, ClaimEvent.SWAP_LOST, ClaimEvent.SWAP_REFUSED}


def test_work_is_only_delivered_from_a_claim_that_is_held() -> None:
    before = {state for (state, _), after in TRANSITIONS.items() if after is ClaimState.DELIVERING}
    assert before == {ClaimState.HELD}
    assert ClaimState.LOSING not in HOLDING
    assert ClaimState.LOSING in OCCUPYING


def test_advance_is_the_table() -> None:
    assert advance(ClaimState.CLAIMING, ClaimEvent.SWAP_WON) is ClaimState.HELD


def test_the_diagram_has_a_line_for_every_transition() -> None:
    drawn = mermaid()
    for (state, event), after in TRANSITIONS.items():
        line = next(line for line in drawn.splitlines() if line.startswith(f"    {state.name} --> {after.name}:"))
        assert event.value in line


def test_the_committed_page_of_claim_states_is_current() -> None:
    committed = (ROOT / "docs" / "claim-states.md").read_text(encoding="utf-8")
    assert committed == page(), "run: python scripts/claim_states.py"

"""Ranking and the choice of a watcher: the same on every node, and little moves when nodes come and go."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.ranking import Candidate, order, watcher, weight

PEERS = st.lists(st.text("abcdefgh0123", min_size=1, max_size=6), min_size=1, max_size=12, unique=True)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.text("abcdefgh", min_size=1, max_size=5),
        st.integers(0, 15),
        st.integers(0, 4),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.peer,
)


@given(CANDIDATES, st.integers())
def test_the_order_does_not_depend_on_the_order_in_which_nodes_are_known(found: list[Candidate], seed: int) -> None:
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    assert order("acme/garden#7", found) == order("acme/garden#7", shuffled)


@given(CANDIDATES)
def test_who_does_not_match_or_has_no_place_is_left_out_and_nobody_else(found: list[Candidate]) -> None:
    able = {candidate.peer for candidate in found if candidate.match > 0 and candidate.load < candidate.load_max}
    assert set(order("acme/garden#7", found)) == able


@given(CANDIDATES, st.data())
def test_a_node_that_goes_changes_nobody_elses_order(found: list[Candidate], data: st.DataObject) -> None:
    ranked = list(order("acme/garden#7", found))
    if ranked:
        gone = data.draw(st.sampled_from(ranked))
        left = [candidate for candidate in found if candidate.peer != gone]
        assert list(order("acme/garden#7", left)) == [peer for peer in ranked if peer != gone]


def test_who_failed_goes_last_and_the_better_match_first() -> None:
    found = [
        Candidate("failed", 15, 0, 1, failed=True),
        Candidate("able", 1, 0, 1),
        Candidate("suited", 9, 0, 1),
        Candidate("loaded", 9, 1, 2),
    ]
    assert list(order("t", found)) == ["suited", "loaded", "able", "failed"]


@given(PEERS)
def test_a_repository_moves_only_when_its_own_watcher_goes(peers: list[str]) -> None:
    chosen = watcher("acme/garden", peers)
    assert chosen in peers
    for gone in peers:
        left = [peer for peer in peers if peer != gone]
        again = watcher("acme/garden", left)
        assert again == chosen if gone != chosen else again != chosen


def test_nobody_watches_without_nodes() -> None:
    assert watcher("acme/garden", []) is None


def test_tasks_are_spread_over_equal_nodes() -> None:
    firsts = [order(f"acme/garden#{n}", [Candidate(f"p{k}", 1, 0, 1) for k in range(5)])[0] for n in range(500)]
    assert all(60 <= firsts.count(f"p{k}") <= 140 for k in range(5))


def test_a_weight_is_the_same_in_every_process() -> None:
    assert weight("acme/garden#7", "peer-1") == 0xB92C5D508401FAF5

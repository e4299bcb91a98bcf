"""Lazy push: copies stop, nothing is lost, and all that is remembered is bounded. In virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from bzzz.mesh.lazy_push import (
    ASK_AGAIN_S,
    LAZY_S,
    OWED_IDS_MAX,
    PATIENCE_S,
    PATIENCE_S_MAX,
    SETTLING_S,
    TELL_PEERS,
    TELL_S,
    TELL_S_MAX,
    TELLERS_MAX,
    LazyPush,
    Missing,
)

HOP_S = 0.01
TICK_S = 0.05
TELLING_S = TELL_S * 1.5 * 2 + PATIENCE_S + 2 * TICK_S
"""The longest from a message to the question for it."""


def lazy(**bounds: int) -> LazyPush:
    return LazyPush(lambda: 0.0, **bounds)


def test_who_brings_a_copy_is_told_ids_until_the_mark_ends() -> None:
    push = lazy()
    assert not push.is_lazy("x", b"a", 0.0)
    push.duplicate("x", b"a", 0.0)
    assert push.is_lazy("x", b"a", LAZY_S - 0.1)
    assert not push.is_lazy("x", b"b", 0.0), "a mark is of one author"
    assert not push.is_lazy("y", b"a", 0.0), "a mark is of one peer"
    assert not push.is_lazy("x", b"a", LAZY_S)
    assert len(push) == 0


def test_who_asks_gets_that_authors_messages_at_once_again() -> None:
    push = lazy()
    push.duplicate("x", b"a", 0.0)
    push.duplicate("x", b"b", 0.0)
    push.wanted("x", b"a")
    push.wanted("never seen", b"a")
    assert (push.is_lazy("x", b"a", 1.0), push.is_lazy("x", b"b", 1.0), len(push)) == (False, True, 1)


def test_copies_on_their_way_keep_a_mark_and_later_ones_have_it_proved_anew() -> None:
    push = lazy()
    push.duplicate("x", b"a", 0.0)
    push.duplicate("x", b"a", SETTLING_S - 0.1)
    assert push.is_lazy("x", b"a", SETTLING_S)
    push.duplicate("x", b"a", SETTLING_S)
    assert not push.is_lazy("x", b"a", SETTLING_S), "it is sent one, to see by it"
    push.duplicate("x", b"a", SETTLING_S + 0.1)
    assert push.is_lazy("x", b"a", LAZY_S + SETTLING_S)


def test_marks_beyond_the_bound_are_counted_and_those_that_ended_make_room() -> None:
    push = lazy(edges_max=2)
    for author in (b"a", b"b", b"c"):
        push.duplicate("x", author, 0.0)
    assert (len(push), push.overflowed, push.is_lazy("x", b"c", 0.0)) == (2, 1, False)
    push.duplicate("x", b"c", LAZY_S)
    assert (len(push), push.overflowed, push.is_lazy("x", b"c", LAZY_S)) == (1, 1, True)


def test_ids_are_collected_and_told_once() -> None:
    push = lazy()
    assert push.owe("x", "t", b"1", 0.0)
    assert push.owe("x", "t", b"2", TELL_S / 2)
    assert push.owe("x", "u", b"3", TELL_S / 2)
    assert push.due(TELL_S - 0.01) == {}
    assert push.due(TELL_S) == {"x": {"t": [b"1", b"2"], "u": [b"3"]}}
    assert not push.is_owing
    assert push.due(TELL_S * 2) == {}


def test_a_node_with_many_neighbours_tells_each_less_often_but_none_too_late() -> None:
    push = lazy()
    for peer in range(20):
        push.owe(peer, "t", b"1", 0.0)
    assert len(push.due(TELL_S)) == TELL_PEERS + 1
    assert len(push.due(TELL_S_MAX)) == 20 - TELL_PEERS - 1


def test_what_a_peer_says_it_has_is_not_told_to_it() -> None:
    push = lazy()
    push.owe("x", "t", b"1", 0.0)
    push.owe("x", "t", b"2", 0.0)
    push.told("x", [b"1", b"other"])
    push.told("y", [b"2"])
    assert push.due(TELL_S) == {"x": {"t": [b"2"]}}
    push.owe("x", "t", b"3", 1.0)
    push.told("x", [b"3"])
    assert not push.is_owing


def test_ids_beyond_the_bound_are_to_be_sent_whole_and_are_counted() -> None:
    push = lazy(ids_max=2)
    owed = [push.owe("x", "t", bytes([number]), 0.0) for number in range(3)]
    assert (owed, push.overflowed) == ([True, True, False], 1)
    assert OWED_IDS_MAX < 5000, "go-libp2p takes no more in a second"


def test_nothing_holds_of_a_peer_that_left() -> None:
    push = lazy()
    push.duplicate("x", b"a", 0.0)
    push.duplicate("y", b"x", 0.0)
    push.duplicate("y", b"a", 0.0)
    push.owe("x", "t", b"1", 0.0)
    push.forget("x", b"x")
    assert [push.is_lazy(*edge, 0.0) for edge in (("x", b"a"), ("y", b"x"), ("y", b"a"))] == [False, False, True]
    assert (len(push), push.is_owing) == (1, False)


def test_one_teller_is_asked_at_a_time_and_then_the_next() -> None:
    missing = Missing()
    missing.heard("x", [b"1", b"2"], 0.0)
    missing.heard("y", [b"1", b"3"], 0.0)
    missing.came(b"2")
    assert missing.due(PATIENCE_S - 0.01) == {}, "it may be on its way"
    assert missing.due(PATIENCE_S) == {"x": [b"1"], "y": [b"3"]}
    assert missing.due(PATIENCE_S + ASK_AGAIN_S - 0.01) == {}
    assert missing.due(PATIENCE_S + ASK_AGAIN_S) == {"y": [b"1"]}
    assert missing.due(PATIENCE_S + ASK_AGAIN_S * 3) == {}
    assert len(missing) == 0, "where nobody else told of it, it is forgotten"
    missing.heard("z", [b"1"], 9.0)
    assert missing.due(10.0) == {"z": [b"1"]}


def test_who_asked_too_early_waits_longer_and_who_asked_well_waits_less() -> None:
    missing = Missing()

    def ask(number: int, copies: int) -> None:
        key, now_s = number.to_bytes(2), number * 10.0
        missing.heard("x", [key], now_s)
        missing.due(now_s + 5)
        missing.came(key)
        for _ in range(copies):
            missing.duplicate(key)

    for number in range(10):
        ask(number, copies=3)
    assert missing.patience_s == PATIENCE_S_MAX
    for number in range(10, 60):
        ask(number, copies=0)
    assert missing.patience_s == PATIENCE_S
    missing.duplicate(b"never asked for")
    assert missing.patience_s == PATIENCE_S


def test_questions_and_tellers_are_bounded() -> None:
    missing = Missing(messages_max=2)
    missing.heard("x", [b"1", b"2", b"3"], 0.0)
    assert (len(missing), missing.overflowed) == (2, 1)
    for number in range(50):
        missing.heard(number, [b"1"], 0.1)
    asked = [missing.due(1 + ASK_AGAIN_S * round_) for round_ in range(60)]
    assert sum(b"1" in keys for answer in asked for keys in answer.values()) == TELLERS_MAX
    assert len(missing) == 0
    for number in range(5):
        missing.heard("x", [bytes([number])], 100.0 + number)
        missing.due(100.9 + number)
        missing.came(bytes([number]))
    assert len(missing._asked) == 2


class Net:
    """Nodes that forward as the router does, with all links alike, in virtual time."""

    def __init__(self, links: set[tuple[int, int]], seed: int) -> None:
        rng = random.Random(seed)
        ends = {end for link in links for end in link}
        self.near: dict[int, set[int]] = {end: {a + b - end for a, b in links if end in (a, b)} for end in ends}
        self.push = {end: LazyPush(rng.random) for end in ends}
        self.missing = {end: Missing() for end in ends}
        self.have: dict[int, dict[bytes, float]] = {end: {} for end in ends}
        self.copies: Counter[bytes] = Counter()
        self.now = 0.0
        self._order = itertools.count()
        self._sent: list[tuple[float, int, int, int, str, list[bytes]]] = []

    def publish(self, author: int, key: bytes) -> None:
        self.have[author][key] = self.now
        for peer in self.near[author]:
            self._send(author, peer, "whole", [key])

    def run(self, until: float) -> None:
        while self.now < until:
            self.now = round(self.now + HOP_S, 6)
            while self._sent and self._sent[0][0] <= self.now:
                _, _, sender, receiver, kind, keys = heapq.heappop(self._sent)
                if receiver in self.near.get(sender, ()):
                    getattr(self, f"_{kind}")(sender, receiver, keys)
            for node, push in self.push.items():
                for peer, topics in push.due(self.now).items():
                    assert isinstance(peer, int)
                    self._send(node, peer, "ids", topics["t"])
                for peer, keys in self.missing[node].due(self.now).items():
                    assert isinstance(peer, int)
                    self._send(node, peer, "wish", keys)

    def cut(self, one: int, other: int) -> None:
        for node, peer in ((one, other), (other, one)):
            self.near[node].discard(peer)
            self.push[node].forget(peer, author_of(peer))

    def _send(self, sender: int, receiver: int, kind: str, keys: list[bytes]) -> None:
        heapq.heappush(self._sent, (self.now + HOP_S, next(self._order), sender, receiver, kind, keys))

    def _whole(self, sender: int, node: int, keys: list[bytes]) -> None:
        for key in keys:
            author, push = key[:1], self.push[node]
            if key in self.have[node]:
                self.copies[key] += 1
                self.missing[node].duplicate(key)
                if author != author_of(node):
                    push.duplicate(sender, author, self.now)
                continue
            self.have[node][key] = self.now
            self.missing[node].came(key)
            for peer in self.near[node] - {sender}:
                if author_of(peer) == author:
                    continue
                if not push.is_lazy(peer, author, self.now) or not push.owe(peer, "t", key, self.now):
                    self._send(node, peer, "whole", [key])

    def _ids(self, sender: int, node: int, keys: list[bytes]) -> None:
        self.push[node].told(sender, keys)
        unseen = [key for key in keys if key not in self.have[node]]
        self.missing[node].heard(sender, unseen, self.now)

    def _wish(self, sender: int, node: int, keys: list[bytes]) -> None:
        for key in keys:
            if key in self.have[node]:
                self.push[node].wanted(sender, key[:1])
                self._send(node, sender, "whole", [key])


def author_of(node: int) -> bytes:
    return bytes([node])


def full(nodes: int) -> set[tuple[int, int]]:
    return set(itertools.combinations(range(nodes), 2))


def test_on_a_full_mesh_copies_end_after_the_first_messages() -> None:
    net = Net(full(5), seed=1)
    keys = [author_of(node) + bytes([number]) for number in range(100) for node in range(5)]
    for key in keys:
        net.publish(key[0], key)
        net.run(net.now + HOP_S)
    net.run(net.now + 1)
    assert all(len(have) == len(keys) for have in net.have.values())
    early = sum(net.copies[key] for key in keys[:25])
    late = sum(net.copies[key] for key in keys[50:])
    assert early >= 5 * 4, "at first they are sent to all"
    assert late == 0


def test_marks_that_end_one_after_another_bring_few_copies() -> None:
    """Two minutes, in which each mark ends about three times: fewer than one copy in twenty deliveries."""
    net = Net(full(4), seed=2)
    keys = [author_of(number % 4) + number.to_bytes(2) for number in range(1200)]
    for key in keys:
        net.publish(key[0], key)
        net.run(net.now + 0.1)
    net.run(net.now + 1)
    assert all(len(have) == len(keys) for have in net.have.values())
    assert net.copies.total() < len(keys) * 3 / 20


def test_the_hub_of_a_star_forwards_everything_at_once() -> None:
    net = Net({(0, leaf) for leaf in range(1, 6)}, seed=3)
    for number in range(50):
        key = author_of(1 + number % 5) + bytes([number])
        net.publish(key[0], key)
        net.run(net.now + 2.5 * HOP_S)
        assert all(key in have for have in net.have.values())
    assert net.copies.total() == 0


def test_where_the_only_link_to_an_author_is_left_others_are_served_within_one_telling() -> None:
    net = Net(full(4), seed=4)
    for number in range(20):
        net.publish(0, author_of(0) + bytes([number]))
        net.run(net.now + 0.1)
    net.cut(0, 2)
    net.cut(0, 3)
    for number in range(20, 40):
        key = author_of(0) + bytes([number])
        published = net.now
        net.publish(0, key)
        net.run(published + (TELLING_S + 5 * HOP_S if number == 20 else 1.0))
        assert all(key in have for have in net.have.values()), number
    assert max(have[key] for have in net.have.values()) - published < TELL_S, "by now it comes at once"


@st.composite
def graphs(draw: st.DrawFn) -> set[tuple[int, int]]:
    """Any connected graph of up to eight nodes."""
    nodes = draw(st.integers(2, 8))
    tree = {(draw(st.integers(0, node - 1)), node) for node in range(1, nodes)}
    return tree | draw(st.sets(st.sampled_from(sorted(full(nodes)))))


@settings(deadline=None, max_examples=60)
@given(graphs(), st.data())
def test_every_node_gets_every_message_whatever_is_marked_or_forgotten(
    links: set[tuple[int, int]], data: st.DataObject
) -> None:
    """Marks are set where they are wrong and lost where they are right, in between messages."""
    net = Net(links, seed=5)
    nodes = sorted(net.near)
    edges = sorted((node, peer) for node in nodes for peer in net.near[node])
    for number in range(6):
        for node, peer in data.draw(st.lists(st.sampled_from(edges), max_size=20)):
            for author in nodes:
                net.push[node].duplicate(peer, author_of(author), net.now)
        for node, peer in data.draw(st.lists(st.sampled_from(edges), max_size=5)):
            for author in nodes:
                net.push[node].wanted(peer, author_of(author))
        author, pause_s = data.draw(st.sampled_from(nodes)), data.draw(st.sampled_from([0.0, 0.05, 1.0]))
        net.publish(author, author_of(author) + bytes([number]))
        net.run(net.now + pause_s)
    # A hop is at worst a telling, a question and an answer, after a patience that has grown.
    net.run(net.now + len(nodes) * (TELLING_S + PATIENCE_S_MAX + 3 * HOP_S))
    assert {node: len(have) for node, have in net.have.items()} == dict.fromkeys(nodes, 6)

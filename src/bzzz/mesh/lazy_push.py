"""Which peers get whose messages at once, and which are only told that they are there. Pure; time is given.

Gossipsub hands every message to every peer of a topic's mesh: of five nodes that are all connected, each gets a
message once from its author and then up to three times more. Here is Plumtree (Leitao, Pereira, Rodrigues,
"Epidemic Broadcast Trees", SRDS 2007) without messages of its own. A copy that comes again shows that its bringer
has that author's messages from somebody else; so for a while the bringer is told their ids only, several at a time,
and asks for what it misses. Who asks gets them at once again. Nothing is believed for long: a mark is forgotten
after some time, and proved anew by the next copy that comes twice.

A mark only ever delays a message by one telling and one question. So a wrong one costs time and never a message,
and a peer that knows nothing of marks is served as before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

LAZY_S = 30.0
"""How long a mark lives, and up to half as long again, so that those of one message do not all end at once."""
SETTLING_S = 8.0
"""Copies that come so soon after a mark were on their way before the bringer knew, where nodes are far behind."""
TELL_S = 0.2
"""Ids wait so long for others, and up to half as long again. go-libp2p and js-libp2p take 10 tellings a second."""
TELL_PEERS = 4
"""Where more peers are owed ids, each is told as much less often: telling must not cost more than it saves."""
TELL_S_MAX = 0.8
EDGES_MAX = 16_384
OWED_IDS_MAX = 4_000
"""Ids that wait for one peer; go-libp2p and js-libp2p take 5,000 a second."""
PATIENCE_S = 0.1
"""From hearing of a message to asking for it, at least; at most ``PATIENCE_S_MAX``. Messages are kept for 5 s."""
PATIENCE_S_MAX = 2.0
PATIENCE_SHRINKS = 0.9
ASK_AGAIN_S = 0.5
MISSING_MAX = 16_384
TELLERS_MAX = 8


@dataclass(slots=True)
class _Owed:
    """Ids that a peer is to be told, by id to topic."""

    due_s: float
    topics: dict[bytes, str] = field(default_factory=dict)


class LazyPush:
    """Marks of edges, from a peer and an author to when they end, and the ids that are owed over them.

    Args:
        draw: a number from 0 to 1, another each time.
        edges_max: marks altogether; an edge for which there is no room stays as it is, and that is counted.
        ids_max: waiting for one peer; what is beyond is to be sent whole, and that is counted.
    """

    def __init__(
        self, draw: Callable[[], float], *, edges_max: int = EDGES_MAX, ids_max: int = OWED_IDS_MAX
    ) -> None:
        self._draw = draw
        self._edges_max = edges_max
        self._ids_max = ids_max
        self._marks: dict[Hashable, dict[bytes, tuple[float, float]]] = {}
        self._edges = 0
        self._owed: dict[Hashable, _Owed] = {}
        self.overflowed = 0

    def __len__(self) -> int:
        return self._edges

    @property
    def is_owing(self) -> bool:
        """Whether anybody is to be told anything."""
        return bool(self._owed)

    def is_lazy(self, peer: Hashable, author: bytes, now_s: float) -> bool:
        """Whether ``peer`` is only told of messages by ``author``."""
        mark = self._marks.get(peer, {}).get(author)
        if mark is not None and now_s >= mark[1]:
            self.wanted(peer, author)
            return False
        return mark is not None

    def duplicate(self, peer: Hashable, author: bytes, now_s: float) -> None:
        """A peer brought a message that was here already: it does not depend on this node for that author.

        A peer that goes on bringing copies has forgotten its own mark, or never makes any. It is sent one message,
        by which it can see that this node does not depend on it either, and then marked anew.
        """
        if self.is_lazy(peer, author, now_s):
            since_s = self._marks[peer][author][0]
            if now_s - since_s >= SETTLING_S:
                self.wanted(peer, author)
            return
        if self._edges >= self._edges_max:
            self._sweep(now_s)
            if self._edges >= self._edges_max:
                self.overflowed += 1
                return
        self._marks.setdefault(peer, {})[author] = (now_s, now_s + LAZY_S * (1 + self._draw() / 2))
        self._edges += 1

    def wanted(self, peer: Hashable, author: bytes) -> None:
        """A peer asked for a message by this author: it is to get them at once again."""
        marks = self._marks.get(peer, {})
        if marks.pop(author, None) is not None:
            self._edges -= 1
            if not marks:
                del self._marks[peer]

    def owe(self, peer: Hashable, topic: str, message_id: bytes, now_s: float) -> bool:
        """Have a peer told of a message soon; where that is not done, it is to be sent."""
        owed = self._owed.get(peer)
        if owed is None:
            wait_s = min(TELL_S_MAX, TELL_S * max(1.0, len(self._owed) / TELL_PEERS))
            owed = self._owed[peer] = _Owed(now_s + wait_s * (1 + self._draw() / 2))
        elif len(owed.topics) >= self._ids_max:
            self.overflowed += 1
            return False
        owed.topics[message_id] = topic
        return True

    def told(self, peer: Hashable, message_ids: Iterable[bytes]) -> None:
        """A peer says itself that it has these; so it need not be told."""
        owed = self._owed.get(peer)
        if owed is None:
            return
        for message_id in message_ids:
            owed.topics.pop(message_id, None)
        if not owed.topics:
            del self._owed[peer]

    def due(self, now_s: float) -> dict[Hashable, dict[str, list[bytes]]]:
        """Take what is to be told now: peers, to topics, to ids."""
        telling: dict[Hashable, dict[str, list[bytes]]] = {}
        for peer in [peer for peer, owed in self._owed.items() if owed.due_s <= now_s]:
            topics = telling[peer] = {}
            for message_id, topic in self._owed.pop(peer).topics.items():
                topics.setdefault(topic, []).append(message_id)
        return telling

    def forget(self, peer: Hashable, author: bytes) -> None:
        """A peer left, or came anew: nothing holds of it any more, as a bringer or as an author."""
        self._edges -= len(self._marks.pop(peer, {}))
        self._owed.pop(peer, None)
        for other in list(self._marks):
            self.wanted(other, author)

    def _sweep(self, now_s: float) -> None:
        for peer, marks in list(self._marks.items()):
            for author in list(marks):
                self.is_lazy(peer, author, now_s)


@dataclass(slots=True)
class _Question:
    """A message that is not here, when to ask for it, and whom."""

    ask_s: float
    tellers: list[Hashable] = field(default_factory=list)


class Missing:
    """Messages that this node was told of and does not have: asked for of one teller after another, after a while.

    All neighbours tell of the same message within a moment; asking all of them would bring as many copies. And what
    is told of is mostly on its way. Where nodes have more to do than they can, it is late; asking at once would
    give them more. So the wait before the first question doubles with each message that was asked for and came
    twice, and shrinks with each that was asked for and came once.

    Args:
        messages_max: what is beyond is not asked for before it is told of again, and that is counted.
    """

    def __init__(self, messages_max: int = MISSING_MAX) -> None:
        self._messages_max = messages_max
        self._questions: dict[bytes, _Question] = {}
        # Asked for, and whether it has come.
        self._asked: OrderedDict[bytes, bool] = OrderedDict()
        self.patience_s = PATIENCE_S
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._questions)

    def heard(self, peer: Hashable, message_ids: Iterable[bytes], now_s: float) -> None:
        """A peer has these, which are not here."""
        for message_id in message_ids:
            question = self._questions.get(message_id)
            if question is None:
                if len(self._questions) >= self._messages_max:
                    self.overflowed += 1
                    continue
                question = self._questions[message_id] = _Question(now_s + self.patience_s)
            if len(question.tellers) < TELLERS_MAX and peer not in question.tellers:
                question.tellers.append(peer)

    def came(self, message_id: bytes) -> None:
        """A message is here now."""
        self._questions.pop(message_id, None)
        if message_id in self._asked:
            self._asked[message_id] = True
            self.patience_s = max(PATIENCE_S, self.patience_s * PATIENCE_SHRINKS)

    def duplicate(self, message_id: bytes) -> None:
        """A message came again; if it was asked for, that was too early."""
        if self._asked.pop(message_id, False):
            self.patience_s = min(PATIENCE_S_MAX, self.patience_s * 2)

    def due(self, now_s: float) -> dict[Hashable, list[bytes]]:
        """What to ask for now, by whom to ask; forgotten where nobody else told of it."""
        asking: dict[Hashable, list[bytes]] = {}
        for message_id in [key for key, question in self._questions.items() if question.ask_s <= now_s]:
            question = self._questions[message_id]
            if not question.tellers:
                del self._questions[message_id]
                continue
            asking.setdefault(question.tellers.pop(0), []).append(message_id)
            question.ask_s = now_s + ASK_AGAIN_S
            self._asked[message_id] = False
            if len(self._asked) > self._messages_max:
                self._asked.popitem(last=False)
        return asking

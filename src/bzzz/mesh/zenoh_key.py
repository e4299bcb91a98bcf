"""Where the messages and presences of one mesh live in Zenoh's space of keys; pure.

``bzzz/<mesh>/topic/<topic>`` holds messages, ``bzzz/<mesh>/node/<peer>/...`` presences, and at
``bzzz/<mesh>/request/<peer>`` that peer is asked. Mesh names and topics are
percent-encoded into one chunk each, as a key may not hold ``* $ ? #`` or empty chunks.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

TOPIC_CHARS_MAX = 512


class KeySpace:
    """The keys of one mesh."""

    def __init__(self, mesh_name: str) -> None:
        root = f"bzzz/{quote(mesh_name, safe='')}"
        self._topics = f"{root}/topic/"
        self.all_topics = f"{self._topics}*"
        self.nodes = f"{root}/node/"
        self.all_nodes = f"{self.nodes}**"
        self._requests = f"{root}/request/"

    def of_topic(self, topic: str) -> str:
        """The key of a topic's messages.

        Raises:
            ValueError: it is empty or too long.
        """
        if not 0 < len(topic) <= TOPIC_CHARS_MAX:
            raise ValueError(f"a topic has 1 to {TOPIC_CHARS_MAX} characters, {topic[:40]!r} has {len(topic)}")
        return self._topics + quote(topic, safe="")

    def of_requests(self, peer: str) -> str:
        """The key at which a peer is asked."""
        return self._requests + quote(peer, safe="")

    def topic_of(self, key: str) -> str:
        """The topic of a message's key, which is known to be of ``all_topics``."""
        return unquote(key.removeprefix(self._topics))

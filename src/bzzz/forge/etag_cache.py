"""Remembered answers and their ETags, bounded by entries and bytes, the longest unused going first. Pure.

An ETag belongs to a token and to a page (GitHub answers another token's ETag with 200), so both are the
key; the token as a digest. What a 304 stands for is the body kept here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from bzzz.forge.answer import Response

Key = tuple[str, str]


@dataclass(slots=True)
class EtagCache:
    """Answers by token and address; ``evicted`` counts what made room."""

    entries_max: int = 512
    bytes_max: int = 32 * 1024 * 1024
    size_bytes: int = 0
    evicted: int = 0
    _kept: OrderedDict[Key, tuple[str, Response]] = field(default_factory=OrderedDict, repr=False)

    @staticmethod
    def key(token: str | None, url: str) -> Key:
        """The key of one page for one token."""
        return hashlib.sha256((token or "").encode()).hexdigest(), url

    def get(self, key: Key) -> tuple[str, Response] | None:
        """The ETag and the answer kept for a page."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Key, response: Response) -> None:
        """Keep an answer that carries an ETag, in place of the one before it."""
        self.drop(key)
        etag = response.headers.get("etag")
        if not etag or len(response.body) > self.bytes_max:
            return
        self._kept[key] = (etag, response)
        self.size_bytes += len(response.body)
        while len(self._kept) > self.entries_max or self.size_bytes > self.bytes_max:
            _, (_, old) = self._kept.popitem(last=False)
            self.size_bytes -= len(old.body)
            self.evicted += 1

    def drop(self, key: Key) -> None:
        """Forget a page."""
        old = self._kept.pop(key, None)
        if old is not None:
            self.size_bytes -= len(old[1].body)

"""Who tries first for a task, and who watches a repository: the same order on every node, without a talk.

Both rest on rendezvous hashing (Thaler and Ravishankar, 1998): each node hashes (subject, node) for all
nodes and sorts, so a node that goes or comes moves only what was its own. Views may differ for a moment;
the ledger makes that harmless, and a wrong guess costs one refused write.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """What ranking looks at of one node: everything here is gossiped, nothing is private."""

    peer: str
    match: int
    load: int
    load_max: int
    failed: bool = False


@functools.lru_cache(maxsize=65_536)
def weight(subject: str, peer: str) -> int:
    """The rendezvous weight of a node for a subject: 64 bits of a hash, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(f"{subject}\0{peer}".encode(), digest_size=8).digest(), "big")


def order(subject: str, candidates: Iterable[Candidate]) -> Sequence[str]:
    """Peers in the order in which they should try; who must not or cannot is left out.

    Who failed at this task goes last; then the best match, the least loaded, the rendezvous hash.
    """
    able = [c for c in candidates if c.match > 0 and c.load < c.load_max]
    able.sort(key=lambda c: (c.failed, -c.match, c.load * 8 // c.load_max, -weight(subject, c.peer), c.peer))
    return [c.peer for c in able]


def watcher(repository: str, peers: Iterable[str]) -> str | None:
    """The one node that reads this repository's issues for all; ``None`` without nodes."""
    return max(peers, key=lambda peer: (weight(f"watch\0{repository}", peer), peer), default=None)

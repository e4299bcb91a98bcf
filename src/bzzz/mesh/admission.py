"""Who is of the mesh: the proof of its secret, the seal on every message, and the list of who may. Pure.

The proof is a challenge and response on a connection whose two peer ids are proved already (by Noise)::

    dialler                                     listener
       nonce D                              ->
                                            <-  nonce L, tag(listener, L's id, D's id, nonce L, nonce D)
       tag(dialler, D's id, L's id, nonce D, nonce L)  ->
                                            <-  admitted

Each tag is HMAC-SHA256 under a key made from the secret. It names the role, so that none can be sent back; both
ids, so that none can be carried to another connection; both nonces, so that none can be used again. Either side
answers a wrong tag by saying so, and ends the connection.

A message carries a seal, HMAC-SHA256 over author, number, topic and payload, cut to 16 bytes: so that what was
written by somebody who was never admitted is worth nothing, whoever forwards it. That author wrote it is shown
by the signature, which the seal does not replace: all who know the secret can make seals.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Collection

from bzzz.mesh.mesh_secret import MeshSecret

ADMISSION_PROTOCOL = "/bzzz/admission/1.0.0"
NONCE_BYTES = 32
TAG_BYTES = 32
SEAL_BYTES = 16
GOOD = b"\x01"
WRONG = b"\x00"
BAN_FIRST_S = 60.0
BAN_MAX_S = 3600.0
BANS_MAX = 4_096

Pair = tuple[bytes, bytes]


class Prover:
    """Makes and checks the tags of the proof.

    Args:
        secret: the mesh's.
    """

    def __init__(self, secret: MeshSecret) -> None:
        self._key = secret.key("proof")

    def tag(self, role: str, ids: Pair, nonces: Pair) -> bytes:
        """The answer of who is in ``role``, ``dialler`` or ``listener``; own id and nonce come first."""
        return hmac.digest(self._key, _joined(role.encode(), *ids, *nonces), "sha256")

    def is_tag(self, tag: bytes, role: str, ids: Pair, nonces: Pair) -> bool:
        """Whether ``tag`` is the one that who is in ``role`` would have made."""
        return hmac.compare_digest(tag, self.tag(role, ids, nonces))


class Sealer:
    """Seals messages and opens them.

    Args:
        secret: the mesh's.
    """

    def __init__(self, secret: MeshSecret) -> None:
        self._key = secret.key("message")

    def seal(self, author: bytes, number: bytes, topic: str, payload: bytes) -> bytes:
        """``payload`` with its seal before it."""
        return self._seal(author, number, topic, payload) + payload

    def open(self, author: bytes, number: bytes, topic: str, sealed: bytes) -> bytes | None:
        """The payload, or ``None`` if the seal is not of this mesh."""
        seal, payload = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
        return payload if hmac.compare_digest(seal, self._seal(author, number, topic, payload)) else None

    def _seal(self, author: bytes, number: bytes, topic: str, payload: bytes) -> bytes:
        return hmac.digest(self._key, _joined(author, number, topic.encode()) + payload, "sha256")[:SEAL_BYTES]


class Gate:
    """Who may not be connected, and whose messages are not taken, whatever they prove.

    Args:
        allowed: the only peers that may be of this mesh; all if empty.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = frozenset(allowed)
        self.revoked: frozenset[str] = frozenset()
        self._bans: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def bans(self) -> int:
        """How many bans are remembered."""
        return len(self._bans)

    def refusal(self, peer: str, now_s: float) -> str | None:
        """Why ``peer`` may not be connected, for a person, if it may not."""
        refusal = self.author_refusal(peer)
        if refusal is None and self._bans.get(peer, (0.0, 0.0))[0] > now_s:
            refusal = "it was disconnected for what it sent, and is not let in again yet"
        return refusal

    def author_refusal(self, peer: str) -> str | None:
        """Why the messages that ``peer`` wrote are not taken, if they are not."""
        if peer in self.revoked:
            return "it was revoked here"
        if self._allowed and peer not in self._allowed:
            return "it is not in mesh.allowed_peers"
        return None

    def ban(self, peer: str, now_s: float) -> float:
        """Keep ``peer`` out for some time, each time longer; gives the seconds."""
        _, last_s = self._bans.pop(peer, (0.0, 0.0))
        for_s = min(BAN_MAX_S, last_s * 2 or BAN_FIRST_S)
        self._bans[peer] = (now_s + for_s, for_s)
        if len(self._bans) > BANS_MAX:
            self._bans.popitem(last=False)
        return for_s


def _joined(*parts: bytes) -> bytes:
    """The parts with their lengths, so that no two lists of parts look the same."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

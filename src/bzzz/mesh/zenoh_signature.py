"""What makes a message on Zenoh its author's: an Ed25519 signature by the node's persistent identity; pure.

Zenoh knows connections, not authors, and routers forward. So each message carries its author's public key and a
signature over the purpose, the mesh, the topic and the payload, each with its length, so that a signature for one
purpose, mesh or topic is worth nothing for another (RFC 8032; the purpose separates domains). Whether a message is
old or was sent twice is judged above, by its incarnation and sequence, for any engine.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bzzz.errors import PeerError
from bzzz.mesh.identity import Identity, peer_id_of

MESSAGE = b"bzzz mesh message v1"
PRESENCE = b"bzzz mesh presence v1"
REQUEST = b"bzzz mesh request v1"
ANSWER = b"bzzz mesh answer v1"
AUTHORS_CACHED_MAX = 1024
_PUBLIC_BYTES = 32
SEAL_BYTES = _PUBLIC_BYTES + 64


class Signer:
    """Signs as one identity."""

    def __init__(self, identity: Identity) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(identity.secret)
        self._public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def seal(self, purpose: bytes, *parts: bytes) -> bytes:
        """The public key and the signature over purpose and parts, ``SEAL_BYTES`` in all."""
        return self._public + self._key.sign(_signed(purpose, parts))


def author_of(seal: bytes | None, purpose: bytes, *parts: bytes) -> str:
    """The peer id of whoever signed exactly this.

    Raises:
        PeerError: ``unsigned`` (no seal), ``malformed`` (not of its form) or ``signature`` (it does not fit).
    """
    if not seal:
        raise PeerError("unsigned")
    if len(seal) != SEAL_BYTES:
        raise PeerError("malformed", f"a seal of {len(seal)} bytes")
    public = seal[:_PUBLIC_BYTES]
    try:
        key, peer = _author(public)
        key.verify(seal[_PUBLIC_BYTES:], _signed(purpose, parts))
    except (InvalidSignature, ValueError):
        raise PeerError("signature", f"by the key {public.hex()}") from None
    return peer


@lru_cache(AUTHORS_CACHED_MAX)
def _author(public: bytes) -> tuple[Ed25519PublicKey, str]:
    return Ed25519PublicKey.from_public_bytes(public), peer_id_of(public)


def _signed(purpose: bytes, parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in (purpose, *parts))

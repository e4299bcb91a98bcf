"""A node's identity on the mesh: an Ed25519 key in a file that only its owner can read.

The peer id is libp2p's: the base58 form of the identity multihash of the protobuf-encoded public key
(https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md). It is computed here, so that reading who
one is does not load libp2p. The file is PKCS #8 PEM, as ``openssl pkey`` reads and writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import base58
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from bzzz.errors import TransportError
from bzzz.mesh.private_file import read_private, write_private

# Multihash "identity" (0x00) of 36 bytes: protobuf field 1 (key type) = 1 (Ed25519), field 2 = 32 bytes.
_PEER_ID_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer id and the 32 secret bytes behind it, which are never shown."""

    peer_id: str
    secret: bytes = field(repr=False)


def identity_from_secret(secret: bytes) -> Identity:
    """The identity of 32 secret bytes."""
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key()
    return Identity(peer_id_of(public.public_bytes(Encoding.Raw, PublicFormat.Raw)), secret)


def peer_id_of(public: bytes) -> str:
    """The peer id that belongs to the 32 bytes of an Ed25519 public key."""
    return base58.b58encode(_PEER_ID_PREFIX + public).decode()


def load_identity(path: Path) -> Identity:
    """Read an identity; make a new one where there is no file yet.

    Two processes that start at once with the same missing file end up with the same identity.

    Raises:
        TransportError: the file cannot be read or written, others may read it, or it holds no Ed25519 key.
    """
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise TransportError(
            f"identity file {path}: {error.strerror or error}; give a path this user can write"
        ) from None


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, pem)


def _read(path: Path) -> Identity:
    pem = read_private(path, "identity file")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise TransportError(
            f"identity file {path}: this is no unencrypted Ed25519 key in PEM form; restore it, "
            "or remove it to get a new identity"
        )
    return identity_from_secret(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))

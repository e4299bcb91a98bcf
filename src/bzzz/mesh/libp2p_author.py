"""What an author's id says, remembered: its text and its key take longer to work out than all else of a message."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX, signature_validator

AUTHORS_MAX = 512
"""Far more than write at one time. A key takes about a kilobyte, and of who is gone it stays till others come."""
AUTHOR_BYTES_MAX = 64
"""A peer id has 34 to 42 bytes. The time to write one as text grows with the square of its length."""
_PREFIX = PUBSUB_SIGNING_PREFIX.encode()


@lru_cache(AUTHORS_MAX)
def author_name(author: bytes) -> str:
    """A peer id as text; of at most ``AUTHOR_BYTES_MAX`` bytes."""
    return str(ID(author))


@lru_cache(AUTHORS_MAX)
def _key_in(author: bytes) -> Any:
    """The key that an id holds, where it holds one and is written as such ids are."""
    key = ID(author).extract_public_key()
    return key if key is not None and ID.from_pubkey(key) == ID(author) else None


def signed_part(message: Any) -> bytes:
    """What a signature is of.

    https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-signing
    """
    bare = rpc_pb2.Message(
        data=message.data, topicIDs=message.topicIDs, from_id=message.from_id, seqno=message.seqno
    )
    part: bytes = _PREFIX + bare.SerializeToString()
    return part


def is_signed(message: Any) -> bool:
    """Whether a message is signed by its author.

    Raises:
        Exception: any of the library's, where the key that comes with it is none.
    """
    key = _key_in(message.from_id)
    if key is None:
        # A key that is too large for an id comes with the message.
        valid: bool = signature_validator(message)
        return valid
    try:
        good: bool = key.verify(signed_part(message), message.signature)
    except Exception:
        return False
    return good

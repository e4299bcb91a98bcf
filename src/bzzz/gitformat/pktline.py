"""Git's pkt-line framing, and the side bands carried in it.

Pure. A packet is four hexadecimal digits of length (themselves counted) and a payload; lengths 0, 1 and 2
are marks without a payload. What a server sent is never trusted: whatever is not of this form raises
``ValueError`` and nothing else. The meaning of payloads is left to ``receive_pack`` and ``upload_pack``.
Source: gitprotocol-common(5), gitprotocol-pack(5).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

LENGTH_BYTES = 4
PACKET_BYTES_MAX = 65520
PAYLOAD_BYTES_MAX = PACKET_BYTES_MAX - LENGTH_BYTES
MESSAGE_CHARACTERS_MAX = 2000


class Mark(enum.Enum):
    """A packet without a payload."""

    FLUSH = b"0000"
    DELIMITER = b"0001"
    RESPONSE_END = b"0002"


Packet = bytes | Mark
_MARKS = {mark.value: mark for mark in Mark}
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ErrorPacket(ValueError):
    """The server ended the exchange with an ``ERR`` packet; ``str()`` is what it said."""


def encode(payload: bytes) -> bytes:
    """One packet around ``payload``.

    Raises:
        ValueError: the payload is above ``PAYLOAD_BYTES_MAX``.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a packet's payload of {len(payload)} bytes is above {PAYLOAD_BYTES_MAX}")
    return b"%04x" % (len(payload) + LENGTH_BYTES) + payload


def decode(data: bytes, start: int = 0) -> Iterator[tuple[Packet, int]]:
    """The packets of ``data`` from ``start``, each with the offset behind it.

    Raises:
        ValueError: a length is not one, or the data ends within a packet.
    """
    at = start
    while at < len(data):
        head = data[at : at + LENGTH_BYTES]
        if mark := _MARKS.get(head):
            at += LENGTH_BYTES
            yield mark, at
            continue
        if len(head) < LENGTH_BYTES or not _HEX.issuperset(head):
            raise ValueError(f"offset {at} holds no pkt-line length")
        length = int(head, 16)
        if not LENGTH_BYTES <= length <= PACKET_BYTES_MAX:
            raise ValueError(f"offset {at} holds the impossible pkt-line length {length}")
        end = at + length
        if end > len(data):
            raise ValueError(f"the answer ends within a packet that began at offset {at}")
        yield data[at + LENGTH_BYTES : end], end
        at = end


@dataclass(frozen=True, slots=True)
class Bands:
    """What a side-band stream carried: the data, the server's words to a person, and its last words."""

    data: bytes
    messages: str
    fatal: str | None


def split_bands(packets: Iterator[tuple[Packet, int]]) -> Bands:
    """Join the bands of a side-band-64k stream up to its flush packet.

    Raises:
        ValueError: a packet has no band, or the stream does not end with a flush packet.
    """
    data = bytearray()
    messages = bytearray()
    fatal: bytes | None = None
    for packet, _ in packets:
        if packet is Mark.FLUSH:
            return Bands(bytes(data), plain(messages), None if fatal is None else plain(fatal))
        if isinstance(packet, Mark) or not packet:
            raise ValueError("a packet without a band among side bands")
        if packet[0] == 1:
            data += packet[1:]
        elif packet[0] == 2:
            messages += packet[1 : 1 + MESSAGE_CHARACTERS_MAX]
            del messages[4 * MESSAGE_CHARACTERS_MAX :]
        elif packet[0] == 3:
            fatal = packet[1:]
        else:
            raise ValueError(f"side band {packet[0]} does not exist")
    raise ValueError("the side bands end without a flush packet")


def plain(raw: bytes | bytearray, characters_max: int = MESSAGE_CHARACTERS_MAX) -> str:
    """A server's words on one line, without control characters, shortened: fit for a log or a person."""
    text = bytes(raw[: 4 * characters_max]).decode("utf-8", "replace")
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text if len(text) <= characters_max else text[: characters_max - 3] + "..."

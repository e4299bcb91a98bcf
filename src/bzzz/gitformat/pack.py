"""Git objects, and packfiles of a few of them: made here, merged with git's own, and read back.

Pure. A claim is three small objects, so starting the git program for each would cost more than the push.
Reading treats a pack as hostile: counts, sizes and the sum of all inflated bytes are bounded, objects above
the bound are passed over without being kept, and whatever is not a pack raises ``ValueError`` alone. An
object's id is computed from its content, so what a server sends under a name is what that name means.
Deltas against an object of the same pack (``REF_DELTA``) are resolved; ``ofs-delta`` is never asked for.
Source: gitformat-pack(5).
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

HEADER_BYTES = 12
TRAILER_BYTES = 20
OBJECTS_MAX = 200_000
OBJECT_BYTES_MAX = 128 * 1024
INFLATED_BYTES_MAX = 256 * 1024 * 1024
_WINDOW_BYTES = 4096
_DELTA_COPY_BYTES_DEFAULT = 0x10000
_REF_DELTA = 7


class PackTooLarge(ValueError):
    """A pack is above a bound: it may be sound, but nobody has to find out."""


class Kind(enum.Enum):
    """A git object's kind, with the number it has in a pack."""

    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4

    @property
    def word(self) -> bytes:
        """The name that is hashed into the object's id."""
        return self.name.lower().encode()


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class GitObject:
    """A git object with its id, which follows from its content."""

    kind: Kind
    data: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        head = b"%s %d\x00" % (self.kind.word, len(self.data))
        object.__setattr__(self, "id", hashlib.sha1(head + self.data, usedforsecurity=False).hexdigest())


def build_pack(objects: Sequence[GitObject], beside: bytes | None = None) -> bytes:
    """A pack of ``objects``, followed by those of the pack ``beside`` (as made by ``git pack-objects``).

    Entries name others by id or by distance backwards, so that both keep their meaning here.

    Raises:
        ValueError: ``beside`` is not a version 2 pack.
    """
    count = len(objects)
    more = b""
    if beside is not None:
        count += read_header(beside)
        more = beside[HEADER_BYTES:-TRAILER_BYTES]
    parts = [struct.pack(">4sII", b"PACK", 2, count)]
    for item in objects:
        parts += (_entry_head(item.kind.value, len(item.data)), zlib.compress(item.data))
    parts.append(more)
    body = b"".join(parts)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def read_header(data: bytes) -> int:
    """How many objects a pack says it holds.

    Raises:
        ValueError: it is no pack, or of another version.
    """
    if len(data) < HEADER_BYTES + TRAILER_BYTES or data[:4] != b"PACK":
        raise ValueError("what was sent as a pack is not one")
    version, count = struct.unpack(">II", data[4:HEADER_BYTES])
    if version != 2:
        raise ValueError(f"pack version {version} is not 2")
    return int(count)


def read_pack(
    data: bytes,
    *,
    objects_max: int = OBJECTS_MAX,
    object_bytes_max: int = OBJECT_BYTES_MAX,
    inflated_bytes_max: int = INFLATED_BYTES_MAX,
) -> dict[str, GitObject]:
    """The objects of a pack by id; those above ``object_bytes_max``, or based on such, are left out.

    Raises:
        PackTooLarge: it is above ``objects_max`` or ``inflated_bytes_max``.
        ValueError: it is not a whole, sound pack.
    """
    count = read_header(data)
    if count > objects_max:
        raise PackTooLarge(f"a pack of {count} objects is above {objects_max}")
    body = data[:-TRAILER_BYTES]
    if hashlib.sha1(body, usedforsecurity=False).digest() != data[-TRAILER_BYTES:]:
        raise ValueError("a pack's checksum is wrong")
    found: dict[str, GitObject] = {}
    waiting: dict[str, list[bytes]] = {}
    at, budget = HEADER_BYTES, inflated_bytes_max
    for _ in range(count):
        number, size, at = _read_entry_head(body, at)
        base = ""
        if number == _REF_DELTA:
            base, at = body[at : at + TRAILER_BYTES].hex(), at + TRAILER_BYTES
        elif number not in _KINDS:
            raise ValueError(f"a pack entry has the kind {number}, which was not asked for")
        budget -= size
        if budget < 0:
            raise PackTooLarge(f"a pack holds more than {inflated_bytes_max} bytes")
        inflated, at = _inflate(body, at, size, keep=size <= object_bytes_max)
        if inflated is None:
            continue
        if number == _REF_DELTA:
            waiting.setdefault(base, []).append(inflated)
        else:
            item = GitObject(_KINDS[number], inflated)
            found[item.id] = item
    if at != len(body):
        raise ValueError("a pack holds more than its header says")
    _resolve(found, waiting, object_bytes_max, budget)
    return found


def _resolve(
    found: dict[str, GitObject], waiting: dict[str, list[bytes]], object_bytes_max: int, budget: int
) -> None:
    """Turn deltas whose base is known into objects, until none is left that can be."""
    ready = [identifier for identifier in waiting if identifier in found]
    while ready:
        base = found[ready.pop()]
        for delta in waiting.pop(base.id, ()):
            made = _apply_delta(base.data, delta, object_bytes_max)
            if made is None:
                continue
            budget -= len(made)
            if budget < 0:
                raise PackTooLarge("a pack's deltas make more bytes than is allowed")
            item = GitObject(base.kind, made)
            if item.id not in found:
                found[item.id] = item
            if item.id in waiting:
                ready.append(item.id)


def _entry_head(number: int, size: int) -> bytes:
    byte, size = (number << 4) | (size & 0x0F), size >> 4
    head = bytearray()
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    return bytes(head)


def _read_entry_head(data: bytes, at: int) -> tuple[int, int, int]:
    byte, at = _byte(data, at)
    number, size, shift = (byte >> 4) & 7, byte & 0x0F, 4
    while byte & 0x80:
        byte, at = _byte(data, at)
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a pack entry's size is no number")
    return number, size, at


def _byte(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise ValueError("a pack ends within an entry")
    return data[at], at + 1


def _inflate(data: bytes, at: int, size: int, *, keep: bool) -> tuple[bytes | None, int]:
    """Inflate one entry of exactly ``size`` bytes in small windows; returns it and the offset behind it."""
    inflater = zlib.decompressobj()
    kept = bytearray()
    length = 0
    pending = b""
    while not inflater.eof:
        if not pending:
            pending, at = data[at : at + _WINDOW_BYTES], at + _WINDOW_BYTES
            if not pending:
                raise ValueError("a pack ends within an entry")
        try:
            # One byte more than is due shows an entry that is longer than it says.
            made = inflater.decompress(pending, min(size - length + 1, _WINDOW_BYTES * 16))
        except zlib.error as error:
            raise ValueError(f"a pack entry cannot be inflated: {error}") from None
        pending = inflater.unconsumed_tail
        length += len(made)
        if length > size:
            raise ValueError("a pack entry is longer than it says")
        if keep:
            kept += made
    if length != size:
        raise ValueError("a pack entry is shorter than it says")
    end = min(at, len(data)) - len(inflater.unused_data)
    return (bytes(kept) if keep else None), end


def _apply_delta(base: bytes, delta: bytes, object_bytes_max: int) -> bytes | None:
    """The object that ``delta`` makes of ``base``; ``None`` if it is above ``object_bytes_max``."""
    base_size, at = _read_delta_size(delta, 0)
    size, at = _read_delta_size(delta, at)
    if base_size != len(base):
        raise ValueError("a delta is meant for another base")
    if size > object_bytes_max:
        return None
    made = bytearray()
    while at < len(delta):
        command, at = _byte(delta, at)
        if command & 0x80:
            offset = length = 0
            for bit in range(7):
                if command & (1 << bit):
                    byte, at = _byte(delta, at)
                    if bit < 4:
                        offset |= byte << (8 * bit)
                    else:
                        length |= byte << (8 * (bit - 4))
            length = length or _DELTA_COPY_BYTES_DEFAULT
            if offset + length > len(base):
                raise ValueError("a delta copies from beyond its base")
            made += base[offset : offset + length]
        elif command:
            if at + command > len(delta):
                raise ValueError("a delta ends within an insertion")
            made += delta[at : at + command]
            at += command
        else:
            raise ValueError("a delta holds the reserved command 0")
        if len(made) > size:
            raise ValueError("a delta makes more than it says")
    if len(made) != size:
        raise ValueError("a delta makes less than it says")
    return bytes(made)


def _read_delta_size(delta: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte, at = _byte(delta, at)
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, at
        if shift > 63:
            raise ValueError("a delta's size is no number")

"""The form of requests and answers between two peers, for what must arrive, and what they may cost. Pure.

A request goes to one connected peer and ends in its answer or in ``RequestFailed`` before its deadline; it is not
sent again. Each engine carries it its own way (a stream of libp2p, a queryable of Zenoh), in one form::

    request:  length of the kind (1 byte) | kind | deadline (4 bytes, ms) | payload
    answer:   status (1 byte) | payload, or where the status is not ``ANSWERED``, why not, for a person

The deadline is how long the asker still waits: longer work would be for nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from bzzz.errors import PeerError, RequestFailed, TransportError

HEADER_BYTES_MAX = 1 + 64 + 4
REASON_CHARS_MAX = 200
TIMEOUT_S_MAX = 600.0
_KIND = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}")


class Status(IntEnum):
    """How an answer begins."""

    ANSWERED = 0
    UNSERVED = 1
    BUSY = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """What requests may cost.

    Args:
        bytes_max: of a request's payload, and of an answer's.
        served_max: of others, being answered at a time; what comes beyond is told to try again, and counted.
        served_per_peer_max: of those, of one peer.
        peer_requests_per_s_max: of one peer over a long time, four times as many at once.
        asked_max: own ones without an answer yet; what comes beyond fails at once.
        answer_s_max: for one answer, however long its asker would wait.
    """

    bytes_max: int = 4 * 1024 * 1024
    served_max: int = 16
    served_per_peer_max: int = 4
    peer_requests_per_s_max: float = 25.0
    asked_max: int = 64
    answer_s_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it was read."""

    kind: str
    timeout_s: float
    payload: bytes


def write_request(request: Request) -> bytes:
    """The bytes of a request.

    Raises:
        TransportError: its kind or its deadline cannot be one.
    """
    if not _KIND.fullmatch(request.kind):
        raise TransportError(
            f"{request.kind[:80]!r} is no kind of request: 1 to 64 of a-z, 0-9, '.', '_', '/', '-'"
        )
    if not 0 < request.timeout_s <= TIMEOUT_S_MAX:
        raise TransportError(
            f"a request waits for more than 0 and at most {TIMEOUT_S_MAX:g} s, not {request.timeout_s}"
        )
    kind = request.kind.encode()
    deadline_ms = max(1, round(request.timeout_s * 1000))
    return bytes((len(kind),)) + kind + deadline_ms.to_bytes(4, "big") + request.payload


def read_request(data: bytes) -> Request:
    """A request from its bytes.

    Raises:
        PeerError: ``malformed``.
    """
    end = 1 + data[0] if data else 0
    kind, deadline, payload = data[1:end], data[end : end + 4], data[end + 4 :]
    if not data or len(deadline) != 4 or not _KIND.fullmatch(kind.decode("ascii", "replace")):
        raise PeerError("malformed", "it is no request")
    return Request(kind.decode(), min(TIMEOUT_S_MAX, int.from_bytes(deadline, "big") / 1000), payload)


def write_answer(status: Status, payload: bytes) -> bytes:
    """The bytes of an answer."""
    return bytes((status,)) + payload


def read_answer(peer: str, data: bytes) -> bytes:
    """The payload of an answer.

    Raises:
        RequestFailed: the peer says that it does not answer, or what it says is no answer.
    """
    if not data or data[0] not in list(Status):
        raise RequestFailed("malformed", peer, "what it said is no answer")
    status, rest = Status(data[0]), data[1:]
    if status is not Status.ANSWERED:
        told = rest[: REASON_CHARS_MAX * 4].decode("utf-8", "replace")[:REASON_CHARS_MAX]
        raise RequestFailed(status.name.lower(), peer, "".join(c if c.isprintable() else " " for c in told))
    return rest


BOUNDS = RequestBounds()
"""What requests may cost where nothing else is set."""

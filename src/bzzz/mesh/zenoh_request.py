# mypy: disallow-untyped-calls=false
"""Requests over Zenoh: one queryable a session, whose key names the peer; the methods block.

Routers forward, so a request and its answer are each signed by their peer, over the mesh, the other peer and a
number that nobody used before: an answer is good for one question alone. What comes twice is answered once.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

import zenoh

from bzzz.errors import PeerError, RequestFailed
from bzzz.mesh.request import HEADER_BYTES_MAX
from bzzz.mesh.request_desk import RequestDesk
from bzzz.mesh.zenoh_key import KeySpace
from bzzz.mesh.zenoh_seen import SeenMessages
from bzzz.mesh.zenoh_signature import ANSWER, REQUEST, Signer, author_of

NUMBER_BYTES = 16
INCOMING_MAX = 64
SEEN_MAX = 4_096
_ANSWERS_MAX = 4

OnRequest = Callable[[str, bytes, Callable[[bytes], None]], None]
"""Takes a peer, what it asks, and what sends the answer, which blocks."""


class ZenohRequests:
    """Asks and answers on sessions that it is given.

    Args:
        signer: of this node.
        own_peer: this node.
        mesh_name: of the mesh.
        desk: admits requests.
        check_admitted: raises ``PeerError`` for a peer that may not be heard.
        on_request: takes a request that was admitted; called from reading threads, and must not wait.
    """

    def __init__(
        self,
        signer: Signer,
        own_peer: str,
        mesh_name: str,
        *,
        desk: RequestDesk,
        check_admitted: Callable[[str], None],
        on_request: OnRequest,
    ) -> None:
        self._signer = signer
        self._own_peer = own_peer
        self._mesh = mesh_name.encode()
        self._keys = KeySpace(mesh_name)
        self._desk = desk
        self._check_admitted = check_admitted
        self._on_request = on_request
        self._lock = threading.Lock()
        self._seen = SeenMessages(SEEN_MAX)
        self._bytes_max = HEADER_BYTES_MAX + desk.bounds.bytes_max

    def declare(self, session: zenoh.Session) -> Any:
        """Be asked over a session; what comes is to be read from what is given, and handed to ``take``."""
        return session.declare_queryable(
            self._keys.of_requests(self._own_peer),
            zenoh.handlers.FifoChannel(INCOMING_MAX),
            complete=True,
            allowed_origin=zenoh.Locality.REMOTE,
        )

    def take(self, query: zenoh.Query) -> None:
        """Check a request and hand it on.

        Raises:
            PeerError: it is not of a peer that may ask, or no request; it gets no answer.
        """
        payload, attachment = query.payload, query.attachment
        if payload is None or attachment is None:
            raise PeerError("malformed", "a request without anything")
        if len(payload) > self._bytes_max or len(attachment) > self._bytes_max:
            raise PeerError("oversized")
        data, told = payload.to_bytes(), attachment.to_bytes()
        number, seal = told[:NUMBER_BYTES], told[NUMBER_BYTES:]
        peer = author_of(seal, REQUEST, self._mesh, self._own_peer.encode(), number, data)
        self._check_admitted(peer)
        with self._lock:
            if not self._seen.add(told):
                raise PeerError("copy")

        def reply(answer: bytes) -> None:
            sealed = self._signer.seal(ANSWER, self._mesh, peer.encode(), number, answer)
            query.reply(self._keys.of_requests(self._own_peer), answer, attachment=sealed)
            query.drop()

        refusal = self._desk.admit(peer)
        if refusal is not None:
            reply(refusal)
        else:
            self._on_request(peer, data, reply)

    def ask(self, session: zenoh.Session, peer: str, data: bytes, timeout_s: float) -> bytes:
        """Send a request and wait for the answer's bytes.

        Raises:
            RequestFailed: there is none.
        """
        number = secrets.token_bytes(NUMBER_BYTES)
        seal = self._signer.seal(REQUEST, self._mesh, peer.encode(), number, data)
        why = RequestFailed("timeout", peer, f"no answer within {timeout_s:g} s")
        try:
            answers = session.get(
                self._keys.of_requests(peer),
                zenoh.handlers.FifoChannel(_ANSWERS_MAX),
                target=zenoh.QueryTarget.ALL,
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=timeout_s,
                congestion_control=zenoh.CongestionControl.BLOCK,
                express=True,
                payload=data,
                attachment=number + seal,
                allowed_destination=zenoh.Locality.REMOTE,
            )
            for answer in answers:
                try:
                    return self._read(answer, peer, number)
                except PeerError as error:
                    # Somebody else's; the right one may still come.
                    why = RequestFailed(error.reason, peer, error.detail)
        except zenoh.ZError as error:
            raise RequestFailed("cut", peer, "the session broke") from error
        raise why

    def _read(self, answer: zenoh.Reply, peer: str, number: bytes) -> bytes:
        sample = answer.ok
        if sample is None or sample.attachment is None:
            raise PeerError("cut", "it could not be asked to the end")
        if len(sample.payload) > self._bytes_max:
            raise PeerError("oversized", f"an answer of {len(sample.payload)} bytes")
        data = sample.payload.to_bytes()
        author = author_of(sample.attachment.to_bytes(), ANSWER, self._mesh, self._own_peer.encode(), number, data)
        if author != peer:
            raise PeerError("forged", f"{author} answered")
        return data

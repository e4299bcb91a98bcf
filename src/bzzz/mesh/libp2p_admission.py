"""Lets peers in: after encryption has proved a peer's id, and before anything of the library speaks with it.

So a peer that is not admitted can open no stream: nothing that it sends gets further than this module. What is
refused is counted, and told once a peer and not too often altogether.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.io.utils import read_exactly
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectCommunicatorError, MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from bzzz.errors import PeerError
from bzzz.mesh.admission import ADMISSION_PROTOCOL, GOOD, NONCE_BYTES, TAG_BYTES, WRONG, Gate, Prover
from bzzz.mesh.bucket import Bucket

ADMISSION = "admission"
REFUSALS_TOLD_MAX = 1_024
REFUSALS_TOLD_PER_S = 0.1
REFUSALS_TOLD_BURST = 20
_NO_PROOF = "it does not speak of a mesh secret: it has none, or is no node of Bzzz"
_WRONG = "it does not know this mesh's secret; is its mesh.secret_file the same as here?"
_WRONG_HERE = "it says that this node does not know its mesh's secret; is mesh.secret_file the same as there?"
_LEFT = "it ended the connection when it knew who this is: it may need a mesh secret, or keep this node out"
_log = logging.getLogger("bzzz.mesh")


class Admission:
    """Decides on each connection.

    Args:
        own_id: this node.
        gate: who may not be let in.
        prover: knows the mesh's secret; ``None`` where the mesh has none.
        timeout_s: for the proof.
        counts: where refusals are counted.
    """

    def __init__(
        self, own_id: Any, gate: Gate, prover: Prover | None, *, timeout_s: float, counts: Counter[str]
    ) -> None:
        self._own_id = own_id
        self._gate = gate
        self._prover = prover
        self._timeout_s = timeout_s
        self._counts = counts
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._tellings = Bucket(REFUSALS_TOLD_PER_S, REFUSALS_TOLD_BURST, 0.0)

    def check(self, peer: str) -> None:
        """Refuse who may not be let in.

        Raises:
            PeerError: as ``admit``.
        """
        refusal = self._gate.refusal(peer, trio.current_time())
        if refusal is not None:
            self._refuse(peer, refusal)

    async def admit(self, conn: Any, peer_id: Any) -> None:
        """Let a peer in, or not.

        Args:
            conn: encrypted, and proved to be of ``peer_id``.
            peer_id: the peer.

        Raises:
            PeerError: ``admission``: it is refused, or refuses this node, or the connection broke.
        """
        peer = str(peer_id)
        self.check(peer)
        if self._prover is None:
            return
        talk = self._dial if conn.is_initiator else self._listen
        try:
            with trio.fail_after(self._timeout_s):
                refusal = await talk(self._prover, conn, peer_id)
        except PeerError:
            raise
        except Exception as error:
            _log.debug("the proof of %s was not finished: %r", peer, error)
            refusal = _LEFT if conn.is_initiator else "it did not finish the proof of the mesh secret"
        if refusal is not None:
            self._refuse(peer, refusal)

    async def agree(self, conn: Any, peer_id: Any, muxer: Callable[[], Awaitable[Any]]) -> Any:
        """Go on with ``muxer`` after admission; whoever leaves at this point as a dialled peer refuses this node.

        Raises:
            PeerError: as ``admit``.
        """
        await self.admit(conn, peer_id)
        try:
            return await muxer()
        except Exception as error:
            if not conn.is_initiator:
                raise
            _log.debug("no agreement with %s after encryption: %r", peer_id, error)
            self._refuse(str(peer_id), _LEFT)

    async def _dial(self, prover: Prover, conn: Any, peer_id: ID) -> str | None:
        try:
            await MultiselectClient().select_one_of([ADMISSION_PROTOCOL], MultiselectCommunicator(conn))
        except MultiselectClientError as error:
            return _LEFT if isinstance(error.__cause__, MultiselectCommunicatorError) else _NO_PROOF
        nonce = os.urandom(NONCE_BYTES)
        own, other = self._own_id.to_bytes(), peer_id.to_bytes()
        await conn.write(nonce)
        answer = await read_exactly(conn, NONCE_BYTES + TAG_BYTES)
        other_nonce, tag = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        if not prover.is_tag(tag, "listener", (other, own), (other_nonce, nonce)):
            await conn.write(WRONG + bytes(TAG_BYTES))
            return _WRONG
        await conn.write(GOOD + prover.tag("dialler", (own, other), (nonce, other_nonce)))
        return None if await read_exactly(conn, 1) == GOOD else _WRONG_HERE

    async def _listen(self, prover: Prover, conn: Any, peer_id: ID) -> str | None:
        try:
            found, _ = await Multiselect({ADMISSION_PROTOCOL: None}).negotiate(MultiselectCommunicator(conn))
        except MultiselectError:
            return _NO_PROOF
        if found != ADMISSION_PROTOCOL:
            return _NO_PROOF
        own, other = self._own_id.to_bytes(), peer_id.to_bytes()
        other_nonce = await read_exactly(conn, NONCE_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        await conn.write(nonce + prover.tag("listener", (own, other), (nonce, other_nonce)))
        answer = await read_exactly(conn, 1 + TAG_BYTES)
        if answer[:1] != GOOD:
            return _WRONG_HERE
        good = prover.is_tag(answer[1:], "dialler", (other, own), (other_nonce, nonce))
        await conn.write(GOOD if good else WRONG)
        return None if good else _WRONG

    def _refuse(self, peer: str, why: str) -> None:
        if (peer, why) not in self._told and self._tellings.take(1, trio.current_time()):
            self._told[peer, why] = None
            if len(self._told) > REFUSALS_TOLD_MAX:
                self._told.popitem(last=False)
            _log.warning("peer %s is not let into the mesh: %s", peer, why)
        # Last, so that whoever sees it counted finds it told.
        self._counts["dropped_admission"] += 1
        raise PeerError(ADMISSION, why)

"""Who is connected over Zenoh: signed presences beside open connections; pure.

Every session of a node keeps a liveliness token whose key is its presence: peer id, session id (which Zenoh calls
zid), the addresses where the node listens, and a seal over all of it. Tokens travel through the whole mesh and end
with their session. A peer is connected while a presence of it names a session that there is an open connection to,
or comes through a router, behind which nodes have no connections to each other. Nobody can sign for another peer,
so a liar that names a session of another shows only itself as connected.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bzzz.errors import PeerError
from bzzz.mesh.address import PEER_ADDRESSES_MAX, parse_address, useful_addresses
from bzzz.mesh.zenoh_signature import PRESENCE, Signer, author_of
from bzzz.ports import PeerConnected, PeerDisconnected

PRESENCE_CHARS_MAX = 4096
_CHUNKS = 4


@dataclass(frozen=True, slots=True)
class Presence:
    """One session of a node, in the node's own signed words."""

    peer: str
    session: str
    addresses: tuple[str, ...]


def write_presence(signer: Signer, mesh_name: str, presence: Presence) -> str:
    """The end of a token's key, to stand behind ``KeySpace.nodes``."""
    bare = (str(parse_address(text).bare()) for text in presence.addresses[:PEER_ADDRESSES_MAX])
    told = "\n".join(bare).encode()
    seal = signer.seal(PRESENCE, mesh_name.encode(), presence.session.encode(), told)
    return f"{presence.peer}/{presence.session}/a{_to_text(told)}/s{_to_text(seal)}"


def read_presence(text: str, mesh_name: str) -> Presence:
    """Read the end of a token's key.

    Raises:
        PeerError: ``malformed``, ``unsigned``, ``signature``, or ``forged`` (signed by another than it names).
    """
    chunks = text.split("/")
    if len(text) > PRESENCE_CHARS_MAX or len(chunks) != _CHUNKS or chunks[2][:1] != "a" or chunks[3][:1] != "s":
        raise PeerError("malformed", "a presence of another form")
    peer, session = chunks[:2]
    told, seal = _to_bytes(chunks[2][1:]), _to_bytes(chunks[3][1:])
    author = author_of(seal, PRESENCE, mesh_name.encode(), session.encode(), told)
    if author != peer:
        raise PeerError("forged", f"{author} signed a presence of {peer[:64]}")
    return Presence(peer, session, tuple(told.decode("ascii", "replace").split("\n")[:PEER_ADDRESSES_MAX]))


class PresenceTable:
    """Presences and connections as they come and go, and what that says of peers.

    Args:
        own_peer: this node, which is never among its peers.
        presences_max: more are refused.
        read_own_ips: this host's IP addresses, read when an address has to be judged.
        reason: what is said of a peer that is connected no more; which of its ends came first tells nothing.
    """

    def __init__(
        self,
        own_peer: str,
        *,
        presences_max: int,
        read_own_ips: Callable[[], Collection[str]],
        reason: str,
    ) -> None:
        self._own_peer = own_peer
        self._presences_max = presences_max
        self._read_own_ips = read_own_ips
        self._reason = reason
        self._presences: dict[tuple[str, str, str], tuple[Presence, bool]] = {}
        self._links: Counter[str] = Counter()
        self._ips: dict[str, str] = {}
        self._connected: dict[str, tuple[str, ...]] = {}

    @property
    def connected(self) -> dict[str, tuple[str, ...]]:
        """Connected peers and the addresses that lead to them from here."""
        return dict(self._connected)

    def appeared(
        self, viewer: str, presence: Presence, *, routed: bool = False
    ) -> Sequence[PeerConnected | PeerDisconnected]:
        """A token is there, in the view of one of this node's sessions, which may be one to a router.

        Raises:
            PeerError: ``presence``: there are too many.
        """
        if presence.peer == self._own_peer:
            return ()
        at = (viewer, presence.peer, presence.session)
        if at not in self._presences and len(self._presences) >= self._presences_max:
            raise PeerError("presence", f"more than {self._presences_max}")
        self._presences[at] = (presence, routed)
        return self._judge((presence.peer,))

    def vanished(self, viewer: str, presence: Presence) -> Sequence[PeerConnected | PeerDisconnected]:
        """A token is gone from the view of one of this node's sessions."""
        self._presences.pop((viewer, presence.peer, presence.session), None)
        return self._judge((presence.peer,))

    def opened(self, session: str, remote_ip: str | None) -> Sequence[PeerConnected | PeerDisconnected]:
        """A connection to a session is up."""
        self._links[session] += 1
        if remote_ip is not None:
            self._ips[session] = remote_ip
        return self._judge(self._peers_of(session))

    def closed(self, session: str) -> Sequence[PeerConnected | PeerDisconnected]:
        """A connection to a session is gone."""
        self._links[session] -= 1
        if self._links[session] <= 0:
            del self._links[session]
            self._ips.pop(session, None)
        return self._judge(self._peers_of(session))

    def viewers_of(self, peer: str) -> set[str]:
        """The own sessions through which a connected peer can be reached."""
        return {
            viewer
            for (viewer, named, session), (_, routed) in self._presences.items()
            if named == peer and (routed or session in self._links)
        }

    def _peers_of(self, session: str) -> tuple[str, ...]:
        return tuple({peer for _, peer, named in self._presences if named == session})

    def _judge(self, peers: Sequence[str]) -> Sequence[PeerConnected | PeerDisconnected]:
        events: list[PeerConnected | PeerDisconnected] = []
        for peer in peers:
            held = [found for found in self._presences.values() if found[0].peer == peer]
            linked = [presence for presence, routed in held if routed or presence.session in self._links]
            if linked and peer not in self._connected:
                addresses = self._useful(linked[0])
                self._connected[peer] = addresses
                events.append(PeerConnected(peer, addresses))
            elif not linked and self._connected.pop(peer, None) is not None:
                events.append(PeerDisconnected(peer, self._reason))
        return events

    def _useful(self, presence: Presence) -> tuple[str, ...]:
        remote_ip = self._ips.get(presence.session)
        return useful_addresses(presence.addresses, presence.peer, remote_ip, self._read_own_ips())


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _to_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise PeerError("malformed", "a presence that is not base64") from None

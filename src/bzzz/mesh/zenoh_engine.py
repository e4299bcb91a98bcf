# mypy: disallow-untyped-calls=false
"""Zenoh's sessions of one node, and all that comes in over them: checked, counted, bounded.

One session listens and finds peers. Zenoh takes addresses only when a session is opened, so an address that is
dialled later gets a small session of its own, and so do the routers. What is published goes out on all of them;
what comes in on one is passed on to the others, but not from or to routers, which every node has for itself.

The methods block, so they belong in a thread. What comes in is read from short queues by threads of this module,
where signatures are checked: a flood fills the queue and so slows down its sender, not this program's event loop.
Zenoh could also call back from threads of its own, but a call that comes while the program ends aborts it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import zenoh

from bzzz.errors import PeerError, RequestFailed, TransportError
from bzzz.mesh.address import Address
from bzzz.mesh.identity import Identity
from bzzz.mesh.interface import read_own_ips
from bzzz.mesh.request_desk import RequestDesk
from bzzz.mesh.zenoh_config import dialling_config, main_config, routed_config
from bzzz.mesh.zenoh_key import KeySpace
from bzzz.mesh.zenoh_presence import Presence, PresenceTable, read_presence, write_presence
from bzzz.mesh.zenoh_request import OnRequest, ZenohRequests
from bzzz.mesh.zenoh_seen import SeenMessages
from bzzz.mesh.zenoh_session import check_readable, one_line, open_session, remote_ip_of, reserve
from bzzz.mesh.zenoh_settings import ZenohSettings
from bzzz.mesh.zenoh_signature import MESSAGE, Signer, author_of
from bzzz.ports import Received, TransportEvent

NUMBER_BYTES = 16
INCOMING_MAX = 256
READER_END_S_MAX = 1.0
_log = logging.getLogger("bzzz.mesh")


class Source(Protocol):
    """What is read from until its session is closed."""

    def recv(self) -> Any:
        """The next item, waiting for it; raises ``ZError`` when there will be none."""
        ...


class Engine:
    """The sessions of one node, from ``open`` to ``close``.

    Args:
        settings: of the mesh.
        identity: of the node.
        admits: whether a peer may be heard, by its proved id.
        on_event: takes what came in; called from the reading threads.
        on_relay: takes what is to be run in the thread of this engine's methods, or says that there is no room;
            called from the reading threads.
        desk: admits requests.
        on_request: takes the requests that were admitted; called from the reading threads.
    """

    def __init__(
        self,
        settings: ZenohSettings,
        identity: Identity,
        admits: Callable[[str], bool],
        on_event: Callable[[TransportEvent], None],
        on_relay: Callable[[Callable[[], None]], bool],
        *,
        desk: RequestDesk,
        on_request: OnRequest,
    ) -> None:
        self._settings = settings
        self._own_peer = identity.peer_id
        self._signer = Signer(identity)
        self._admits = admits
        self._on_event = on_event
        self._on_relay = on_relay
        self._keys = KeySpace(settings.mesh_name)
        self._mesh = settings.mesh_name.encode()
        self._requests = ZenohRequests(
            self._signer,
            identity.peer_id,
            settings.mesh_name,
            desk=desk,
            check_admitted=self._check_admitted,
            on_request=on_request,
        )
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._topics: frozenset[str] = frozenset()
        self._table = PresenceTable(
            identity.peer_id,
            presences_max=settings.presences_max,
            read_own_ips=read_own_ips,
            reason=f"it left, its connection ended, or it was silent for {settings.silence_s_max:g} s",
        )
        self._seen = SeenMessages(settings.seen_messages_max)
        start = secrets.token_bytes(NUMBER_BYTES // 2)
        self._numbers = (start + n.to_bytes(NUMBER_BYTES - len(start), "big") for n in itertools.count())
        self._sessions: tuple[zenoh.Session, ...] = ()
        self._routed: zenoh.Session | None = None
        self._closed = False
        self._tokens: list[zenoh.LivelinessToken] = []
        self._listen: tuple[Address, ...] = ()
        self._readers: list[threading.Thread] = []

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node listens, with its peer id."""
        return tuple(str(address.with_peer(self._own_peer)) for address in self._listen)

    def open(self, connect: Sequence[Address]) -> None:
        """Listen, join the mesh, and begin to connect.

        Raises:
            TransportError: a port is taken, a certificate is wrong, ...
        """
        if self._settings.tls is not None:
            check_readable(self._settings.tls)
        with contextlib.ExitStack() as reserved:
            self._listen = reserve(self._settings.listen, reserved)
            session = self._open_main(connect)
        self._add(session)

    def link(self, target: Address) -> None:
        """Connect to one more address, now and whenever it is lost.

        Raises:
            TransportError: there are too many already.
        """
        if len(self._sessions) > self._settings.dialled_max:
            raise TransportError(
                f"cannot dial {target}: {self._settings.dialled_max} addresses were dialled already; "
                "name those that are always there as static peers"
            )
        self._add(open_session(dialling_config(self._settings, target)))

    def join_routers(self, routers: Sequence[Address]) -> bool:
        """Try to reach a router; whether one answered. May run beside the other methods, in a thread of its own."""
        try:
            session = open_session(routed_config(self._settings, routers))
        except TransportError:
            return False
        self._routed = session
        self._add(session)
        if self._closed:
            session.close()
        return True

    def put(self, topic: str, payload: bytes) -> None:
        """Sign and send; waits while the way is congested, up to ``slow_peer_s_max``.

        Raises:
            TransportError: the topic cannot be one, or the session is closed.
        """
        number = next(self._numbers)
        seal = self._signer.seal(MESSAGE, self._mesh, topic.encode(), number, payload)
        try:
            self._put(self._keys.of_topic(topic), payload, number + seal, self._sessions)
        except (zenoh.ZError, ValueError) as error:
            raise TransportError(f"cannot publish on {topic[:80]!r}: {one_line(error)}") from None

    def request(self, peer: str, data: bytes, timeout_s: float) -> bytes:
        """Ask a connected peer, and wait for the answer's bytes. May run beside the other methods.

        Raises:
            RequestFailed: there is none.
        """
        with self._lock:
            viewers = self._table.viewers_of(peer)
        for session in self._sessions:
            if str(session.zid()) in viewers:
                return self._requests.ask(session, peer, data, timeout_s)
        raise RequestFailed("unconnected", peer, "there is no connection to it")

    def hear(self, topics: frozenset[str]) -> None:
        """From now on hand on what comes on these topics.

        All topics of the mesh are subscribed to once and sifted here: then one that is joined is heard at once, and
        not only after the last node has been told.
        """
        self._topics = topics

    def peers(self) -> Mapping[str, tuple[str, ...]]:
        """Connected peers and where they listen."""
        with self._lock:
            return self._table.connected

    def counts(self) -> Mapping[str, int]:
        """What was dropped and why."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Say goodbye, then close everything."""
        self._closed = True
        for token in self._tokens:
            with contextlib.suppress(zenoh.ZError):
                token.undeclare()
        for session in self._sessions:
            with contextlib.suppress(zenoh.ZError):
                session.close()
        for reader in self._readers:
            reader.join(READER_END_S_MAX)

    def _put(self, key: str, payload: bytes, attachment: bytes, sessions: Sequence[zenoh.Session]) -> None:
        block = zenoh.CongestionControl.BLOCK
        for session in sessions:
            session.put(key, payload, attachment=attachment, congestion_control=block, express=True)

    # --- sessions ------------------------------------------------------------------------------------------

    def _open_main(self, connect: Sequence[Address]) -> zenoh.Session:
        if self._settings.mdns:
            try:
                return open_session(main_config(self._settings, self._listen, connect, scouting=True))
            except TransportError as error:
                # Without multicast there may still be other ways; if that was not why, the next line tells.
                reason = error
        session = open_session(main_config(self._settings, self._listen, connect, scouting=False))
        if self._settings.mdns:
            self._count("scouting_failures")
            _log.warning(
                "no discovery by multicast (%s); only addresses that are set or told are connected", reason
            )
        return session

    def _add(self, session: zenoh.Session) -> None:
        with self._lock:
            self._sessions += (session,)
        zid = str(session.zid())

        # Messages are subscribed to before the presence is told, so whoever sees that this node is here is heard.
        messages = session.declare_subscriber(
            self._keys.all_topics,
            zenoh.handlers.FifoChannel(INCOMING_MAX),
            allowed_origin=zenoh.Locality.REMOTE,
        )
        self._follow(messages, lambda sample: self._heard(session, sample))
        # And can be asked.
        self._follow(self._requests.declare(session), self._requests.take)
        links = session.info.declare_transport_events_listener(
            zenoh.handlers.FifoChannel(INCOMING_MAX), history=True
        )
        self._follow(links, lambda event: self._linked(session, event))
        presences = session.liveliness().declare_subscriber(
            self._keys.all_nodes, zenoh.handlers.FifoChannel(INCOMING_MAX), history=True
        )
        self._follow(presences, lambda sample: self._presence(session, zid, sample))
        presence = Presence(self._own_peer, zid, self.addresses)
        text = write_presence(self._signer, self._settings.mesh_name, presence)
        self._tokens.append(session.liveliness().declare_token(self._keys.nodes + text))

    def _follow(self, source: Source, take: Callable[[Any], None]) -> None:
        def read() -> None:
            while True:
                try:
                    item = source.recv()
                except zenoh.ZError:
                    return  # the session was closed
                try:
                    take(item)
                except PeerError as error:
                    self._count(f"dropped_{error.reason}")
                except Exception as error:
                    # Whatever a hostile message does, the next one is read.
                    self._count("dropped_malformed")
                    _log.debug("dropped what could not be read: %s", error)

        reader = threading.Thread(target=read, name="bzzz-mesh-reader", daemon=True)
        self._readers.append(reader)
        reader.start()

    # --- what comes in, in the reading threads -------------------------------------------------------------------

    def _heard(self, session: zenoh.Session, sample: zenoh.Sample) -> None:
        topic = self._keys.topic_of(str(sample.key_expr))
        others = self._others(session)
        if topic not in self._topics and not others:
            return
        if sample.kind != zenoh.SampleKind.PUT:
            raise PeerError("malformed", "a deletion")
        if len(sample.payload) > self._settings.payload_bytes_max:
            raise PeerError("oversized")
        attachment = b"" if sample.attachment is None else sample.attachment.to_bytes()
        if attachment in self._seen:
            raise PeerError("copy")
        payload, number, seal = sample.payload.to_bytes(), attachment[:NUMBER_BYTES], attachment[NUMBER_BYTES:]
        peer = author_of(seal, MESSAGE, self._mesh, topic.encode(), number, payload)
        if peer == self._own_peer:
            raise PeerError("own")
        self._check_admitted(peer)
        with self._lock:
            if not self._seen.add(attachment):
                raise PeerError("copy")
        key = str(sample.key_expr)
        if others and not self._on_relay(lambda: self._relay(key, payload, attachment, others)):
            self._count("dropped_relay")
        if topic in self._topics:
            self._on_event(Received(topic, peer, payload))

    def _others(self, session: zenoh.Session) -> tuple[zenoh.Session, ...]:
        """Where to pass on what comes in on one session."""
        if session is self._routed:
            return ()
        return tuple(other for other in self._sessions if other is not session and other is not self._routed)

    def _relay(self, key: str, payload: bytes, attachment: bytes, sessions: Sequence[zenoh.Session]) -> None:
        try:
            self._put(key, payload, attachment, sessions)
        except zenoh.ZError:
            self._count("dropped_relay")

    def _check_admitted(self, peer: str) -> None:
        if not self._admits(peer):
            raise PeerError("not_admitted", peer)

    def _presence(self, session: zenoh.Session, viewer: str, sample: zenoh.Sample) -> None:
        text = str(sample.key_expr).removeprefix(self._keys.nodes)
        presence = read_presence(text, self._settings.mesh_name)
        self._check_admitted(presence.peer)
        with self._lock:
            if sample.kind == zenoh.SampleKind.PUT:
                events = self._table.appeared(viewer, presence, routed=session is self._routed)
            else:
                events = self._table.vanished(viewer, presence)
            self._tell(events)

    def _linked(self, session: zenoh.Session, event: zenoh.TransportEvent) -> None:
        other = str(event.transport.zid)
        if event.kind == zenoh.SampleKind.PUT:
            remote_ip = remote_ip_of(session, other)
            with self._lock:
                self._tell(self._table.opened(other, remote_ip))
        else:
            with self._lock:
                self._tell(self._table.closed(other))

    def _tell(self, events: Sequence[TransportEvent]) -> None:
        # Under the lock, so that a peer's coming and going are told in their order.
        for event in events:
            self._on_event(event)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

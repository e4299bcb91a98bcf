"""What is sent to ``git-receive-pack`` and what it answers.

Pure. A push is a list of commands ``old new ref`` and a pack; the server compares each old value under the
ref's lock, which is the compare-and-swap that claims rest on. The old value is always named (zeros where
the ref must not exist), never taken from a remote-tracking ref. Nothing here can make a command that
deletes. What a refusal means for a claim is decided in ``settle``; here its text is only sorted.
Source: gitprotocol-pack(5), gitprotocol-capabilities(5), gitprotocol-http(5).
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bzzz.gitformat.pktline import Bands, ErrorPacket, Mark, decode, encode, plain, split_bands
from bzzz.ledger.link import is_object_id

ABSENT = "0" * 40
_BANDS = frozenset(b"\x01\x02\x03")
_REF_FORBIDDEN = frozenset(' ~^:?*[\\\x7f"')


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One command: move ``ref`` from ``old`` (``None``: it must not exist) to ``new``. Never a deletion.

    Raises:
        ValueError: a value is no object id, or the ref's name is not one that git allows.
    """

    ref: str
    old: str | None
    new: str

    def __post_init__(self) -> None:
        if not is_ref(self.ref):
            raise ValueError(f"{self.ref[:120]!r} is not a ref name that git allows")
        for value in (self.old, self.new):
            if value is not None and (not is_object_id(value) or value == ABSENT):
                raise ValueError(f"{str(value)[:60]!r} is not a git object id")


def is_ref(ref: str) -> bool:
    """Whether git would take this as a full ref name. Source: git-check-ref-format(1)."""
    parts = ref.split("/")
    return (
        len(parts) >= 3
        and parts[0] == "refs"
        and len(ref) <= 250
        and all(part and not part.startswith((".", "-")) and not part.endswith((".lock", ".")) for part in parts)
        and ".." not in ref
        and "@{" not in ref
        and all(character.isprintable() and character not in _REF_FORBIDDEN for character in ref)
    )


def push_request(updates: Sequence[RefUpdate], pack: bytes, *, agent: str, atomic: bool) -> bytes:
    """The body of ``POST <git_url>/git-receive-pack``.

    A server that does not know ``atomic`` ignores it without a word, so it must be known to advertise it.
    """
    capabilities = "report-status side-band-64k object-format=sha1 agent=" + agent
    if atomic:
        capabilities = "atomic " + capabilities
    parts = []
    for index, update in enumerate(updates):
        line = f"{update.old or ABSENT} {update.new} {update.ref}"
        parts.append(encode((line if index else f"{line}\x00 {capabilities}").encode()))
    return b"".join((*parts, Mark.FLUSH.value, pack))


@dataclass(frozen=True, slots=True)
class Report:
    """The server's report: ``unpack`` is ``ok`` or why not; ``refusals`` holds a reason a refused ref."""

    unpack: str
    accepted: frozenset[str]
    refusals: Mapping[str, str]
    messages: str

    def stands(self, updates: Sequence[RefUpdate]) -> bool:
        """Whether every one of ``updates`` was carried out."""
        return self.unpack == "ok" and all(update.ref in self.accepted for update in updates)


def read_report(body: bytes) -> Report:
    """Read the answer to a push.

    Raises:
        ValueError: it is not a whole report; then the answer says nothing about what was carried out.
    """
    first = next(decode(body), (Mark.FLUSH, 0))[0]
    bands = Bands(body, "", None)
    if isinstance(first, bytes) and first[:1] and first[0] in _BANDS:
        bands = split_bands(decode(body))
        if bands.fatal is not None:
            raise ErrorPacket(bands.fatal)
    unpack: str | None = None
    accepted: set[str] = set()
    refusals: dict[str, str] = {}
    for packet, _ in decode(bands.data):
        if packet is Mark.FLUSH:
            if unpack is None:
                break
            return Report(unpack, frozenset(accepted), refusals, bands.messages)
        word, _, rest = (b"" if isinstance(packet, Mark) else packet.rstrip(b"\n")).partition(b" ")
        ref, _, reason = rest.partition(b" ")
        if word == b"unpack" and unpack is None:
            unpack = plain(rest)
        elif word == b"ok" and unpack is not None:
            accepted.add(plain(ref))
        elif word == b"ng" and unpack is not None:
            refusals[plain(ref)] = plain(reason)
        elif word == b"ERR":
            raise ErrorPacket(plain(rest))
        else:
            raise ValueError(f"a push report holds {plain(word)[:40]!r}")
    raise ValueError("a push report has no end" if unpack is not None else "the answer holds no push report")


class Refusal(enum.Enum):
    """What kind of refusal a reason tells of; a hint only, for the ref itself is looked at."""

    STALE = "the old value did not match"
    LOCKED = "a lock file is in the way"
    BLOCKED = "another ref is in the way"
    POLICY = "the server's rules forbid it"
    UNKNOWN = "the server did not say why"


# A hook writes what it likes to the side band, so the reason itself is matched first, then the messages.
_POLICY_REASONS = ("hook declined", "protected", "deny", "denied", "hidden", "not allowed", "prohibited", "funny")
_POLICY_MESSAGES = ("gh006", "gh013", "protected branch", "protected ref", "rule violations", "archived")
_BLOCKED = ("exists; cannot create", "refname conflict", "directory/file conflict")
_LOCKED = (".lock': file exists", "unable to create", "unable to lock", "lock file")
_STALE = (
    "but expected",
    "already exists",
    "unable to resolve reference",
    "incorrect old value",
    "reference does not exist",
    "stale",
    "fetch first",
    "non-fast-forward",
)


def classify(reason: str, messages: str) -> Refusal:
    """Sort the reason of an ``ng`` line, with what the server wrote beside it."""
    low = reason.lower()
    if any(text in low for text in _POLICY_REASONS):
        return Refusal.POLICY
    both = f"{low} {messages.lower()}"
    for refusal, texts in (
        (Refusal.BLOCKED, _BLOCKED),
        (Refusal.LOCKED, _LOCKED),
        (Refusal.POLICY, _POLICY_MESSAGES),
        (Refusal.STALE, _STALE),
    ):
        if any(text in both for text in texts):
            return refusal
    return Refusal.UNKNOWN


def read_capabilities(body: bytes) -> frozenset[str]:
    """The capabilities at the beginning of ``info/refs?service=git-receive-pack``, however much follows.

    Raises:
        ValueError: it does not begin as an advertisement does.
    """
    for packet, _ in itertools.islice(decode(body), 4):
        if isinstance(packet, Mark) or packet.startswith(b"# service="):
            continue
        if packet.startswith(b"ERR "):
            raise ErrorPacket(plain(packet[4:]))
        head, zero, capabilities = packet.partition(b"\x00")
        if not zero or not is_object_id(head[:40].decode("ascii", "replace")):
            raise ValueError("the advertisement does not begin with a ref and capabilities")
        return frozenset(plain(word) for word in capabilities.split())
    raise ValueError("the answer holds no advertisement")

"""A push of one claim, read whole: the ref that moves, and the three objects it moves to.

Pure. Claims are most of what nodes push, and each is waited for. Git takes three processes for one (to receive,
unpack and check), while all that only git can do is to move the ref under its lock. So one form, the very
one that nodes push, is read here; whatever differs from it in anything, right or wrong, is ``None`` and git's
to judge. What is read here passes git's own checks of objects (``git fsck --strict``), is connected (the
objects name each other and the old value alone), and is a fast-forward.
Source: gitprotocol-pack(5), git-fsck(1); docs/protocol.md tells what a claim is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bzzz.core.record import RECORD_BYTES_MAX
from bzzz.forge.embedded.pktline import ZERO_ID, RefUpdate, pkt
from bzzz.gitformat.pack import GitObject, Kind, read_pack
from bzzz.gitformat.pktline import Mark, decode

CLAIM_PUSH_BYTES_MAX = RECORD_BYTES_MAX + 8 * 1024
"""The largest record, in a pack that could not make it smaller, with its tree, commit and command."""
_OBJECTS = 3
_COMMAND = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40}) (refs/bzzz/claims/[1-9][0-9]{0,15})")
_NEEDED = frozenset({"report-status", "side-band-64k"})
_KNOWN = _NEEDED | {"object-format=sha1"}
_PERSON = r"[^<>\n\0]+ <[^<>\n\0]*> (?:0|[1-9][0-9]{0,11}) [+-][0-9]{4}\n"
_COMMIT = re.compile(
    rf"tree ([0-9a-f]{{40}})\n(?:parent ([0-9a-f]{{40}})\n)?author {_PERSON}committer {_PERSON}\n[^\0]*"
)
_TREE_HEAD = b"100644 claim.json\0"


@dataclass(frozen=True, slots=True)
class ClaimPush:
    """One claim: ``objects`` are its commit, tree and blob, in the order in which they may be stored."""

    update: RefUpdate
    objects: tuple[GitObject, ...]

    def report(self) -> bytes:
        """Git's answer to a push that was carried out, in the side band that was asked for."""
        said = pkt(b"unpack ok\n") + pkt(f"ok {self.update.ref}\n".encode()) + b"0000"
        return pkt(b"\x01" + said) + b"0000"


def read_claim_push(body: bytes) -> ClaimPush | None:
    """The claim that the body of a ``git-receive-pack`` request pushes; ``None`` if it is anything else."""
    try:
        packets = decode(body)
        command, _ = next(packets)
        flush, at = next(packets)
        if isinstance(command, Mark) or flush is not Mark.FLUSH:
            return None
        update = _read_command(command)
        if update is None:
            return None
        found = read_pack(
            body[at:],
            objects_max=_OBJECTS,
            object_bytes_max=RECORD_BYTES_MAX,
            inflated_bytes_max=_OBJECTS * RECORD_BYTES_MAX,
        )
    except (ValueError, StopIteration):
        return None
    objects = _read_objects(update, found)
    return None if objects is None else ClaimPush(update, objects)


def _read_command(command: bytes) -> RefUpdate | None:
    try:
        text, _, capabilities = command.decode("ascii").partition("\0")
    except UnicodeDecodeError:
        return None
    words = frozenset(word for word in capabilities.split() if not word.startswith("agent="))
    match = _COMMAND.fullmatch(text)
    if match is None or not _NEEDED <= words <= _KNOWN or match[2] == ZERO_ID:
        return None
    return RefUpdate(match[3], match[1], match[2])


def _read_objects(update: RefUpdate, found: Mapping[str, GitObject]) -> tuple[GitObject, ...] | None:
    commit = found.get(update.new)
    if commit is None or commit.kind is not Kind.COMMIT or len(found) != _OBJECTS:
        return None
    head = _COMMIT.fullmatch(_text(commit))
    if head is None or (head[2] or ZERO_ID) != update.old:
        return None
    tree = found.get(head[1])
    blob = next((item for item in found.values() if item.kind is Kind.BLOB), None)
    if tree is None or tree.kind is not Kind.TREE or blob is None:
        return None
    if tree.data != _TREE_HEAD + bytes.fromhex(blob.id) or not _text(blob):
        return None
    return blob, tree, commit


def _text(item: GitObject) -> str:
    """The object as UTF-8; empty if it is none.

    Git refuses content made to collide with another's SHA-1, and Python does not know it. The blocks that make a
    collision are as good as random, so what is text as a whole holds none.
    """
    try:
        return item.data.decode()
    except UnicodeDecodeError:
        return ""

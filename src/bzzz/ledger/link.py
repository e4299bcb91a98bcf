"""One link of a claim chain: a record as a git commit, and a commit read back as a record.

Pure. The commit is a function of the record and its parent alone (its date is the record's ``noted_at``,
its author the holder), so the same record after the same version is the same version, on every node and
however often it is pushed. That makes a push that is sent twice harmless, and it is why each record needs
a nonce: without one, two claimers could make the same commit and both believe that it is theirs.
Where the ref of a task is, and what a commit must look like to be believed, is decided here too.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord, Version
from bzzz.core.task import TaskId
from bzzz.gitformat.pack import GitObject, Kind

CLAIMS = "refs/bzzz/claims/"
RESCUES = "refs/bzzz/rescue/"
RECORD_FILE = b"claim.json"
_BLOB_MODE = b"100644"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")
_COMMIT_PARENT = re.compile(rb"parent ([0-9a-f]{40})")
_COMMIT_TREE = re.compile(rb"tree ([0-9a-f]{40})")


def claim_ref(number: int) -> str:
    """The ref of a task's claim chain."""
    return f"{CLAIMS}{number}"


def claim_number(ref: str) -> int | None:
    """The issue number of a claim ref; ``None`` if it is no claim ref that ``claim_ref`` makes."""
    number = ref.removeprefix(CLAIMS)
    return int(number) if ref.startswith(CLAIMS) and _NUMBER.fullmatch(number) else None


def rescue_ref(number: int, epoch: int, copy: int = 1) -> str:
    """Where work of one epoch is saved; ``copy`` counts different work saved for the same epoch."""
    return f"{RESCUES}{number}/{epoch}" + (f"-{copy}" if copy > 1 else "")


def is_object_id(text: str) -> bool:
    """Whether this is a full SHA-1 object id in lower case."""
    return _OBJECT_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Link:
    """A record with the version before it (``None``: it is the first)."""

    record: ClaimRecord
    parent: Version | None


def make_link(link: Link) -> tuple[Version, tuple[GitObject, ...]]:
    """The version that a record gets, and the three objects that are pushed for it.

    Raises:
        ValueError: the record is above ``RECORD_BYTES_MAX``.
    """
    data = link.record.to_bytes()
    if len(data) > RECORD_BYTES_MAX:
        raise ValueError(f"a claim record of {len(data)} bytes is above {RECORD_BYTES_MAX}")
    blob = GitObject(Kind.BLOB, data)
    tree = GitObject(Kind.TREE, _BLOB_MODE + b" " + RECORD_FILE + b"\x00" + bytes.fromhex(blob.id))
    holder = link.record.holder
    person = f"{_name(holder.agent)} <{_name(holder.peer)}@bzzz.invalid> {_seconds(link.record.noted_at)} +0000"
    lines = [f"tree {tree.id}"]
    if link.parent is not None:
        lines.append(f"parent {link.parent}")
    lines += [f"author {person}", f"committer {person}", "", _subject(link.record), ""]
    commit = GitObject(Kind.COMMIT, "\n".join(lines).encode())
    return Version(commit.id), (commit, tree, blob)


def read_link(version: Version, task: TaskId, objects: Mapping[str, GitObject]) -> Link:
    """Read the record that a claim ref of ``task`` points at, which anyone with push access may have written.

    Raises:
        ValueError: it is no commit, has several parents, no ``claim.json``, none that is a record, or is a
            record of another task.
    """
    commit = objects.get(version)
    if commit is None:
        raise ValueError("the object is missing or too large")
    if commit.kind is not Kind.COMMIT:
        raise ValueError(f"it is a {commit.kind.word.decode()}, not a commit")
    header = commit.data.partition(b"\n\n")[0].split(b"\n")
    tree_line = _COMMIT_TREE.fullmatch(header[0])
    parents = [match[1].decode() for line in header[1:] if (match := _COMMIT_PARENT.fullmatch(line))]
    if tree_line is None:
        raise ValueError("its commit names no tree")
    if len(parents) > 1:
        raise ValueError(f"its commit has {len(parents)} parents")
    blob_id = _record_blob(objects.get(tree_line[1].decode()))
    blob = objects.get(blob_id)
    if blob is None or blob.kind is not Kind.BLOB:
        raise ValueError("its claim.json is missing or too large")
    record = ClaimRecord.from_bytes(blob.data)
    if record.task != task:
        raise ValueError(f"its record is of another task, {str(record.task)[:80]!r}")
    record.to_bytes()  # JSON can spell a lone surrogate, which nobody could write or gossip again
    return Link(record, Version(parents[0]) if parents else None)


def parent_of(version: Version, objects: Mapping[str, GitObject]) -> Version | None:
    """The first parent that a commit names, whatever else it holds."""
    commit = objects.get(version)
    if commit is None or commit.kind is not Kind.COMMIT:
        return None
    for line in commit.data.partition(b"\n\n")[0].split(b"\n"):
        if match := _COMMIT_PARENT.fullmatch(line):
            return Version(match[1].decode())
    return None


def _record_blob(tree: GitObject | None) -> str:
    if tree is None or tree.kind is not Kind.TREE:
        raise ValueError("its tree is missing or too large")
    at = 0
    while at < len(tree.data):
        end = tree.data.find(b"\x00", at)
        if end < 0 or end + 21 > len(tree.data):
            break
        mode, _, name = tree.data[at:end].partition(b" ")
        if name == RECORD_FILE and mode == _BLOB_MODE:
            return tree.data[end + 1 : end + 21].hex()
        at = end + 21
    raise ValueError("its tree holds no claim.json")


def _subject(record: ClaimRecord) -> str:
    text = f"{record.task}: {record.state.value} by {record.holder.agent}, epoch {record.epoch}"
    if record.reason:
        text += f": {record.reason}"
    return "".join(character if character.isprintable() else " " for character in text)[:300]


def _name(text: str) -> str:
    """A name that cannot break a commit's header: git refuses ``<``, ``>`` and line ends in it."""
    kept = "".join(character for character in text if character.isprintable() and character not in "<>")
    return kept.strip(" .,:;'\"\\")[:100] or "unnamed"


def _seconds(noted_at: str | None) -> int:
    """Seconds since the Unix epoch of an RFC 3339 time; 0 where there is none, for the date decides nothing."""
    try:
        noted = datetime.datetime.fromisoformat(noted_at or "")
        if noted.tzinfo is None:
            noted = noted.replace(tzinfo=datetime.UTC)
        return max(0, int(noted.timestamp()))
    except (ValueError, OverflowError):
        return 0

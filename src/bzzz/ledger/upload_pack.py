"""What is sent to ``git-upload-pack`` and what it answers, in protocol version 2.

Pure. Version 2 lets a client ask for refs by prefix and for one commit by id, each in one request with no
advertisement before it; default servers of git 2.26 and later, and the large forges, speak it. A server
that does not answers with an error, which is raised as ``ErrorPacket``. Source: gitprotocol-v2(5).
"""

from __future__ import annotations

from collections.abc import Sequence

from bzzz.gitformat.pktline import ErrorPacket, Mark, decode, encode, plain, split_bands
from bzzz.ledger.link import is_object_id


def ls_refs_request(prefixes: Sequence[str], *, agent: str) -> bytes:
    """Ask for the refs that begin with any of ``prefixes``."""
    lines = [encode(f"ref-prefix {prefix}\n".encode()) for prefix in prefixes]
    return _command("ls-refs", agent, lines)


def fetch_request(wants: Sequence[str], *, depth: int | None, agent: str) -> bytes:
    """Ask for a pack with the commits ``wants``, and their parents down to ``depth`` (``None``: all)."""
    lines = [encode(b"no-progress\n")]
    lines += [encode(f"want {want}\n".encode()) for want in wants]
    if depth is not None:
        lines.append(encode(b"deepen %d\n" % depth))
    lines.append(encode(b"done\n"))
    return _command("fetch", agent, lines)


def read_refs(body: bytes) -> dict[str, str]:
    """The refs of an ``ls-refs`` answer, name to object id.

    Raises:
        ErrorPacket: the server said what is wrong.
        ValueError: it is not such an answer, or not a whole one.
    """
    if not body:
        raise ValueError(
            "the answer is empty: git gave up on the server, whose log says why "
            "(one cause: the repository uses SHA-256 object names, which claims do not support)"
        )
    refs: dict[str, str] = {}
    for packet, _ in decode(body):
        if packet is Mark.FLUSH:
            return refs
        if isinstance(packet, Mark):
            raise ValueError("a listing of refs holds an unexpected mark")
        _raise_if_error(packet)
        words = packet.rstrip(b"\n").decode("utf-8", "replace").split(" ")
        if len(words) < 2 or not (is_object_id(words[0]) or words[0] == "unborn"):
            raise ValueError(f"a listing of refs holds {plain(packet)[:60]!r}")
        if words[0] != "unborn":
            refs[words[1]] = words[0]
    raise ValueError("a listing of refs has no end")


def read_fetch(body: bytes) -> bytes:
    """The pack of a ``fetch`` answer.

    Raises:
        ErrorPacket: the server said what is wrong.
        ValueError: it is not such an answer, or not a whole one.
    """
    for packet, end in decode(body):
        if isinstance(packet, Mark):
            continue
        _raise_if_error(packet)
        if packet.rstrip(b"\n") == b"packfile":
            bands = split_bands(decode(body, end))
            if bands.fatal is not None:
                raise ErrorPacket(bands.fatal)
            return bands.data
    raise ValueError("the answer to a fetch holds no pack")


def _command(name: str, agent: str, lines: Sequence[bytes]) -> bytes:
    head = encode(f"command={name}\n".encode()) + encode(f"agent={agent}\n".encode())
    return b"".join((head, Mark.DELIMITER.value, *lines, Mark.FLUSH.value))


def _raise_if_error(packet: bytes) -> None:
    if packet.startswith(b"ERR "):
        raise ErrorPacket(plain(packet[4:]))

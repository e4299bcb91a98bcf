from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.gitformat.pktline import ErrorPacket, Mark, decode, encode
from bzzz.ledger.receive_pack import (
    ABSENT,
    RefUpdate,
    Refusal,
    classify,
    is_ref,
    push_request,
    read_capabilities,
    read_report,
)

OLD, NEW = "1" * 40, "2" * 40
CLAIM = RefUpdate("refs/bzzz/claims/1", None, NEW)
BRANCH = RefUpdate("refs/heads/bzzz/task-1", None, OLD)
REPORT = (
    encode(b"unpack ok\n") + encode(b"ok refs/bzzz/claims/1\n") + encode(b"ng refs/heads/x stale info\n") + b"0000"
)


@pytest.mark.parametrize("values", [(OLD, ABSENT), (ABSENT, NEW), (OLD, ""), ("", NEW), (OLD, "HEAD")])
def test_a_deletion_or_an_unnamed_old_value_cannot_be_expressed(values: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="object id"):
        RefUpdate("refs/bzzz/claims/1", *values)


def test_a_push_names_every_old_value_and_the_capabilities_once() -> None:
    body = push_request([CLAIM, RefUpdate("refs/heads/x", OLD, NEW)], b"PACK", agent="bzzz/1", atomic=True)
    (first, _), (second, _), (mark, end) = itertools.islice(decode(body), 3)
    assert isinstance(first, bytes)
    line, _, capabilities = first.partition(b"\x00")
    assert line == f"{ABSENT} {NEW} refs/bzzz/claims/1".encode()
    assert capabilities.split() == [
        b"atomic",
        b"report-status",
        b"side-band-64k",
        b"object-format=sha1",
        b"agent=bzzz/1",
    ]
    assert second == f"{OLD} {NEW} refs/heads/x".encode()
    assert mark is Mark.FLUSH
    assert body[end:] == b"PACK"
    assert b"atomic" not in push_request([CLAIM], b"", agent="bzzz/1", atomic=False)


@pytest.mark.parametrize("banded", [True, False])
def test_a_report_is_read_with_and_without_bands(banded: bool) -> None:
    body = encode(b"\x02error: why\n") + encode(b"\x01" + REPORT) + b"0000" if banded else REPORT
    report = read_report(body)
    assert report.unpack == "ok"
    assert report.accepted == {"refs/bzzz/claims/1"}
    assert report.refusals == {"refs/heads/x": "stale info"}
    assert report.messages == ("error: why" if banded else "")
    assert report.stands([CLAIM])
    assert not report.stands([CLAIM, BRANCH])


def test_nothing_stands_where_the_objects_were_not_taken() -> None:
    body = encode(b"unpack disk full\n") + encode(b"ok refs/bzzz/claims/1\n") + b"0000"
    assert not read_report(body).stands([CLAIM])


@pytest.mark.parametrize(
    "body", [b"", b"0000", REPORT[:-4], REPORT[4:], encode(b"ok refs/x\n") + b"0000", b"<html>"]
)
def test_half_a_report_is_none(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_report(body)


def test_a_fatal_word_is_told() -> None:
    with pytest.raises(ErrorPacket, match="out of memory"):
        read_report(encode(b"\x03out of memory\n") + b"0000")
    with pytest.raises(ErrorPacket, match="no such"):
        read_report(encode(b"ERR no such repository\n"))


@given(
    st.one_of(st.binary(max_size=300), st.lists(st.binary(max_size=60)).map(lambda it: b"".join(map(encode, it))))
)
def test_garbage_raises_a_value_error_alone(data: bytes) -> None:
    for body in (data, data + b"0000", encode(b"\x01" + data[:1000]) + b"0000"):
        for read in (read_report, read_capabilities):
            with contextlib.suppress(ValueError):
                read(body)


@pytest.mark.parametrize(
    ("reason", "messages", "expected"),
    [
        ("failed to update ref", "error: cannot lock ref 'r': is at 1 but expected 2", Refusal.STALE),
        ("failed to update ref", "error: cannot lock ref 'r': reference already exists", Refusal.STALE),
        ("failed to update ref", "error: cannot lock ref 'r': unable to resolve reference 'r'", Refusal.STALE),
        ("incorrect old value provided", "", Refusal.STALE),
        ("fetch first", "", Refusal.STALE),
        ("stale info", "", Refusal.STALE),
        (
            "atomic transaction failed",
            "cannot lock ref 'r': Unable to create '/x/r.lock': File exists.",
            Refusal.LOCKED,
        ),
        (
            "atomic transaction failed",
            "error: 'refs/heads/bzzz' exists; cannot create 'refs/heads/bzzz/t'",
            Refusal.BLOCKED,
        ),
        ("refname conflict", "", Refusal.BLOCKED),
        ("protected branch hook declined", "", Refusal.POLICY),
        ("pre-receive hook declined", "I write: is at 1 but expected 2", Refusal.POLICY),
        ("deny updating a hidden ref", "", Refusal.POLICY),
        ("failed", "remote: error: GH006: Protected branch update failed", Refusal.POLICY),
        ("failed to update ref", "", Refusal.UNKNOWN),
        ("atomic push failure", "", Refusal.UNKNOWN),
    ],
)
def test_reasons_are_sorted(reason: str, messages: str, expected: Refusal) -> None:
    assert classify(reason, messages) is expected


ADVERTISED = encode(f"{OLD} refs/heads/main\x00report-status atomic ofs-delta agent=git/2\n".encode())


@pytest.mark.parametrize("head", [b"", encode(b"# service=git-receive-pack\n") + b"0000"])
@pytest.mark.parametrize("rest", [b"", b"0000", b"00ffcut off here"])
def test_capabilities_are_read_from_the_beginning_of_an_advertisement(head: bytes, rest: bytes) -> None:
    assert read_capabilities(head + ADVERTISED + rest) == {"report-status", "atomic", "ofs-delta", "agent=git/2"}


@pytest.mark.parametrize("body", [b"", b"0000", encode(b"# service=x\n") + b"0000", encode(b"hello\n"), b"<html>"])
def test_what_is_no_advertisement_has_no_capabilities(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_capabilities(body)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/main", True),
        ("refs/heads/bzzz/task-1-abc", True),
        ("refs/heads/ünïcode", True),
        ("refs/heads/", False),
        ("refs/heads", False),
        ("heads/main", False),
        ("refs/heads/a..b", False),
        ("refs/heads/.a", False),
        ("refs/heads/a.", False),
        ("refs/heads/a.lock/b", False),
        ("refs/heads/a@{1}", False),
        ("refs/heads/a\nb", False),
        ("refs/heads/a\x00b", False),
        ("refs/heads/a b", False),
        ("refs/heads/" + "a" * 300, False),
    ],
)
def test_ref_names_are_those_that_git_allows(ref: str, expected: bool) -> None:
    assert is_ref(ref) is expected

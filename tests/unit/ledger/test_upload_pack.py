from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.gitformat.pktline import ErrorPacket, encode
from bzzz.ledger.upload_pack import fetch_request, ls_refs_request, read_fetch, read_refs

ID = "1" * 40


def test_refs_are_asked_for_by_prefix() -> None:
    assert ls_refs_request(["refs/a/", "refs/b"], agent="bzzz/1") == (
        b"0014command=ls-refs\n0011agent=bzzz/1\n00010017ref-prefix refs/a/\n0016ref-prefix refs/b\n0000"
    )


@pytest.mark.parametrize("depth", [None, 1])
def test_versions_are_asked_for_with_their_depth(depth: int | None) -> None:
    body = fetch_request([ID], depth=depth, agent="bzzz/1")
    assert encode(f"want {ID}\n".encode()) in body
    assert (b"deepen 1\n" in body) == (depth == 1)
    assert body.endswith(b"0009done\n0000")


def test_refs_are_read_with_what_a_server_may_add() -> None:
    lines = [f"{ID} refs/a", f"{'2' * 40} refs/tags/t peeled:{ID}", "unborn HEAD symref-target:refs/heads/main"]
    body = b"".join(encode(f"{line}\n".encode()) for line in lines) + b"0000"
    assert read_refs(body) == {"refs/a": ID, "refs/tags/t": "2" * 40}


@pytest.mark.parametrize(
    "body", [b"", b"0001", encode(f"{ID} refs/a\n".encode()), encode(b"x refs/a\n") + b"0000", b"<html>"]
)
def test_what_is_no_whole_listing_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_refs(body)


@pytest.mark.parametrize("before", [b"", encode(b"shallow-info\n") + encode(b"shallow x\n") + b"0001"])
def test_a_pack_is_read_whatever_sections_come_before_it(before: bytes) -> None:
    body = before + encode(b"packfile\n") + encode(b"\x02words") + encode(b"\x01PA") + encode(b"\x01CK") + b"0000"
    assert read_fetch(body) == b"PACK"


def test_an_error_of_the_server_is_told() -> None:
    for read in (read_refs, read_fetch):
        with pytest.raises(ErrorPacket, match="not our ref"):
            read(encode(b"ERR upload-pack: not our ref 1"))
    with pytest.raises(ErrorPacket, match="dead"):
        read_fetch(encode(b"packfile\n") + encode(b"\x03dead") + b"0000")


@given(
    st.one_of(st.binary(max_size=300), st.lists(st.binary(max_size=60)).map(lambda it: b"".join(map(encode, it))))
)
def test_garbage_raises_a_value_error_alone(data: bytes) -> None:
    for body in (data, data + b"0000", encode(b"packfile\n") + data):
        for read in (read_refs, read_fetch):
            with contextlib.suppress(ValueError):
                read(body)

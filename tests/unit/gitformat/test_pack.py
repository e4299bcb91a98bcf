from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.bare_repository import git, try_git

from bzzz.gitformat.pack import GitObject, Kind, PackTooLarge, build_pack, read_header, read_pack

objects = st.lists(st.builds(GitObject, st.sampled_from(Kind), st.binary(max_size=9000)), max_size=6)


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha1(body).digest()


@given(objects)
def test_what_was_packed_is_read_back(items: list[GitObject]) -> None:
    assert read_pack(build_pack(items)) == {item.id: item for item in items}


@given(objects, objects)
def test_a_pack_put_beside_another_holds_both(items: list[GitObject], others: list[GitObject]) -> None:
    both = build_pack(items, build_pack(others))
    assert read_header(both) == len(items) + len(others)
    assert read_pack(both) == {item.id: item for item in (*items, *others)}


@given(st.binary(max_size=400))
def test_garbage_raises_a_value_error_alone(data: bytes) -> None:
    for candidate in (data, sealed(b"PACK" + data), sealed(b"PACK" + struct.pack(">II", 2, 2) + data)):
        with pytest.raises(ValueError):  # noqa: PT011  (which garbage it is does not matter)
            read_pack(candidate)


@given(objects.filter(bool), st.data())
def test_a_pack_with_a_changed_byte_is_refused(items: list[GitObject], data: st.DataObject) -> None:
    pack = bytearray(build_pack(items))
    at = data.draw(st.integers(min_value=0, max_value=len(pack) - 1))
    pack[at] ^= data.draw(st.integers(min_value=1, max_value=255))
    with pytest.raises(ValueError, match="pack"):
        read_pack(bytes(pack))
    body = bytes(pack[:-20])
    with contextlib.suppress(ValueError):
        read_pack(sealed(body))


def test_an_objects_id_is_gits(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", str(tmp_path))
    data = b"some content\n"
    expected = git(tmp_path, "hash-object", "-t", "blob", "--stdin", stdin=data).strip()
    assert GitObject(Kind.BLOB, data).id == expected


@pytest.mark.parametrize("offsets", [True, False])
def test_git_reads_our_objects_merged_with_a_pack_of_its_own(tmp_path: Path, offsets: bool) -> None:
    git(tmp_path, "init", "-q", "--bare", str(tmp_path))
    texts = [b"a line that is the same\n" * 200 + b"%d" % index for index in range(20)]
    ids = [git(tmp_path, "hash-object", "-w", "--stdin", stdin=text).strip() for text in texts]
    arguments = ["pack-objects", "--stdout", "-q"] + (["--delta-base-offset"] if offsets else [])
    path = tmp_path / "theirs.pack"
    theirs = try_git(tmp_path, *arguments, stdin="\n".join(ids).encode()).stdout
    mine = GitObject(Kind.BLOB, b"mine")
    path.write_bytes(build_pack([mine], theirs))
    git(tmp_path, "index-pack", str(path))
    listed = git(tmp_path, "show-index", stdin=path.with_suffix(".idx").read_bytes())
    assert {line.split()[1] for line in listed.splitlines()} == {mine.id, *ids}
    if not offsets:
        read = read_pack(path.read_bytes())
        assert {item.data for item in read.values()} == {b"mine", *texts}
        assert read_pack(path.read_bytes(), object_bytes_max=100) == {mine.id: mine}, "deltas of large ones too"


def entry(number: int, size: int, data: bytes) -> bytes:
    head = bytearray()
    byte, size = (number << 4) | (size & 15), size >> 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    return bytes(head) + data


def pack_of(*entries: bytes) -> bytes:
    return sealed(struct.pack(">4sII", b"PACK", 2, len(entries)) + b"".join(entries))


def test_an_object_above_the_bound_is_passed_over_and_the_rest_is_read() -> None:
    small = GitObject(Kind.BLOB, b"small")
    pack = build_pack([GitObject(Kind.BLOB, b"\x00" * 1_000_000), small])
    assert read_pack(pack) == {small.id: small}


def test_what_inflates_beyond_the_bound_is_given_up() -> None:
    bomb = build_pack([GitObject(Kind.BLOB, b"\x00" * 1_000_000)])
    with pytest.raises(PackTooLarge):
        read_pack(bomb, inflated_bytes_max=999_999)
    with pytest.raises(PackTooLarge):
        read_pack(sealed(struct.pack(">4sII", b"PACK", 2, 1000)), objects_max=999)


@pytest.mark.parametrize("size", [4, 6, 2**40])
def test_an_entry_that_lies_about_its_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"than it says|more than"):
        read_pack(pack_of(entry(3, size, zlib.compress(b"12345"))))


def test_an_entry_that_says_it_is_small_does_not_inflate_to_much() -> None:
    with pytest.raises(ValueError, match="longer than it says"):
        read_pack(pack_of(entry(3, 5, zlib.compress(b"\x00" * 50_000_000))))


BASE = GitObject(Kind.BLOB, b"0123456789")
BASE_ENTRY = entry(3, 10, zlib.compress(BASE.data))


def delta_entry(delta: bytes, base: str = BASE.id) -> bytes:
    return entry(7, len(delta), bytes.fromhex(base) + zlib.compress(delta))


@pytest.mark.parametrize("first", [True, False])
def test_deltas_are_resolved_wherever_their_base_stands(first: bool) -> None:
    made = GitObject(Kind.BLOB, b"0123-new")
    onto = delta_entry(b"\x0a\x08" + b"\x90\x04" + b"\x04-new")
    onto_that = delta_entry(b"\x08\x04" + b"\x91\x04\x04", made.id)
    entries = [BASE_ENTRY, onto, onto_that] if first else [onto_that, onto, BASE_ENTRY]
    last = GitObject(Kind.BLOB, b"-new")
    assert read_pack(pack_of(*entries)) == {item.id: item for item in (BASE, made, last)}


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (b"\x0b\x01\x01x", "another base"),
        (b"\x0a\x01\x00", "reserved"),
        (b"\x0a\x05\x91\x08\x05", "beyond its base"),
        (b"\x0a\x05\x05abc", "within an insertion"),
        (b"\x0a\x01\x02ab", "more than it says"),
        (b"\x0a\x03\x02ab", "less than it says"),
        (b"\x0a\x01\x91", "ends within"),
        (b"\x0a", "ends within"),
        (b"\xff" * 12, "no number"),
    ],
)
def test_a_delta_that_is_none_is_refused(delta: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_pack(pack_of(BASE_ENTRY, delta_entry(delta)))


@given(st.binary(max_size=60))
def test_a_garbage_delta_raises_a_value_error_or_makes_what_it_says(garbage: bytes) -> None:
    try:
        read = read_pack(pack_of(BASE_ENTRY, delta_entry(b"\x0a" + garbage)))
    except ValueError:
        return
    assert BASE.id in read


def test_a_delta_whose_base_is_missing_is_left_out() -> None:
    assert read_pack(pack_of(BASE_ENTRY, delta_entry(b"\x0a\x01\x01x", "1" * 40))) == {BASE.id: BASE}

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.record import ClaimRecord, Holder, RecordState, Version
from bzzz.core.task import TaskId
from bzzz.gitformat.pack import GitObject, Kind
from bzzz.ledger.link import Link, claim_number, claim_ref, make_link, read_link, rescue_ref

TASK = TaskId("acme/widgets", 42)
RECORD = ClaimRecord(TASK, 1, Holder("peer", "walnut"), RecordState.HELD, "nonce")
PARENT = Version("1" * 40)
words = st.text(max_size=80).filter(lambda text: not any(0xD800 <= ord(character) < 0xE000 for character in text))
records = st.builds(
    ClaimRecord,
    task=st.just(TASK),
    epoch=st.integers(min_value=1, max_value=2**52),
    holder=st.builds(Holder, words, words, st.integers(min_value=0, max_value=2**52)),
    state=st.sampled_from(RecordState),
    nonce=words,
    ttl_s=st.integers(min_value=0, max_value=2**52),
    branch=st.none() | words,
    commit=st.none() | words,
    pull_request=st.none() | words,
    reason=st.none() | words,
    strikes=st.integers(min_value=0, max_value=2**52),
    noted_at=st.none() | words,
)
parents = st.none() | st.just(PARENT)


@given(records, parents)
def test_a_record_is_read_back_from_its_commit(record: ClaimRecord, parent: Version | None) -> None:
    version, objects = make_link(Link(record, parent))
    assert read_link(version, TASK, {item.id: item for item in objects}) == Link(record, parent)


@given(records, parents)
def test_a_commits_header_cannot_be_broken_by_what_a_record_says(
    record: ClaimRecord, parent: Version | None
) -> None:
    header = make_link(Link(record, parent))[1][0].data.partition(b"\n\n")[0].split(b"\n")
    words_of_lines = [line.split(b" ")[0] for line in header]
    assert words_of_lines == [b"tree", *([b"parent"] if parent else []), b"author", b"committer"]


def test_the_same_record_after_the_same_version_is_the_same_version() -> None:
    assert make_link(Link(RECORD, PARENT)) == make_link(Link(dataclasses.replace(RECORD), PARENT))


@pytest.mark.parametrize(
    "other",
    [Link(dataclasses.replace(RECORD, nonce="other"), PARENT), Link(RECORD, None), Link(RECORD, Version("2" * 40))],
)
def test_another_nonce_or_another_parent_is_another_version(other: Link) -> None:
    assert make_link(other)[0] != make_link(Link(RECORD, PARENT))[0]


@pytest.mark.parametrize(
    ("noted_at", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86400),
        ("1970-01-02T01:00:00+01:00", 86400),
        ("1970-01-02", 86400),
        ("1900-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        (None, 0),
    ],
)
def test_the_commits_date_is_when_the_record_was_noted(noted_at: str | None, seconds: int) -> None:
    commit = make_link(Link(dataclasses.replace(RECORD, noted_at=noted_at), None))[1][0]
    assert f"> {seconds} +0000\n".encode() in commit.data


def planted(commit: bytes, *others: GitObject) -> tuple[Version, dict[str, GitObject]]:
    item = GitObject(Kind.COMMIT, commit)
    return Version(item.id), {found.id: found for found in (item, *others)}


BLOB = GitObject(Kind.BLOB, RECORD.to_bytes())
TREE = GitObject(Kind.TREE, b"100644 claim.json\x00" + bytes.fromhex(BLOB.id))
LINK_TREE = GitObject(Kind.TREE, b"120000 claim.json\x00" + bytes.fromhex(BLOB.id))
HEAD = f"tree {TREE.id}\n".encode()


@pytest.mark.parametrize(
    ("commit", "others", "text"),
    [
        (b"", (), "names no tree"),
        (b"tree zzz\n\n", (), "names no tree"),
        (HEAD + b"\n", (), "tree is missing"),
        (HEAD + b"\n", (TREE,), "claim.json is missing"),
        (f"tree {BLOB.id}\n\n".encode(), (BLOB,), "tree is missing"),
        (f"tree {LINK_TREE.id}\n\n".encode(), (LINK_TREE, BLOB), "no claim.json"),
        (HEAD + b"parent %s\n" % (b"1" * 40) + b"parent %s\n\n" % (b"2" * 40), (TREE, BLOB), "2 parents"),
    ],
)
def test_a_commit_that_is_no_record_says_why(commit: bytes, others: tuple[GitObject, ...], text: str) -> None:
    version, objects = planted(commit, *others)
    with pytest.raises(ValueError, match=text):
        read_link(version, TASK, objects)


def test_other_files_beside_the_record_do_not_disturb() -> None:
    tree = GitObject(Kind.TREE, b"100644 a\x00" + bytes(20) + TREE.data)
    version, objects = planted(f"tree {tree.id}\n\n".encode(), tree, BLOB)
    assert read_link(version, TASK, objects) == Link(RECORD, None)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_commits_and_trees_raise_a_value_error_alone(commit: bytes, tree: bytes) -> None:
    tree_object = GitObject(Kind.TREE, tree)
    for data in (commit, f"tree {tree_object.id}\n".encode() + commit):
        version, objects = planted(data, tree_object)
        with pytest.raises(ValueError):  # noqa: PT011  (which garbage it is does not matter)
            read_link(version, TASK, objects)


@given(st.integers(min_value=1, max_value=10**15))
def test_a_claim_ref_names_its_number(number: int) -> None:
    assert claim_number(claim_ref(number)) == number


@pytest.mark.parametrize(
    "ref", ["refs/bzzz/claims/0", "refs/bzzz/claims/01", "refs/bzzz/claims/1/2", "refs/heads/1", "1"]
)
def test_other_refs_name_none(ref: str) -> None:
    assert claim_number(ref) is None


def test_work_saved_again_for_an_epoch_gets_a_name_beside_the_first() -> None:
    assert [rescue_ref(4, 2, copy) for copy in (1, 2)] == ["refs/bzzz/rescue/4/2", "refs/bzzz/rescue/4/2-2"]

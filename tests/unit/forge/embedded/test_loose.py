"""Objects that the forge stores itself are git's own, and a failure leaves nothing in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.bare_repository import git

from bzzz.forge.embedded import loose
from bzzz.gitformat.pack import GitObject, Kind

BLOB = GitObject(Kind.BLOB, b"some content\n")
TREE = GitObject(Kind.TREE, b"100644 a\0" + bytes.fromhex(BLOB.id))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "--object-format=sha1", str(tmp_path))
    return tmp_path


def test_git_reads_what_was_stored(bare: Path) -> None:
    loose.store(bare, [BLOB, TREE])
    assert git(bare, "cat-file", "blob", BLOB.id) == "some content\n"
    assert BLOB.id in git(bare, "ls-tree", TREE.id)
    assert git(bare, "fsck", "--strict", "--full", "--no-dangling") == ""
    assert (bare / "objects" / BLOB.id[:2] / BLOB.id[2:]).stat().st_mode & 0o777 == 0o444


def test_an_object_that_stands_is_kept_as_it_is(bare: Path) -> None:
    git(bare, "hash-object", "-w", "--stdin", stdin=BLOB.data)
    stored = bare / "objects" / BLOB.id[:2] / BLOB.id[2:]
    before = stored.stat().st_ino
    loose.store(bare, [BLOB])
    assert stored.stat().st_ino == before


def test_nothing_is_left_behind_by_an_object_that_could_not_be_stored(bare: Path) -> None:
    (bare / "objects" / TREE.id[:2]).write_text("in the way")
    with pytest.raises(OSError, match=TREE.id[:2]):
        loose.store(bare, [BLOB, TREE])
    assert not list((bare / "objects").glob(f"{loose.QUARANTINE}*"))


def test_a_repository_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        loose.store(tmp_path / "gone.git", [BLOB])
    assert not (tmp_path / "gone.git").exists()

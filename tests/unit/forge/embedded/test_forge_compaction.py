"""Repositories of the embedded forge stay quick: refs and objects are packed while pushes go on.

It speaks for bzzz.forge.embedded.compaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, compaction, repository
from bzzz.forge.embedded.compaction import LOOSE_REFS_MAX, RETRY_S

ZERO = "0" * 40


@pytest.fixture
def forge(tmp_path: Path, manual_wall_s: list[float]) -> Iterator[EmbeddedForge]:
    made = EmbeddedForge(EmbeddedForgeSettings(tmp_path / "data"), wall_s=lambda: manual_wall_s[0])
    made.create_repository("team", "shop", files={"a": "b"})
    yield made
    made.close()


@pytest.fixture
def manual_wall_s() -> list[float]:
    return [1_000_000.0]


def folder_of(forge: EmbeddedForge) -> Path:
    return forge.folder(forge.row("team", "shop"))


def claim(forge: EmbeddedForge, number: int) -> None:
    """A claim's ref with an object of its own, as a push makes them."""
    folder = folder_of(forge)
    tree = forge.git.text(folder, "mktree")
    commit = forge.git.text(folder, "commit-tree", tree, "-m", f"claim {number}", extra=AUTHOR)
    repository.update_ref(forge.git, folder, f"refs/bzzz/claims/{number}", commit, ZERO)


AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "t"), ("EMAIL", "t@test.invalid"), ("DATE", "1700000000 +0000"))
}


def loose(forge: EmbeddedForge) -> int:
    return sum(path.is_file() for path in (folder_of(forge) / "refs").rglob("*"))


def point(forge: EmbeddedForge, count: int) -> None:
    """Many refs at once, to a commit that is there."""
    main = repository.resolve(forge.git, folder_of(forge), "refs/heads/main")
    lines = "".join(f"create refs/bzzz/claims/{number} {main}\n" for number in range(1, count + 1))
    forge.git.text(folder_of(forge), "update-ref", "--stdin", stdin=lines.encode())


def test_many_refs_become_one_file_and_all_of_them_stand(forge: EmbeddedForge) -> None:
    point(forge, LOOSE_REFS_MAX + 1)
    before = repository.refs(forge.git, folder_of(forge), "refs/")
    forge.compactor.run(forge.settings.data_dir)
    assert loose(forge) == 0
    assert repository.refs(forge.git, folder_of(forge), "refs/") == before
    assert forge.counters()["refs_packed"] == 1


def test_few_refs_and_objects_are_left_as_they_are(forge: EmbeddedForge) -> None:
    claim(forge, 1)
    forge.compactor.run(forge.settings.data_dir)
    assert loose(forge) == 2
    assert "refs_packed" not in forge.counters()
    assert "objects_packed" not in forge.counters()


def test_many_loose_objects_become_a_pack_and_those_that_no_ref_reaches_are_kept(
    forge: EmbeddedForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(forge)
    monkeypatch.setattr(compaction, "LOOSE_OBJECTS_MAX", 0)
    found: list[str] = []
    # Until one of them falls into the folder that is looked at.
    while not any(name.startswith(compaction._SAMPLE) for name in found):
        found.append(forge.git.text(folder, "hash-object", "-w", "--stdin", stdin=f"{len(found)}".encode()))
    claim(forge, 1)
    forge.compactor.run(forge.settings.data_dir)
    assert forge.counters()["objects_packed"] == 1
    assert list((folder / "objects" / "pack").glob("*.pack"))
    assert all(forge.git.text(folder, "cat-file", "-t", name) == "blob" for name in found)
    forge.git.text(folder, "fsck", "--strict")


def test_claims_that_are_written_while_refs_are_packed_all_stand(
    forge: EmbeddedForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "LOOSE_REFS_MAX", 0)
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(claim, forge, number) for number in range(1, 31)]
        while not all(writer.done() for writer in writers):
            forge.compactor.run(forge.settings.data_dir)
        for writer in writers:
            writer.result()
    standing = repository.refs(forge.git, folder_of(forge), "refs/bzzz/claims/")
    assert sorted(int(ref.rpartition("/")[2]) for ref in standing) == list(range(1, 31))
    assert "packings_failed" not in forge.counters()


def test_a_repository_that_cannot_be_packed_is_counted_and_left_alone_for_a_while(
    forge: EmbeddedForge, manual_wall_s: list[float]
) -> None:
    point(forge, LOOSE_REFS_MAX + 1)
    (folder_of(forge) / "packed-refs.lock").touch()
    for _ in range(2):
        forge.compactor.run(forge.settings.data_dir)
    assert forge.counters()["packings_failed"] == 1
    (folder_of(forge) / "packed-refs.lock").unlink()
    manual_wall_s[0] += RETRY_S
    forge.compactor.run(forge.settings.data_dir)
    assert loose(forge) == 0

"""The forge's folder: imports of hostile repositories, swept locks, diffs of every kind, transactions.

It speaks for bzzz.forge.embedded.importer and bzzz.forge.embedded.sweep.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.git_client import commit_file, git, run_git

from bzzz.errors import UsageError
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings, pull, repository
from bzzz.forge.embedded.diff import read_changes
from bzzz.forge.embedded.store import Store


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[EmbeddedForge]:
    made = EmbeddedForge(EmbeddedForgeSettings(tmp_path / "data"))
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    git(tmp_path, "init", "--quiet", "-b", "trunk", str(folder))
    commit_file(folder, "a.txt", "one\n")
    git(folder, "tag", "-a", "v1", "-m", "first")
    git(folder, "branch", "feature/x")
    commit_file(folder, "a.txt", "two\n")
    return folder


def refs(forge: EmbeddedForge, name: str) -> str:
    return git(forge.folder(forge.row("team", name)), "for-each-ref", "--format=%(refname) %(objectname)")


def test_all_branches_and_tags_come_in(forge: EmbeddedForge, source: Path, tmp_path: Path) -> None:
    git(source, "update-ref", "refs/remotes/origin/x", "HEAD")
    git(source, "pack-refs", "--all")
    git(source, "branch", "loose")
    info = forge.import_repository(source, "team", "shop")
    assert info.default_branch == "trunk"
    wanted = git(source, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
    assert refs(forge, "shop") == wanted
    folder = forge.folder(forge.row("team", "shop"))
    assert not (folder / "objects" / "info" / "alternates").exists()
    git(tmp_path, "clone", "--quiet", "--bare", str(source), "bare.git")
    git(source, "worktree", "add", "--quiet", str(tmp_path / "linked"), "feature/x")
    for path, name in ((tmp_path / "bare.git", "bare"), (tmp_path / "linked", "linked")):
        forge.import_repository(path, "team", name)
        assert "refs/heads/feature/x" in refs(forge, name)
    source.rename(tmp_path / "away")
    git(folder, "fsck", "--strict")


def test_nothing_of_a_hostile_source_is_run(forge: EmbeddedForge, source: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    script = f"touch {planted}; false"
    for key in ("core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand", "uploadpack.packObjectsHook",
                "core.pager", "core.editor", "diff.external", "credential.helper", "core.gitProxy"):  # fmt: skip
        git(source, "config", key, script)
    git(source, "config", "include.path", str(tmp_path / "more"))
    git(source, "config", "remote.evil.url", f"ext::sh -c '{script}'")
    git(source, "config", "extensions.partialClone", "evil")
    hooks = source / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("reference-transaction", "post-update", "pre-receive", "post-checkout", "update"):
        (hooks / hook).write_text(f"#!/bin/sh\n{script}\n")
        (hooks / hook).chmod(0o755)
    (tmp_path / "elsewhere").write_text(git(source, "rev-parse", "HEAD") + "\n")
    (source / ".git" / "refs" / "heads" / "evil").symlink_to(tmp_path / "elsewhere")
    (source / ".git" / "refs" / "heads" / "odd").write_text("--upload-pack=touch\n")

    forge.import_repository(source, "team", "shop")

    assert not planted.exists()
    assert "evil" not in refs(forge, "shop")
    folder = forge.folder(forge.row("team", "shop"))
    assert not (folder / "hooks").exists()
    assert "evil" not in (folder / "config").read_text()


def test_what_is_no_complete_repository_is_refused_and_leaves_nothing(
    forge: EmbeddedForge, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / ".git").write_text("gitdir: /nowhere\n")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{source}", "shallow")
    git(source, "update-ref", "refs/heads/broken", "HEAD")
    (source / ".git" / "refs" / "heads" / "broken").write_text("1" * 40 + "\n")
    for path, says in (
        (tmp_path / "absent", "is no folder"),
        (tmp_path / "plain", "no git repository"),
        (tmp_path / "lost", "no git repository"),
        (tmp_path / "shallow", "shallow"),
        (source, "missing or broken"),
    ):
        with pytest.raises(UsageError, match=says) as raised:
            forge.import_repository(path, "team", "shop")
        assert "\n" not in str(raised.value)
    assert forge.list_repositories() == []
    assert list((forge.settings.data_dir / "repositories").iterdir()) == []


def test_an_empty_repository_is_imported_empty(forge: EmbeddedForge, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "-b", "main", "empty")
    forge.import_repository(tmp_path / "empty", "team", "empty")
    assert refs(forge, "empty") == ""


def test_stale_locks_are_swept_and_live_ones_are_not(forge: EmbeddedForge) -> None:
    forge.create_repository("team", "shop", files={"a": "b"})
    folder = forge.folder(forge.row("team", "shop"))
    claims = folder / "refs" / "bzzz" / "claims"
    claims.mkdir(parents=True)
    old = time.time() - 60
    for path in (claims / "42.lock", folder / "packed-refs.lock"):
        path.touch()
        os.utime(path, (old, old))
    (claims / "43.lock").touch()

    with forge.activity.at_work(folder):
        assert forge.sweep() == []
    assert set(forge.sweep()) == {claims / "42.lock", folder / "packed-refs.lock"}
    assert (claims / "43.lock").exists()
    assert forge.counters()["locks_swept"] == 2
    commit = repository.resolve(forge.git, folder, "refs/heads/main")
    assert commit is not None
    repository.update_ref(forge.git, folder, "refs/bzzz/claims/42", commit, "0" * 40)


def test_no_git_starts_while_a_lock_is_being_judged(forge: EmbeddedForge, tmp_path: Path) -> None:
    started = threading.Event()

    def work() -> None:
        with forge.activity.at_work(tmp_path):
            started.set()

    with forge.activity.idle(tmp_path) as idle:
        assert idle
        thread = threading.Thread(target=work)
        thread.start()
        assert not started.wait(0.05)
    thread.join(5)
    assert started.is_set()


def test_every_kind_of_change_is_read_from_a_diff(forge: EmbeddedForge, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "-b", "main", "w")
    folder = tmp_path / "w"
    long = "".join(f"line {n}\n" for n in range(30))
    for file, content in (("gone.txt", "x\n"), ("moved.txt", long), ("kept.txt", "a\nb\n"), ("ü \t.txt", "1\n")):
        commit_file(folder, file, content)
    (folder / "binary").write_bytes(b"\x00\x01")
    git(folder, "add", "binary")
    git(folder, "commit", "--quiet", "-m", "binary")
    base = git(folder, "rev-parse", "HEAD")
    git(folder, "mv", "moved.txt", "sub.txt")
    git(folder, "rm", "--quiet", "gone.txt")
    (folder / "binary").write_bytes(b"\x00\x02")
    (folder / "kept.txt").write_text("a\nc\ndiff --git a/x b/x\n")
    (folder / "ü \t.txt").write_text("2\n")
    git(folder, "commit", "--quiet", "-am", "all")
    options = ("diff", "--find-renames", "--full-index")
    raw = run_git(folder, *options, "--raw", "--no-abbrev", "--numstat", "-z", base, "HEAD").stdout
    text = run_git(folder, *options, base, "HEAD").stdout
    found = {change.path: change for change in read_changes(raw.encode(), text.encode())}
    assert {path: (c.status, c.additions, c.deletions) for path, c in found.items()} == {
        "binary": ("modified", 0, 0), "gone.txt": ("removed", 0, 1), "kept.txt": ("modified", 2, 1),
        "sub.txt": ("renamed", 0, 0), "ü \t.txt": ("modified", 1, 1),
    }  # fmt: skip
    assert found["sub.txt"].previous == "moved.txt"
    assert found["kept.txt"].patch.endswith("+diff --git a/x b/x")
    assert found["binary"].patch == ""


def test_closing_words_are_found_in_a_text() -> None:
    assert pull.closes("Fixes #12, closes: #3 and resolved #7; see #9, prefixes #4") == [3, 7, 12]


def test_a_failed_write_leaves_nothing_and_writers_do_not_lose_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.sqlite3")
    with store.write() as db:
        db.execute("CREATE TABLE n (v INTEGER)")
        db.execute("INSERT INTO n VALUES (0)")

    def fail() -> None:
        with store.write() as db:
            db.execute("UPDATE n SET v = 100")
            raise RuntimeError

    def add(_: int) -> None:
        with store.write() as db:
            value = db.execute("SELECT v FROM n").fetchone()[0]
            db.execute("UPDATE n SET v = ?", (value + 1,))

    with pytest.raises(RuntimeError):
        fail()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    with store.read() as db:
        assert db.execute("SELECT v FROM n").fetchone()[0] == 200
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "forge.sqlite3").write_text("this is a letter, not a database, and it is long enough to tell")
    with pytest.raises(UsageError, match=r"forge\.sqlite3 cannot be opened"):
        EmbeddedForge(EmbeddedForgeSettings(tmp_path))


def test_the_folder_is_for_its_owner_alone(forge: EmbeddedForge) -> None:
    assert (forge.settings.data_dir / "forge.sqlite3").stat().st_mode & 0o077 == 0

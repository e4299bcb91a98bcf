"""The folder of one attempt: a tree for the agent, and beside it a git directory that no agent ever sees.

``tree`` is what the agent works in; its own ``.git`` is a gift to it and is never consulted again.
``host.git`` is where the node commits: laid out by hand, with objects borrowed from the mirror, with no
configuration but what the command line gives. Before git looks at the tree, everything that git could take
for a repository is moved out of it into ``aside`` (nothing is deleted), so nested repositories cannot bring
their own configuration, hooks or monitors, and links are never followed. Whether work is any good is the
business of ``proof``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bzzz.agents.git import Git, is_git_name, make_git_dir
from bzzz.agents.text import neutral
from bzzz.agents.tree import is_deep, remove, walk
from bzzz.errors import AgentError

NAMES_TOLD_MAX = 10
WORK_REF = "refs/bzzz/work"
HELP_FILE = ".bzzz/help.md"

_HOST_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_AGENT_CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tlogallrefupdates = true\n"
    "[user]\n\tname = {name}\n\temail = {email}\n[gc]\n\tauto = 0\n"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a commit, and what it says. ``when_s`` is in seconds since the Unix epoch."""

    agent_name: str
    email: str
    message: str
    when_s: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What the node committed. ``commit`` is ``None`` where the tree is that of the base.

    ``omitted`` are paths that could not be committed, with the reason; ``aside`` are embedded repositories
    and special files that were moved out of the tree.
    """

    commit: str | None
    omitted: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


class Workspace:
    """The files of one attempt below ``folder``; ``mirror`` is a bare repository that has ``base``."""

    def __init__(self, folder: Path, mirror: Path, base: str) -> None:
        self.folder = folder
        self.mirror = mirror
        self.base = base
        self.tree = folder / "tree"
        self.proof = folder / "proof"
        self.host = folder / "host.git"
        self.aside = folder / "aside"
        self._ready = folder / "ready"

    @property
    def git(self) -> Git:
        """The host's view of the agent's tree."""
        return Git(self.host, self.tree)

    @property
    def is_ready(self) -> bool:
        """Whether the tree was completely prepared, so that what differs from the base is work."""
        return self._ready.exists()

    def prepare(self, *, branch: str, name: str, email: str) -> None:
        """Check the base out into ``tree`` and give the agent a repository of its own.

        Raises:
            AgentError: git failed; the disk is full; the base is not in the mirror.
        """
        try:
            self.tree.mkdir()
            make_git_dir(
                self.host, alternates=[self.mirror / "objects"], config=_HOST_CONFIG, head="ref: " + WORK_REF
            )
            self.git.must("read-tree", "-u", "--reset", self.base)
            self._give_repository(self.tree, self.host / "index", self.base, branch=branch, name=name, email=email)
            self._ready.touch()
        except OSError as error:
            raise AgentError(f"the work tree {self.tree} could not be made: {error}") from error

    def checkout_proof(self, commit: str, *, branch: str, name: str, email: str) -> Path:
        """Check exactly ``commit`` out into a fresh ``proof`` folder, with a repository of its own.

        Raises:
            AgentError: git failed, or the disk is full.
        """
        index = self.folder / "proof.index"
        try:
            remove(self.proof)
            index.unlink(missing_ok=True)
            self.proof.mkdir()
            Git(self.host, self.proof, index).must("read-tree", "-u", "--reset", commit)
            self._give_repository(self.proof, index, commit, branch=branch, name=name, email=email)
        except OSError as error:
            raise AgentError(f"the folder {self.proof} could not be made: {error}") from error
        return self.proof

    def _give_repository(self, tree: Path, index: Path, commit: str, *, branch: str, name: str, email: str) -> None:
        alternates = (
            [self.mirror / "objects", self.host / "objects"] if tree == self.proof else [self.mirror / "objects"]
        )
        plain = neutral(name, chars_max=100, lines=False).replace("\\", "").replace('"', "")
        config = _AGENT_CONFIG.format(name=f'"{plain}"', email=f'"{email}"')
        make_git_dir(tree / ".git", alternates=alternates, config=config, head=f"ref: refs/heads/{branch}")
        ref = tree / ".git/refs/heads" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(f"{commit}\n", encoding="ascii")
        shutil.copyfile(index, tree / ".git/index")

    def read_base(self, path: str, bytes_max: int) -> bytes | None:
        """A file as it is in the base commit; ``None`` where there is none, or it is no plain file.

        Raises:
            AgentError: it is larger than ``bytes_max``.
        """
        git = Git(self.host)
        listed = git.must("ls-tree", "-z", self.base, "--", path)
        if not listed.startswith((b"100644 blob ", b"100755 blob ")):
            return None
        blob = listed.split(b"\t", 1)[0].split()[2].decode("ascii")
        size = int(git.word("cat-file", "-s", blob))
        if size > bytes_max:
            raise AgentError(f"{path} of {self.base[:12]} has {size} bytes; at most {bytes_max} are read")
        return git.must("cat-file", "blob", blob)

    def changed(self, commit: str) -> list[str]:
        """Paths that differ between the base and ``commit``; a rename is two of them."""
        output = Git(self.host).must(
            "diff-tree",
            "-r",
            "-z",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            self.base,
            commit,
        )
        return [os.fsdecode(name) for name in output.split(b"\0") if name]

    def save(self, signature: Signature, *, work_bytes_max: int) -> Saved:
        """Commit all that differs from the base under ``WORK_REF`` of the host's git directory.

        Only to be called when no process of the attempt lives. Repeatable: the same tree gives the same
        answer, also after an earlier call was killed.

        Raises:
            AgentError: it could not be committed (a full disk, a tree that is no folder any more).
        """
        if not self.is_ready:
            return Saved(None)
        try:
            if not stat.S_ISDIR(self.tree.lstat().st_mode):
                raise AgentError(
                    f"{self.tree} is no folder any more; what the agent made is not where it should be"
                )
            for lock in (self.host / "index.lock", self.host / f"{WORK_REF}.lock"):
                lock.unlink(missing_ok=True)
            moved = tuple(self._set_aside())
        except OSError as error:
            raise AgentError(f"the work tree {self.tree} could not be read: {error}") from error
        omitted = self._stage(work_bytes_max)
        tree = self.git.word("write-tree")
        if tree == self.git.word("rev-parse", "--verify", f"{self.base}^{{tree}}"):
            return Saved(None, omitted, moved)
        return Saved(self._commit(tree, signature), omitted, moved)

    def _commit(self, tree: str, signature: Signature) -> str:
        name = neutral(signature.agent_name, chars_max=100, lines=False).strip(" <>") or "agent"
        when = f"@{signature.when_s} +0000"
        environment = {
            "GIT_AUTHOR_NAME": name.replace("<", "").replace(">", ""),
            "GIT_AUTHOR_EMAIL": signature.email,
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_NAME": "Bzzz",
            "GIT_COMMITTER_EMAIL": signature.email,
            "GIT_COMMITTER_DATE": when,
        }
        made = self.git.must(
            "commit-tree",
            tree,
            "-p",
            self.base,
            given=signature.message.encode("utf-8", "replace"),
            environment=environment,
        )
        commit = made.decode("ascii").strip()
        self.git.must("update-ref", WORK_REF, commit)
        return commit

    def _stage(self, work_bytes_max: int) -> tuple[str, ...]:
        """Bring the index to what the tree holds, within the bound; what was left out, with reasons."""
        sizes = {}
        for name in self._unstaged():
            with contextlib.suppress(OSError):
                sizes[name] = os.lstat(os.path.join(os.fsencode(self.tree), name)).st_size  # noqa: PTH118
        total = sum(sizes.values())
        heavy: list[bytes] = []
        for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
            if total <= work_bytes_max:
                break
            heavy.append(name)
            total -= sizes[name]
        self._add(heavy)
        left = self._unstaged() - set(heavy)
        if left:
            # Broken attributes make git refuse whole files; their plain bytes are the work then.
            left = self._add_plain(sorted(left))
        said = [f"{_show(name)} ({sizes[name]} bytes: work_bytes_max is {work_bytes_max})" for name in heavy]
        said += [f"{_show(name)} (git could not add it)" for name in sorted(left)]
        more = len(said) - NAMES_TOLD_MAX
        return (*said[:NAMES_TOLD_MAX], *([f"and {more} more"] if more > 0 else []))

    def _unstaged(self) -> set[bytes]:
        """Paths that differ from the index, or are not in it; relative to the tree, as git has them."""
        listed = self.git.must("ls-files", "-z", "--others", "--modified", "--exclude-standard")
        return {name for name in listed.split(b"\0") if name}

    def _add_plain(self, names: list[bytes]) -> set[bytes]:
        """Add files without any conversion; those that could not be."""
        lines, failed = [], set()
        for name in names:
            path = os.path.join(os.fsencode(self.tree), name)  # noqa: PTH118 - the path may not be text
            try:
                kind = os.lstat(path).st_mode
                if stat.S_ISLNK(kind):
                    mode, content = b"120000", os.readlink(path)  # noqa: PTH115
                elif stat.S_ISREG(kind):
                    mode = b"100755" if kind & stat.S_IXUSR else b"100644"
                    content = _read_plain(path)
                else:
                    raise OSError
            except FileNotFoundError:
                lines.append(b"0 " + b"0" * 40 + b"\t" + name)
                continue
            except OSError:
                failed.add(name)
                continue
            blob = self.git.must("hash-object", "-w", "--no-filters", "--stdin", given=content).strip()
            lines.append(mode + b" " + blob + b"\t" + name)
        done = self.git.run("update-index", "-z", "--index-info", given=b"".join(line + b"\0" for line in lines))
        return failed if done.ok else set(names)

    def _add(self, without: list[bytes]) -> None:
        # The one command that needs magic pathspecs; these come from git's own listing, not from a pattern.
        environment = {"GIT_LITERAL_PATHSPECS": "0"}
        paths = b".\0" + b"".join(b":(exclude,literal,top)" + name + b"\0" for name in without)
        result = self.git.run(
            "add", "--all", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul",
            given=paths, environment=environment,
        )  # fmt: skip
        if not result.ok and "No space left" in result.error:
            raise AgentError(f"the disk is full: the work in {self.tree} could not be committed ({result.error})")

    def _set_aside(self) -> Iterator[str]:
        """Move out of the tree whatever git could take for a repository, and whatever is no file."""
        for entry, relative in walk(self.tree, mend=True):
            kind = entry.stat(follow_symlinks=False).st_mode
            odd = not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind))
            if not (odd or is_deep(relative) or is_git_name(entry.name) or relative == HELP_FILE):
                continue
            self.aside.mkdir(exist_ok=True)
            place = self.aside / f"{sum(1 for _ in self.aside.iterdir())}"
            os.rename(entry.path, place)  # noqa: PTH104 - the path may not be text
            if relative not in {".git", HELP_FILE}:
                yield neutral(relative, chars_max=200, lines=False)


def _read_plain(path: bytes) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        return file.read()


def _show(name: bytes) -> str:
    return neutral(os.fsdecode(name), chars_max=200, lines=False)

"""What the ledger's conformance suite needs of an adapter and its server, and the harnesses that give it.

A further adapter joins the suite by a class with ``LedgerHarness``'s methods and an entry in ``HARNESSES``
(``GIT_HARNESSES`` too, if its server keeps bare repositories on disk). A harness is made once a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from tests.support.bare_repository import BareRepository, git
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.git_server import GitServer

from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.gitformat.pack import GitObject, Kind
from bzzz.ledger.git_ref import GitRefLedger
from bzzz.ledger.link import claim_ref
from bzzz.ledger.memory import MemoryLedger, MemoryStore
from bzzz.ledger.push import PushBound
from bzzz.ports import Ledger, Work

Harness = TypeVar("Harness", bound="LedgerHarness")
LOCK_AGE_S = 600.0
"""When the embedded forge of these tests takes a lock file for one that a killed git left: no test gets there."""
SWEEP_PERIOD_S = 0.1
_NONCES = itertools.count(1)


def make_repository(git_url: str, name: str) -> Repository:
    return Repository(1, name, "acme", name, git_url, "http://127.0.0.1/api")


def make_record(
    repository: Repository,
    number: int,
    *,
    epoch: int = 1,
    agent: str = "walnut",
    state: RecordState = RecordState.HELD,
    nonce: str | None = None,
    reason: str | None = None,
    branch: str | None = None,
) -> ClaimRecord:
    """A record with a nonce of its own, unless one is given."""
    return ClaimRecord(
        task=TaskId(repository.key, number),
        epoch=epoch,
        holder=Holder(peer=f"peer-{agent}", agent=agent),
        state=state,
        nonce=nonce or f"nonce-{next(_NONCES)}",
        reason=reason,
        branch=branch,
        noted_at="2026-01-01T00:00:00Z",
    )


def follow(record: ClaimRecord, **changes: object) -> ClaimRecord:
    """The next record of the same chain, with a new nonce."""
    return dataclasses.replace(record, nonce=f"nonce-{next(_NONCES)}", **changes)  # type: ignore[arg-type]


class LedgerHarness(Protocol):
    """A server with the adapter's clients."""

    async def open(self, folder: Path) -> None: ...

    async def close(self) -> None: ...

    def repository(self, name: str = "widgets") -> Repository:
        """A fresh repository with a commit on ``main``."""
        ...

    def missing_repository(self) -> Repository:
        """One that the server does not have."""
        ...

    def client(self) -> Ledger:
        """A client with an own memory, as another node has it."""
        ...

    def work(self, repository: Repository, branch: str, content: str = "done") -> Work:
        """A new commit on top of ``main``, only on this machine."""
        ...

    def refs(self, repository: Repository) -> dict[str, str]:
        """What the server holds, asked past the adapter."""
        ...

    def set_branch(self, repository: Repository, branch: str) -> str:
        """Make a branch on the server, at a commit of its own; returns the commit."""
        ...

    def upload(self, repository: Repository, work: Work) -> None:
        """Make ``work.branch`` on the server at ``work.commit``, as a person who pushes it would."""
        ...

    def plant(self, repository: Repository, ref: str, files: dict[str, bytes]) -> str:
        """Point a ref at a commit with these files, as somebody with push access may; returns the commit."""
        ...

    def plant_blob(self, repository: Repository, ref: str) -> str:
        """Point a ref at an object that is no commit."""
        ...


class ProtectingHarness(LedgerHarness, Protocol):
    """One whose server knows branches that clients may not make."""

    def protect(self, repository: Repository, branch: str) -> None:
        """Have the server refuse to make this branch."""
        ...


class TokenHarness(LedgerHarness, Protocol):
    """One whose server knows clients that may only read."""

    def read_only_client(self) -> Ledger: ...


class MemoryHarness:
    """``MemoryLedger``: clients of one store."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    async def open(self, folder: Path) -> None:
        pass

    async def close(self) -> None:
        pass

    def repository(self, name: str = "widgets") -> Repository:
        repository = make_repository("memory:", name)
        self.store.add(repository.key)
        self.set_branch(repository, "main")
        return repository

    def missing_repository(self) -> Repository:
        return make_repository("memory:", "missing")

    def client(self) -> Ledger:
        return MemoryLedger(self.store)

    def read_only_client(self) -> Ledger:
        return MemoryLedger(self.store, read_only=True)

    def work(self, repository: Repository, branch: str, content: str = "done") -> Work:
        commit = hashlib.sha1(f"{branch} {content}".encode()).hexdigest()
        return Work(Path("/nowhere"), commit, self.refs(repository)["refs/heads/main"], branch)

    def refs(self, repository: Repository) -> dict[str, str]:
        return dict(self.store.repositories[repository.key].refs)

    def set_branch(self, repository: Repository, branch: str) -> str:
        return self.plant(repository, f"refs/heads/{branch}", {"README": branch.encode()})

    def upload(self, repository: Repository, work: Work) -> None:
        self.store.repositories[repository.key].refs[f"refs/heads/{work.branch}"] = work.commit

    def plant(self, repository: Repository, ref: str, files: dict[str, bytes]) -> str:
        blobs = {name: GitObject(Kind.BLOB, data) for name, data in files.items()}
        entries = (b"100644 %s\x00" % name.encode() + bytes.fromhex(blob.id) for name, blob in blobs.items())
        tree = GitObject(Kind.TREE, b"".join(entries))
        commit = GitObject(Kind.COMMIT, f"tree {tree.id}\nauthor a <a@b> 0 +0000\n\nx\n".encode())
        held = self.store.repositories[repository.key]
        held.objects.update({item.id: item for item in (*blobs.values(), tree, commit)})
        held.refs[ref] = commit.id
        return commit.id

    def plant_blob(self, repository: Repository, ref: str) -> str:
        blob = GitObject(Kind.BLOB, b"no commit")
        held = self.store.repositories[repository.key]
        held.objects[blob.id] = blob
        held.refs[ref] = blob.id
        return blob.id

    def protect(self, repository: Repository, branch: str) -> None:
        self.store.repositories[repository.key].protected.add(f"refs/heads/{branch}")


class GitHarness:
    """What git over a path and over HTTP share: bare repositories on disk."""

    push_bound = PushBound(first_wait_s=0.01)

    def __init__(self) -> None:
        self.folder = Path()
        self.clients: list[GitRefLedger] = []
        self._works = itertools.count(1)

    async def open(self, folder: Path) -> None:
        self.folder = folder

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    def bare(self, repository: Repository) -> BareRepository:
        return BareRepository(self.folder / "server" / f"{repository.key}.git")

    def git_url(self, key: str) -> str:
        raise NotImplementedError

    def repository(self, name: str = "widgets") -> Repository:
        repository = make_repository(self.git_url(f"acme/{name}"), name)
        BareRepository.create(self.bare(repository).path)
        return repository

    def missing_repository(self) -> Repository:
        return make_repository(self.git_url("acme/missing"), "missing")

    def client(self, token: str | None = None, push_bound: PushBound | None = None) -> GitRefLedger:
        client = GitRefLedger(lambda _: token, push_bound=push_bound or self.push_bound)
        self.clients.append(client)
        return client

    def work(self, repository: Repository, branch: str, content: str = "done") -> Work:
        bare = self.bare(repository)
        base = bare.refs()["refs/heads/main"]
        copy = bare.work_copy(self.folder / "works" / f"{next(self._works)}.git")
        commit = bare.commit("refs/heads/attempt", {"result": content.encode()}, parent=base, into=copy)
        return Work(copy, commit, base, branch)

    def refs(self, repository: Repository) -> dict[str, str]:
        return self.bare(repository).refs()

    def set_branch(self, repository: Repository, branch: str) -> str:
        return self.bare(repository).commit(f"refs/heads/{branch}", {"other": branch.encode()})

    def upload(self, repository: Repository, work: Work) -> None:
        source = f"{work.commit}:refs/heads/{work.branch}"
        git(work.git_dir, "push", "--quiet", str(self.bare(repository).path), source)

    def plant(self, repository: Repository, ref: str, files: dict[str, bytes]) -> str:
        return self.bare(repository).commit(ref, files)

    def plant_blob(self, repository: Repository, ref: str) -> str:
        bare = self.bare(repository)
        blob = git(bare.path, "hash-object", "-w", "--stdin", stdin=b"no commit").strip()
        bare.set_ref(ref, blob)
        return blob

    def protect(self, repository: Repository, branch: str) -> None:
        """By a hook, which the embedded forge does not run."""
        script = f'if [ "$1" = refs/heads/{branch} ]; then echo "protected branch" >&2; exit 1; fi'
        self.bare(repository).hook("update", script)

    def chain_ids(self, repository: Repository, number: int) -> list[str]:
        """The claim chain by the git program, newest first."""
        return git(self.bare(repository).path, "log", "--format=%H", claim_ref(number)).split()


class GitPathHarness(GitHarness):
    """``GitRefLedger`` on a repository on this machine."""

    def git_url(self, key: str) -> str:
        return f"file://{self.folder / 'server' / key}.git"


class GitHttpHarness(GitHarness):
    """``GitRefLedger`` over smart HTTP to a plain git server."""

    READ_ONLY_TOKEN = "read-only-token"
    WRITE_TOKEN = "write-token"

    def __init__(self) -> None:
        super().__init__()
        self.server = GitServer(Path())

    async def open(self, folder: Path) -> None:
        await super().open(folder)
        self.server = GitServer(folder / "server", {self.WRITE_TOKEN: True, self.READ_ONLY_TOKEN: False})
        self.server.start()

    async def close(self) -> None:
        await super().close()
        self.server.stop()

    def git_url(self, key: str) -> str:
        return self.server.git_url(key)

    def client(self, token: str | None = WRITE_TOKEN, push_bound: PushBound | None = None) -> GitRefLedger:
        return super().client(token, push_bound)

    def read_only_client(self) -> Ledger:
        return self.client(self.READ_ONLY_TOKEN)


class GitForgeHarness(GitHarness):
    """``GitRefLedger`` over smart HTTP to the embedded forge, which obeys no repository."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._server: ForgeServer | None = None
        self.write_token = self.read_only_token = ""

    @property
    def server(self) -> ForgeServer:
        assert self._server is not None
        return self._server

    async def open(self, folder: Path) -> None:
        await super().open(folder)
        quick = {"lock_age_s": LOCK_AGE_S, "sweep_period_s": SWEEP_PERIOD_S}
        self._server = self._stack.enter_context(running_forge(folder / "forge", **quick))
        self.write_token = self.server.forge.create_token("nodes", scope="write")
        self.read_only_token = self.server.forge.create_token("visitor", scope="read")

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._stack.close)

    def git_url(self, key: str) -> str:
        return self.server.forge.settings.git_url(*key.split("/"))

    def bare(self, repository: Repository) -> BareRepository:
        forge = self.server.forge
        return BareRepository(forge.folder(forge.row(repository.owner, repository.repository)))

    def repository(self, name: str = "widgets") -> Repository:
        self.server.forge.create_repository("acme", name, files={"README": "hello\n"})
        return make_repository(self.git_url(f"acme/{name}"), name)

    def client(self, token: str | None = None, push_bound: PushBound | None = None) -> GitRefLedger:
        return super().client(token or self.write_token, push_bound)

    def read_only_client(self) -> Ledger:
        return self.client(self.read_only_token)


HARNESSES: dict[str, Callable[[], LedgerHarness]] = {
    "memory": MemoryHarness,
    "git-path": GitPathHarness,
    "git-http": GitHttpHarness,
    "git-forge": GitForgeHarness,
}
GIT_HARNESSES: dict[str, Callable[[], GitHarness]] = {"git-path": GitPathHarness, "git-http": GitHttpHarness}
TOKEN_HARNESSES: dict[str, Callable[[], TokenHarness]] = {
    "memory": MemoryHarness,
    "git-http": GitHttpHarness,
    "git-forge": GitForgeHarness,
}
PROTECTING_HARNESSES: dict[str, Callable[[], ProtectingHarness]] = {"memory": MemoryHarness, **GIT_HARNESSES}
SERVER_HARNESSES: dict[str, Callable[[], GitHarness]] = {**GIT_HARNESSES, "git-forge": GitForgeHarness}
"""Those that claim on a git server of any kind; the servers of ``GIT_HARNESSES`` can be configured to misbehave."""


@contextlib.asynccontextmanager
async def opened(harness: Harness, folder: Path) -> AsyncIterator[Harness]:
    await harness.open(folder)
    try:
        yield harness
    finally:
        await harness.close()

"""Bare copies of repositories on this node: fetched once for all attempts, only the base branch.

Attempts borrow the mirror's objects and never write there. Concurrent attempts on one repository share one
fetch. The token reaches git in its environment, for the repository's own address alone, and redirects are
not followed, so it goes nowhere else; it is in no argument, address or file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bzzz.agents.git import git_command, git_environment, make_git_dir, readable_error
from bzzz.agents.process import MARK_ATTEMPT, MARK_NODE
from bzzz.agents.setting import AgentSettings
from bzzz.core.task import Repository
from bzzz.errors import (
    ServiceDenied,
    ServiceError,
    ServiceFaulty,
    ServiceLimited,
    ServiceMissing,
    ServiceUnavailable,
)

STALL_S_MAX = 30

_INHERITED = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


@dataclass(frozen=True, slots=True)
class Base:
    """Where an attempt begins: a commit, and the mirror that has it."""

    mirror: Path
    commit: str


class MirrorStore:
    """The mirrors below ``settings.mirrors``; ``token_for`` gives a repository's token, or ``None``."""

    def __init__(self, settings: AgentSettings, token_for: Callable[[Repository], str | None]) -> None:
        self._settings = settings
        self._token_for = token_for
        self._running: dict[tuple[str, str], asyncio.Task[Base]] = {}
        self.counters: Counter[str] = Counter()

    def path(self, repository: Repository) -> Path:
        """The mirror's folder: readable, and another one when the repository's address changes."""
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", repository.key)[:60]
        mark = hashlib.sha256(repository.git_url.encode()).hexdigest()[:12]
        return self._settings.mirrors / f"{readable}-{mark}.git"

    async def fetch(self, repository: Repository) -> Base:
        """Bring the base branch up to date; whoever asks meanwhile gets the same answer.

        Raises:
            ServiceError: the git server is away, denies, limits, or has no such repository or branch.
        """
        key = (repository.git_url, repository.branch)
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(repository))
            self._running[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        else:
            self.counters["fetches_shared"] += 1
        return await asyncio.shield(task)

    def _done(self, key: tuple[str, str], task: asyncio.Task[Base]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # who asked may be gone; the failure is not news to anybody then

    async def close(self) -> None:
        """End fetches that nobody waits for any more."""
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ServiceError):
                await task

    def sweep(self) -> int:
        """Remove locks that a killed git left; only while no fetch runs. How many there were."""
        locks = list(self._settings.mirrors.glob("*/**/*.lock"))
        for lock in locks:
            lock.unlink(missing_ok=True)
        return len(locks)

    async def _fetch(self, repository: Repository) -> Base:
        mirror = self.path(repository)
        where = f"git server of {repository.key}"
        self.counters["fetches"] += 1
        try:
            if not (mirror / "HEAD").exists():
                _create(mirror)
        except OSError as error:
            raise ServiceUnavailable(where, "keep a copy", f"{mirror}: {error}") from error
        ref = "refs/bzzz/base/" + hashlib.sha256(repository.branch.encode()).hexdigest()[:16]
        arguments = [
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force",
            "--", repository.git_url, f"refs/heads/{repository.branch}:{ref}",
        ]  # fmt: skip
        token = self._token_for(repository)
        status, said = await self._run(mirror, arguments, self._environment(repository, token))
        if token:
            said = said.replace(token, "***")
        if status != 0:
            self.counters["fetches_failed"] += 1
            raise classify(where, f"fetch branch {repository.branch}", said)
        commit = _read_ref(mirror, ref)
        if commit is None:
            raise ServiceUnavailable(where, "keep a copy", f"{mirror} does not have {ref} after the fetch")
        return Base(mirror, commit)

    def _environment(self, repository: Repository, token: str | None) -> dict[str, str]:
        config = {
            "http.followRedirects": "false",
            "http.lowSpeedLimit": "100",
            "http.lowSpeedTime": str(STALL_S_MAX),
        }
        if token and repository.git_url.startswith(("http://", "https://")):
            word = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            config[f"http.{repository.git_url}.extraHeader"] = f"Authorization: Basic {word}"
        extra = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        extra |= {
            "GIT_ALLOW_PROTOCOL": ":".join(self._settings.protocols),
            "GIT_CONFIG_COUNT": str(len(config)),
            MARK_NODE: self._settings.node,
            MARK_ATTEMPT: "fetch",
        }
        for number, (key, value) in enumerate(config.items()):
            extra[f"GIT_CONFIG_KEY_{number}"] = key
            extra[f"GIT_CONFIG_VALUE_{number}"] = value
        return git_environment(extra)

    async def _run(self, mirror: Path, arguments: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *git_command(mirror, None, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=dict(environment),
                cwd=mirror,
                start_new_session=True,
            )
        except OSError as error:
            return 127, f"the git program could not be started: {error}"
        try:
            async with asyncio.timeout(self._settings.fetch_s_max):
                _, error_output = await process.communicate()
        except TimeoutError:
            return 124, f"timed out: it did not end within {self._settings.fetch_s_max:g} s (fetch_s_max)"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0, readable_error(error_output)


def classify(where: str, what: str, error: str) -> ServiceError:
    """Who is to blame for a fetch that failed, from git's own words (locale C)."""
    low = error.lower()
    kind: type[ServiceError] = ServiceUnavailable
    if "error: 429" in low or "rate limit" in low:
        kind = ServiceLimited
    elif re.search(r"error: 40[13]|authentication failed|could not read (username|password)|access denied", low):
        kind = ServiceDenied
    elif re.search(
        r"error: (404|410)|not found|couldn't find remote ref|does not appear to be a git|not a git repository"
        r"|strange (pathname|hostname)"
        r"|transport '.*' not allowed|unable to update url base from redirection|does not exist",
        low,
    ):
        kind = ServiceMissing
    elif re.search(r"error: 5\d\d", low):
        kind = ServiceFaulty
    return kind(where, what, error)


def _create(mirror: Path) -> None:
    """Make an empty mirror in one step, so that a node killed meanwhile leaves none that is half made."""
    mirror.parent.mkdir(parents=True, exist_ok=True)
    fresh = mirror.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    make_git_dir(fresh, alternates=[], config=_CONFIG, head="ref: refs/heads/none")
    shutil.rmtree(mirror, ignore_errors=True)
    fresh.rename(mirror)


def _read_ref(mirror: Path, ref: str) -> str | None:
    try:
        commit = (mirror / ref).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit) else None

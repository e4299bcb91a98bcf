"""Runs the git program: with bytes in, bytes out, and nothing of the user's surroundings.

The environment holds a search path and git's own switches alone, so that neither a user's configuration nor
a secret in the node's environment reaches git or a hook. Output is bounded; a run that takes too long or is
cancelled is ended by TERM, at which git removes its lock files, and KILL only after ``TERM_GRACE_S``. What
the exit status means is left to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bzzz.errors import LedgerRefused
from bzzz.gitformat.pktline import plain

TERM_GRACE_S = 5.0
STDERR_BYTES_MAX = 8 * 1024
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended. ``overflowed``: it wrote more than was allowed, and was ended for that."""

    status: int
    output: bytes
    complaint: str
    overflowed: bool = False


async def run_git(
    arguments: Sequence[str],
    stdin: bytes,
    *,
    output_bytes_max: int,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run ``git <arguments>`` with ``stdin``.

    Raises:
        LedgerRefused: there is no git program.
        TimeoutError: it took longer than ``timeout_s``; it has been ended.
    """
    git = shutil.which("git")
    if git is None:
        raise LedgerRefused("the git program was not found on this machine: install git")
    process = await asyncio.create_subprocess_exec(
        git,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": f"{Path(git).parent}{os.pathsep}{os.defpath}",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            **(environment or {}),
        },
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(process, stdin, output_bytes_max)
    finally:
        if process.returncode is None:
            await asyncio.shield(_end(process))


async def _exchange(process: asyncio.subprocess.Process, stdin: bytes, output_bytes_max: int) -> Finished:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise LedgerRefused("git was started without pipes")
    _, (output, overflowed), (complaint, _) = await asyncio.gather(
        _feed(process.stdin, stdin),
        _drain(process, process.stdout, output_bytes_max, end_above=True),
        _drain(process, process.stderr, STDERR_BYTES_MAX, end_above=False),
    )
    return Finished(await process.wait(), output, plain(complaint), overflowed)


async def _feed(pipe: asyncio.StreamWriter, data: bytes) -> None:
    # A git that refuses early closes its end; its exit status and words tell why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(data)
        await pipe.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.close()
        await pipe.wait_closed()


async def _drain(
    process: asyncio.subprocess.Process, pipe: asyncio.StreamReader, bytes_max: int, *, end_above: bool
) -> tuple[bytes, bool]:
    kept = bytearray()
    overflowed = False
    while chunk := await pipe.read(_READ_BYTES):
        if len(kept) + len(chunk) <= bytes_max:
            kept += chunk
            continue
        kept += chunk[: bytes_max - len(kept)]
        if end_above and not overflowed:
            _signal(process, signal.SIGTERM)
        overflowed = True
    return bytes(kept), overflowed


async def _end(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(TERM_GRACE_S):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the whole group: git runs its parts and its hooks as children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

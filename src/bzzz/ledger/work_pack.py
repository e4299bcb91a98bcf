"""Packs finished work with the git program: the objects of a commit that the server does not have.

The repository it runs on is named with ``--git-dir``, and whatever its configuration would have git run
(hooks, a file system monitor, a fetch of what is missing) is turned off: agents work near it, though not in
it. The pack is bounded, for it is sent in one request together with the claim.
"""

from __future__ import annotations

from bzzz.errors import LedgerRefused
from bzzz.ledger.git_process import run_git
from bzzz.ports import Work


async def pack_work(work: Work, *, thin: bool, by_offset: bool, pack_bytes_max: int, timeout_s: float) -> bytes:
    """A pack of what ``work.commit`` has and ``work.base`` has not.

    ``thin`` may leave out delta bases that the server has, ``by_offset`` may name bases by their distance.

    Raises:
        LedgerRefused: a commit is not there, the pack is above ``pack_bytes_max``, git took too long or failed.
    """
    arguments = [f"--git-dir={work.git_dir}", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    arguments += ["-c", "protocol.allow=never"]
    arguments += ["pack-objects", "--revs", "--stdout", "-q"]
    arguments += ["--thin"] if thin else []
    arguments += ["--delta-base-offset"] if by_offset else []
    revisions = f"{work.commit}\n^{work.base}\n".encode()
    try:
        finished = await run_git(arguments, revisions, output_bytes_max=pack_bytes_max, timeout_s=timeout_s)
    except TimeoutError:
        raise LedgerRefused(f"{work.git_dir}: packing {work.commit} took more than {timeout_s:g} s") from None
    if finished.overflowed:
        raise LedgerRefused(
            f"{work.git_dir}: the work {work.commit} makes a pack above {pack_bytes_max} bytes; "
            "was something large committed by mistake?"
        )
    if finished.status != 0:
        raise LedgerRefused(f"{work.git_dir}: packing {work.commit} since {work.base} failed: {finished.complaint}")
    return finished.output

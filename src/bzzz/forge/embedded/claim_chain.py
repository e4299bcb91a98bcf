"""A task's claim chain as people read it: who held it, when, and why it moved.

The chain is whatever stands in ``refs/bzzz/claims/<number>``; anyone with push access may have written it,
so each record is parsed with care and a broken one is shown as such. It is shown here, never judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bzzz.core.record import RECORD_BYTES_MAX, ClaimRecord
from bzzz.forge.embedded import name, repository
from bzzz.forge.embedded.git import Git

LINKS_MAX = 200


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class Link:
    """One record of the chain; ``record`` is ``None`` where it cannot be read, and ``fault`` says why."""

    sha: str
    date: str
    record: ClaimRecord | None
    fault: str = ""

    @property
    def agent(self) -> str:
        """Who held it, fit to be shown."""
        return name.visible(self.record.holder.agent)[:80] if self.record else ""

    @property
    def when(self) -> str:
        """When the record was written, by its writer's word; a commit's own date is the same for all of them."""
        noted = self.record.noted_at if self.record else None
        return noted if noted and _TIME.fullmatch(noted) else ""


def read(git: Git, path: Path, number: int) -> list[Link]:
    """The chain of issue ``number``, oldest first, at most ``LINKS_MAX``; empty if it was never claimed."""
    ref = f"refs/bzzz/claims/{int(number)}"
    if repository.resolve(git, path, ref) is None:
        return []
    commits = repository.log(git, path, ref, LINKS_MAX, "--first-parent")
    wanted = "".join(f"{commit.sha}:claim.json\n" for commit in commits)
    out = git.run(
        path, "cat-file", "--batch", stdin=wanted.encode(), output_bytes_max=LINKS_MAX * RECORD_BYTES_MAX
    ).out
    links = []
    for commit in commits:
        head, _, out = out.partition(b"\n")
        words = head.split()
        if len(words) != 3 or not words[2].isdigit():
            links.append(Link(commit.sha, commit.date, None, "it holds no claim.json"))
            continue
        size = int(words[2])
        data, out = out[:size], out[size + 1 :]
        try:
            links.append(Link(commit.sha, commit.date, ClaimRecord.from_bytes(data)))
        except ValueError as error:
            links.append(Link(commit.sha, commit.date, None, name.visible(str(error))[:200]))
    return links[::-1]

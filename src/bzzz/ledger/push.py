"""What is pushed at once, and how often and how long it may be tried.

Pure. The order of work is in ``git_ref``, the meaning of the outcome in ``settle``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bzzz.core.task import Repository
from bzzz.gitformat.pack import GitObject, build_pack
from bzzz.ledger.receive_pack import RefUpdate, push_request


@dataclass(frozen=True, slots=True)
class PushBound:
    """Bounds of one push: how often the same is pushed, waits between (doubled each time), sizes."""

    pushes_max: int = 6
    looks_max: int = 3
    first_wait_s: float = 0.05
    pack_bytes_max: int = 64 * 1024 * 1024
    pack_timeout_s: float = 120.0
    rescues_max: int = 100
    servers_known_max: int = 1024


@dataclass(frozen=True, slots=True)
class Push:
    """A compare-and-swap of a claim, of a claim and a branch (atomically), or of a ref alone.

    ``what`` says for a person what it is for; ``work_pack`` is a pack made by git, sent with ``objects``.
    """

    repository: Repository
    what: str
    claim: RefUpdate | None
    branch: RefUpdate | None
    objects: tuple[GitObject, ...] = ()
    work_pack: bytes | None = None

    @property
    def updates(self) -> tuple[RefUpdate, ...]:
        """The commands, the claim's first."""
        return tuple(update for update in (self.claim, self.branch) if update is not None)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What to list to see what stands: the claim, and what could block the branch's name."""
        prefixes = [] if self.claim is None else [self.claim.ref]
        if self.branch is not None:
            prefixes.append("/".join(self.branch.ref.split("/")[:3]) if self.claim else self.branch.ref)
        return tuple(prefixes)

    def body(self, agent: str) -> bytes:
        """The request; the same bytes each time, which is what makes repeating it harmless."""
        pack = build_pack(self.objects, self.work_pack)
        return push_request(self.updates, pack, agent=agent, atomic=len(self.updates) > 1)

"""What a node's owner may choose about attempts: folders, sandbox, bounds.

Plain frozen values, made by the configuration reader and written into each attempt's ``spec.json``, so they
hold no secret. Every bound has its unit last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SANDBOXES = ("auto", "bubblewrap", "none")
NETWORKS = ("none", "host")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How this node runs attempts.

    Args:
        folder: the node's data folder; ``mirrors``, ``attempts`` and ``homes`` are made in it.
        node: this node's stable identity; it marks the node's processes so that a restart finds them.
        sandbox: ``bubblewrap``, ``none`` (the agent runs as this user, said loudly) or ``auto``
            (bubblewrap, and a refusal where it does not work).
        sandbox_paths: further folders that the agent may read (where its program is installed).
        network: ``none``, or ``host`` to let agents and checks use the machine's network.
        path: ``PATH`` of agents and checks; empty for the system's folders and this Python's own.
        check_required: whether work without a configured check is refused (``NEEDS_HELP``) or let through.
        check_s_max: upper bound for the whole check, whatever the repository asks.
        work_bytes_max: most bytes of changed files that are committed; larger ones are left out and named.
        disk_bytes_max: most bytes of the work tree while the agent runs.
        trusted_associations: who counts as a maintainer, in GitHub's words.
        fetch_s_max: bound of one fetch.
        end_grace_s: from asking a process to end to ending it.
        stop_s_max: from asking a worker to stop to ending it (its work is then saved by the node).
        recover_grace_s: how long, at the node's start, a worker that it left may go on saving.
        retry_after_s: how long to wait after a fetch that failed for a reason that passes.
        protocols: git transports that a repository's URL may use.
        author_email: the address in commits; the name is the agent's.
    """

    folder: Path
    node: str
    sandbox: str = "auto"
    sandbox_paths: tuple[Path, ...] = ()
    network: str = "none"
    path: str = ""
    check_required: bool = True
    check_s_max: float = 1800.0
    work_bytes_max: int = 256 * 1024 * 1024
    disk_bytes_max: int = 8 * 1024 * 1024 * 1024
    trusted_associations: tuple[str, ...] = ("OWNER", "MEMBER", "COLLABORATOR")
    fetch_s_max: float = 600.0
    end_grace_s: float = 3.0
    stop_s_max: float = 120.0
    recover_grace_s: float = 20.0
    retry_after_s: float = 30.0
    protocols: tuple[str, ...] = ("https", "http", "file")
    author_email: str = "noreply@bzzz.invalid"

    @property
    def attempts(self) -> Path:
        """Where each attempt has its folder."""
        return self.folder / "attempts"

    @property
    def mirrors(self) -> Path:
        """Where repositories are fetched to, shared by all attempts."""
        return self.folder / "mirrors"

    @property
    def homes(self) -> Path:
        """Where each agent keeps its HOME over attempts."""
        return self.folder / "homes"

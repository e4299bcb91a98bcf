"""Every setting of the embedded forge, with its bounds: a frozen value that ``config`` or a caller makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bzzz.errors import SettingError

MIB = 1024 * 1024

BASE_URL_FILE = "base_url"
"""Kept in the data folder, so that administration from another process makes the right links."""


def default_data_dir() -> Path:
    """``$BZZZ_DATA_DIR/forge``, or ``~/.local/share/bzzz/forge``."""
    root = os.environ.get("BZZZ_DATA_DIR")
    return (Path(root) if root else Path.home() / ".local" / "share" / "bzzz") / "forge"


def last_base_url(data_dir: Path) -> str:
    """Where the forge over ``data_dir`` was last served; ``""`` if it never was."""
    try:
        return (data_dir / BASE_URL_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True)
class EmbeddedForgeSettings:
    """How one embedded forge runs.

    Args:
        data_dir: the folder of the database and the repositories; made where missing, for this user alone.
        base_url: where people and git reach it, without a slash at the end; all links start with it.
        anonymous_read: whether new repositories may be read without a token.
        git_processes_max: git processes that serve clones and pushes at once; more wait.
        git_waiting_max: requests that may wait for one; more are answered 503.
        git_timeout_s: the longest that one git process may run.
        git_idle_s: the longest that a client may send nothing in the middle of a push.
        git_body_bytes_max: the largest push, after decompression.
        api_body_bytes_max: the largest JSON body.
        body_chars_max: the longest issue, pull request or comment text (GitHub's own limit).
        title_chars_max: the longest title (GitHub's own limit).
        diff_bytes_max: the largest diff that is shown; beyond it the API answers 406, as GitHub does.
        rate_limit_per_hour: requests an hour for one token, or for all who have none.
        lock_age_s: how old a ref lock must be, with no git of ours at work there, to be removed.
        sweep_period_s: how often such locks are looked for.
        webhook_timeout_s: how long a receiver may take to answer.
        webhook_attempts_max: how often a delivery is tried.
        webhook_backoff_s: the pause after the first failure; it doubles each time.
        webhook_pending_max: deliveries that may wait for one hook; the oldest make room, counted.
        webhook_poll_s: how often deliveries that another process queued are looked for.

    Raises:
        SettingError: ``base_url`` is not an http or https address.
    """

    data_dir: Path
    base_url: str = "http://127.0.0.1:8081"
    anonymous_read: bool = True
    git_processes_max: int = 16
    git_waiting_max: int = 256
    git_timeout_s: float = 600.0
    git_idle_s: float = 60.0
    git_body_bytes_max: int = 2048 * MIB
    api_body_bytes_max: int = 2 * MIB
    body_chars_max: int = 65_536
    title_chars_max: int = 256
    diff_bytes_max: int = 4 * MIB
    rate_limit_per_hour: int = 100_000
    lock_age_s: float = 10.0
    sweep_period_s: float = 5.0
    webhook_timeout_s: float = 5.0
    webhook_attempts_max: int = 6
    webhook_backoff_s: float = 1.0
    webhook_pending_max: int = 1000
    webhook_poll_s: float = 0.25

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise SettingError(
                "embedded forge", "base_url", self.base_url, "use an address such as http://127.0.0.1:8081"
            )
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))

    @property
    def api_url(self) -> str:
        """The root of the REST interface, as GitHub Enterprise places it."""
        return f"{self.base_url}/api/v3"

    def git_url(self, owner: str, name: str) -> str:
        """Where git clones a repository from."""
        return f"{self.base_url}/{owner}/{name}.git"

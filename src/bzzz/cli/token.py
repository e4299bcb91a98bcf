"""Which forge gets which token: the operator decides, by host, and nobody else.

Repositories are listed by Hive, so a Hive that is wrong or hostile could name any address. A token goes
only to the host that the operator wrote it down for, and GitHub's only over https.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from bzzz.config import Config, read_secret
from bzzz.core.task import Repository

GITHUB_HOSTS = frozenset({"github.com", "api.github.com"})


class Tokens:
    """Tokens by host, read once from their files.

    Raises:
        UsageError: a file cannot be read or holds no token.
    """

    def __init__(self, config: Config) -> None:
        files: Mapping[str, str] = config["forge.token_files"]
        self._by_host = {host: read_secret(path, f"the token for {host}") for host, path in files.items()}
        self._github = ""
        if config["forge.token_file"]:
            self._github = read_secret(config["forge.token_file"], "the token for github.com")

    def for_git(self, repository: Repository) -> str | None:
        """The token for pushing to and fetching from a repository."""
        return self._for(repository.git_url)

    def for_api(self, repository: Repository) -> str | None:
        """The token for the REST interface that is said to belong to a repository."""
        return self._for(repository.api_url)

    def _for(self, url: str) -> str | None:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return None
        if port is not None and f"{host}:{port}" in self._by_host:
            return self._by_host[f"{host}:{port}"]
        if host in self._by_host:
            return self._by_host[host]
        if host in GITHUB_HOSTS and parts.scheme == "https" and port in (None, 443):
            return self._by_host.get("github.com") or self._github or None
        return None

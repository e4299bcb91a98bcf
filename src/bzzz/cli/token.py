"""Which forge gets which token: the operator decides, by host, and nobody else.

Repositories are listed by Hive, so a Hive that is wrong or hostile could name any address. A token goes
only to the host and port that the operator wrote it down for. A host alone stands for https on its usual
port; only who writes the port down as well (``git.lan:3000``) may mean plain http. An address that two
programs could read in two ways (with a user name, a backslash, a space, or beyond ASCII) gets none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from bzzz.config import Config, read_secret
from bzzz.core.task import Repository

GITHUB_HOSTS = frozenset({"github.com", "api.github.com"})
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[!-\[\]-~]*)?")


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
        if not _PLAIN_URL.fullmatch(url):
            return None
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return None
        if ":" in host:
            host = f"[{host}]"
        usual = 443 if parts.scheme == "https" else 80
        written = self._by_host.get(f"{host}:{usual if port is None else port}")
        if written is not None or parts.scheme != "https" or port not in (None, usual):
            return written
        if host in self._by_host:
            return self._by_host[host]
        if host in GITHUB_HOSTS:
            return self._by_host.get("github.com") or self._github or None
        return None

"""Git addresses, read: which repository on which forge one names, and where that forge's REST API is.

Pure. The predecessor's projects tell a ``git_url`` alone, so the API's root is derived: github.com has its
own host for it, and every other forge that speaks GitHub's dialect (Enterprise, the embedded forge) has
``/api/v3`` beside its repositories (docs.github.com, "REST API on GitHub Enterprise Server").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

URL_CHARACTERS_MAX = 500
NAME_CHARACTERS_MAX = 100
GITHUB_HOSTS = frozenset({"github.com", "www.github.com", "ssh.github.com"})

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^/:][^:]*)\Z")


@dataclass(frozen=True, slots=True)
class GitAddress:
    """One repository's address. ``url`` holds no credentials; ``had_credentials`` says that it did."""

    url: str
    owner: str
    repository: str
    api_url: str
    web_url: str
    had_credentials: bool = False


def read_git_url(text: str) -> GitAddress:
    """Take apart ``https://host[/prefix]/owner/name[.git]``, ``ssh://..`` or ``git@host:owner/name``.

    Raises:
        ValueError: another form; the message is one line and never repeats credentials.
    """
    if not text or len(text) > URL_CHARACTERS_MAX or not text.isprintable() or " " in text:
        raise ValueError(f"a git address is 1 to {URL_CHARACTERS_MAX} printable characters without spaces")
    scp = None if "://" in text else _SCP.match(text)
    if scp:
        scheme, host, path, clean, secret = "ssh", scp["host"], scp["path"], text, False
    else:
        scheme, host, path, clean, secret = _split(text)
    *prefix, owner, name = [part for part in path.split("/") if part] or ["", ""]
    name = name.removesuffix(".git")
    check_name(owner, "owner")
    check_name(name, "repository")
    bare_host = host.rsplit(":", 1)[0].lower()
    if bare_host in GITHUB_HOSTS:
        root, api = "https://github.com", "https://api.github.com"
    else:
        web_scheme, web_host = (scheme, host) if scheme != "ssh" else ("https", bare_host)
        root = "/".join([f"{web_scheme}://{web_host}", *prefix])
        api = f"{root}/api/v3"
    return GitAddress(clean, owner, name, api, f"{root}/{owner}/{name}", secret)


def check_name(text: str, what: str) -> None:
    """Refuse an owner or repository name that could be anything else in a path or a URL.

    Raises:
        ValueError: says which, and what is allowed.
    """
    if not _NAME.match(text) or text in {".", ".."} or len(text) > NAME_CHARACTERS_MAX:
        shown = text[:40]
        raise ValueError(f"{what} {shown!r} is not 1 to {NAME_CHARACTERS_MAX} letters, digits, '.', '_' or '-'")


def _split(text: str) -> tuple[str, str, str, str, bool]:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("the git address is not a URL") from None
    if parts.scheme not in {"http", "https", "ssh"} or not host:
        raise ValueError("a git address begins with https://, http://, ssh:// or is git@host:owner/name")
    if parts.query or parts.fragment:
        raise ValueError("a git address has no '?' and no '#'")
    secret = parts.password is not None or (parts.username is not None and parts.scheme != "ssh")
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place += f":{port}"
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    clean = urlunsplit((parts.scheme, user + place, parts.path, "", ""))
    return parts.scheme, place, parts.path, clean, secret

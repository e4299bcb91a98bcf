"""What a setting's value may be: functions from what was found to the value.

Each takes what TOML, YAML, a variable or a flag gave, and raises ``ValueError`` saying what is allowed. They
read no files and know no setting; what peers and forges would refuse later is refused here already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

TEXT_CHARS_MAX = 200
PATH_CHARS_MAX = 1_000
WORDS_MAX = 64
WORD_CHARS_MAX = 100

_ASSOCIATIONS = frozenset(
    "OWNER MEMBER COLLABORATOR CONTRIBUTOR FIRST_TIME_CONTRIBUTOR FIRST_TIMER MANNEQUIN NONE".split()
)
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def text(value: Any) -> str:
    """One line of text."""
    if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX or not value.isprintable():
        raise ValueError(f"a text of one line and at most {TEXT_CHARS_MAX} characters is needed")
    return value


def name(value: Any) -> str:
    """A name that can stand in addresses and folders."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise ValueError("letters, digits, '.', '_' and '-' are allowed, 63 at most, a letter or digit first")
    return value


def name_or_empty(value: Any) -> str:
    """A name, or nothing."""
    return "" if value == "" and isinstance(value, str) else name(value)


def label(value: Any) -> str:
    """A label's name."""
    # An empty label would make every issue a task; a comma would make it two labels.
    if not isinstance(value, str) or not value.strip() or "," in value:
        raise ValueError("a label's name is needed, without a comma")
    return text(value).strip()


def texts(value: Any) -> tuple[str, ...]:
    """A list; one text is split at its commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts is needed")
    return tuple(value)


def words(value: Any) -> tuple[str, ...]:
    """What is gossiped: bounded as the mesh bounds it."""
    found = texts(value)
    if len(found) > WORDS_MAX or not all(0 < len(word) <= WORD_CHARS_MAX and word.isprintable() for word in found):
        raise ValueError(f"at most {WORDS_MAX} words of at most {WORD_CHARS_MAX} characters are allowed")
    return found


def associations(value: Any) -> tuple[str, ...]:
    """GitHub's words for who an author is."""
    found = tuple(word.upper() for word in texts(value))
    if not found or not set(found) <= _ASSOCIATIONS:
        raise ValueError(f"some of {', '.join(sorted(_ASSOCIATIONS))} are needed")
    return found


def flag(value: Any) -> bool:
    """True or false, also in words."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "on", "false", "no", "0", "off"):
        return value.lower() in ("true", "yes", "1", "on")
    raise ValueError("true or false is needed")


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A whole number between two bounds, both included."""

    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high} is needed")
        return value

    return read


def choice(*words: str) -> Callable[[Any], str]:
    """One of a few words."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"one of {', '.join(words)} is needed")
        return value

    return read


def level(value: Any) -> str:
    """A log level, in any case."""
    word = value.lower() if isinstance(value, str) else value
    return choice("debug", "info", "warning", "error")("warning" if word == "warn" else word)


def _address(value: Any, *, query: bool) -> str:
    pattern = r"https?://[^\s/@?#\\]+(/[^\s?#]*)?" + (r"(\?[^\s#]*)?" if query else "")
    right = isinstance(value, str) and value.isprintable() and re.fullmatch(pattern, value)
    try:
        right = right and bool(urlsplit(value).hostname) and urlsplit(value).port != 0
    except ValueError:
        right = False
    if value != "" and not right:
        raise ValueError("an address such as http://host:8080 is needed, without a user name in it")
    return str(value)


def url(value: Any) -> str:
    """The address of a service, without the slash at its end."""
    return _address(value, query=False).rstrip("/")


def hook(value: Any) -> str:
    """The address of a webhook, which may carry a query."""
    return _address(value, query=True)


def path(value: Any) -> str:
    """A file's name, ``~`` and variables expanded."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > PATH_CHARS_MAX:
        raise ValueError("a file name is needed")
    # Variables too, for systemd tells its credentials' folder by one: ${CREDENTIALS_DIRECTORY}/hive-key
    return os.path.expandvars(os.path.expanduser(value))  # noqa: PTH111


def folder(value: Any) -> str:
    """A folder's name, ``~`` expanded."""
    if value == "":
        raise ValueError("a folder is needed")
    return path(value)


def folders(value: Any) -> tuple[str, ...]:
    """Folders by their whole names, ``~`` expanded."""
    found = tuple(path(name) for name in texts(value))
    if not all(os.path.isabs(name) and os.path.normpath(name) != "/" for name in found):  # noqa: PTH117
        raise ValueError("folders are needed that begin with / or ~, and not / itself")
    return found


def search_path(value: Any) -> str:
    """Folders with ``:`` between, as in ``PATH``; nothing for the usual ones."""
    if value == "":
        return ""
    if not isinstance(value, str):
        raise ValueError("folders with : between are needed, as in PATH")
    return ":".join(folders(value.split(":")))


def mail_address(value: Any) -> str:
    """The address in a commit."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\s<>@\"]{1,100}@[A-Za-z0-9.-]{1,100}", value):
        raise ValueError("an address such as agents@example.org is needed")
    return value


def _table(value: Any, name: str, form: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and re.fullmatch(form, k) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError(f"a table of {name} is needed")
    return dict(value)


def paths(value: Any) -> dict[str, str]:
    """Files by host."""
    form = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    found = _table(value, 'host = file name, the host as "git.example.org" or "git.example.org:3000"', form)
    return {host.lower(): path(name) for host, name in found.items()}


def environment(value: Any) -> dict[str, str]:
    """Variables for a program."""
    return _table(value, "NAME = text", _VARIABLE)


def environment_files(value: Any) -> dict[str, str]:
    """Files by the variable that their content is for."""
    return {name: path(file) for name, file in _table(value, "NAME = file name", _VARIABLE).items()}


def addresses(value: Any) -> tuple[str, ...]:
    """Multiaddresses over TCP."""
    found = texts(value)
    for address in found:
        match = re.fullmatch(r"/(ip4|ip6|dns|dns4|dns6)/([^/\s]+)/tcp/([0-9]{1,5})(/p2p/[A-Za-z0-9]+)?", address)
        if match is None or int(match[3]) > 65_535 or not _is_host(match[1], match[2]):
            raise ValueError(f"{address[:60]!r} is no address such as /ip4/192.0.2.7/tcp/4001")
    return found


def _is_host(kind: str, host: str) -> bool:
    try:
        return kind.startswith("dns") or ip_address(host).version == int(kind[2:])
    except ValueError:
        return False


def listen(value: Any) -> tuple[str, ...]:
    """Multiaddresses to listen on."""
    found = addresses(value)
    if not found or not all(address.startswith(("/ip4/", "/ip6/")) and "/p2p/" not in address for address in found):
        raise ValueError("at least one address such as /ip4/0.0.0.0/tcp/4001 is needed, an IP and without /p2p/")
    return found


def peer_ids(value: Any) -> tuple[str, ...]:
    """Peers by their ids."""
    found = texts(value)
    for peer in found:
        if not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{40,64}", peer):
            raise ValueError(f"{peer[:60]!r} is no peer id; 'bzzz status' shows a node's own")
    return found


def peers(value: Any) -> tuple[str, ...]:
    """Where peers are: multiaddresses, names that stand for several, each with its peer's id or without."""
    found = texts(value)
    for address in found:
        if not address.startswith("/dnsaddr/"):
            addresses([address])
        elif not re.fullmatch(r"/dnsaddr/[A-Za-z0-9._-]{1,253}(/p2p/[A-Za-z0-9]{1,128})?", address):
            raise ValueError(f"{address[:60]!r} is no name such as /dnsaddr/mesh.example")
    return found

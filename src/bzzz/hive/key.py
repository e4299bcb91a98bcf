"""API keys and the roles they carry: what a key may do, how one is made, and what of it is kept.

Pure. A key is 256 random bits shown once; only its SHA-256 is kept, which is right for a secret that nobody can
guess (a slow hash protects passwords, which people choose). Roles are ordered: each may do what those before it
may.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass

KEY_PREFIX = "bzh_"
SHOWN_CHARACTERS = 8
NAME_CHARACTERS_MAX = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_PROJECT_CALL = re.compile(
    r"/api/bzzz/projects/[^/]+/(?:claim|status|submit-work|create-pr|coordination-discussion|log-prompt)/?\Z"
)
_NODE_CALLS = frozenset({"/api/bzzz/coordination-log", "/api/bzzz/chat-log", "/api/bzzz/antennae-log"})
_ADMIN_PATHS = ("/api/bzzz/keys",)


class Role(enum.IntEnum):
    """What a key may do: ``read`` reads, ``node`` also claims, reports and captures, ``admin`` does everything."""

    READ = 1
    NODE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The role as it is written."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Role:
        """Read ``read``, ``node`` or ``admin``.

        Raises:
            ValueError: another word.
        """
        for role in cls:
            if text == role.word:
                return role
        raise ValueError(f"{text[:40]!r} is no role; use read, node or admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by the name of the key, and what they may do."""

    name: str
    role: Role


LOCAL = Caller("this machine", Role.ADMIN)
"""Whoever asks from this machine while no key is set."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it may be listed: never the key itself. Times are ISO 8601 in UTC, or empty."""

    id: int
    name: str
    role: Role
    shown: str
    created_at: str
    used_at: str = ""
    revoked_at: str = ""


def role_needed(method: str, path: str) -> Role:
    """The role that a call asks for; a write that is not known here is an administrator's."""
    if path.startswith(_ADMIN_PATHS):
        return Role.ADMIN
    if method in {"GET", "HEAD", "OPTIONS"}:
        return Role.READ
    if path.rstrip("/") in _NODE_CALLS or _PROJECT_CALL.match(path):
        return Role.NODE
    return Role.ADMIN


def make_key(random_text: str) -> str:
    """A key from url-safe random text; the prefix lets scanners find a leaked one."""
    return KEY_PREFIX + random_text


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def shown(key: str) -> str:
    """The beginning of a key, by which its owner tells it from others."""
    return key[: len(KEY_PREFIX) + SHOWN_CHARACTERS - 4] + "..."


def check_key_name(name: str) -> str:
    """A key's name, if it is one.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.match(name):
        raise ValueError(f"name: 1 to {NAME_CHARACTERS_MAX} letters, digits, '.', '_' and '-'")
    return name

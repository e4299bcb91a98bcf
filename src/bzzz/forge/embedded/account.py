"""Who is asking: logins, tokens and their scopes, and what a login is to a repository.

A token is 160 random bits shown once; only its SHA-256 is kept, which is right for a secret that nobody
can guess. Scopes are ordered: ``read`` reads, ``issue`` may also open issues and comment as a stranger,
``write`` pushes and changes everything in a repository, ``admin`` also makes repositories and hooks.
"""

from __future__ import annotations

import enum
import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from bzzz.forge.embedded import name
from bzzz.forge.embedded.refusal import Refusal

TOKEN_PREFIX = "bzf_"  # noqa: S105 - marks a token as ours, so that scanners find a leaked one


class Scope(enum.IntEnum):
    """What a token may do; each includes those before it."""

    NONE = 0
    READ = 1
    ISSUE = 2
    WRITE = 3
    ADMIN = 4

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``read``, ``issue``, ``write`` or ``admin``.

        Raises:
            Refusal: 422 for another word.
        """
        for scope in (cls.READ, cls.ISSUE, cls.WRITE, cls.ADMIN):
            if text == scope.word:
                return scope
        raise Refusal(422, f"{text[:40]!r} is no scope; use read, issue, write or admin")

    @property
    def word(self) -> str:
        """The scope as it is written."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, and how far they may go. ``token_id`` is 0 for the anonymous and for local callers."""

    login: str
    scope: Scope
    token_id: int = 0


ANONYMOUS = Actor("anonymous", Scope.NONE)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it may be listed: never its secret."""

    id: int
    login: str
    label: str
    scope: str
    created_at: str
    revoked: bool


def timestamp(wall_s: float) -> str:
    """GitHub's form of a time: UTC, whole seconds, ``Z``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def ensure(db: sqlite3.Connection, login: str, now: str, kind: str = "User") -> sqlite3.Row:
    """The account of ``login``, made where it is missing."""
    name.owner(login)
    db.execute("INSERT OR IGNORE INTO account (login, kind, created_at) VALUES (?, ?, ?)", (login, kind, now))
    row: sqlite3.Row = db.execute("SELECT * FROM account WHERE login = ?", (login,)).fetchone()
    return row


def add_token(db: sqlite3.Connection, secret: str, login: str, *, scope: Scope, label: str, now: str) -> TokenInfo:
    """Keep the digest of a new token."""
    account = ensure(db, login, now)
    cursor = db.execute(
        "INSERT INTO token (login, label, scope, digest, created_at) VALUES (?, ?, ?, ?, ?)",
        (account["login"], name.visible(label)[:100], scope.word, _digest(secret), now),
    )
    return TokenInfo(cursor.lastrowid or 0, account["login"], label, scope.word, now, revoked=False)


def find_token(db: sqlite3.Connection, secret: str) -> Actor | None:
    """Whose token this is; ``None`` for an unknown or revoked one."""
    row = db.execute("SELECT * FROM token WHERE digest = ? AND revoked_at IS NULL", (_digest(secret),)).fetchone()
    return Actor(row["login"], Scope.parse(row["scope"]), row["id"]) if row else None


def list_tokens(db: sqlite3.Connection) -> list[TokenInfo]:
    """All tokens, revoked ones too, oldest first."""
    rows = db.execute("SELECT * FROM token ORDER BY id").fetchall()
    return [
        TokenInfo(r["id"], r["login"], r["label"], r["scope"], r["created_at"], r["revoked_at"] is not None)
        for r in rows
    ]


def revoke_token(db: sqlite3.Connection, token_id: int, now: str) -> None:
    """End a token at once.

    Raises:
        Refusal: 404, there is none with this number.
    """
    done = db.execute("UPDATE token SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (now, token_id))
    if done.rowcount == 0:
        raise Refusal(404, f"there is no token {token_id}; list them to see their numbers")


def association(actor: Actor, owner: str) -> str:
    """GitHub's word for what an author is to a repository, fixed when the text is written."""
    if actor.login.lower() == owner.lower():
        return "OWNER"
    if actor.scope >= Scope.ADMIN:
        return "MEMBER"
    return "COLLABORATOR" if actor.scope >= Scope.WRITE else "NONE"

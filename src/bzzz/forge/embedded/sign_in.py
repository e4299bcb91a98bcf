"""Who sends a request, by its ``Authorization`` header: git's and a browser's way, and GitHub's."""

from __future__ import annotations

import base64
import binascii

from bzzz.forge.embedded import account
from bzzz.forge.embedded.account import ANONYMOUS, Actor
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.refusal import Refusal


def credentials(header: str | None) -> str | None:
    """The token in an ``Authorization`` header: Basic's password (or its user, alone), Bearer or ``token``."""
    kind, _, value = (header or "").partition(" ")
    if kind.lower() in ("bearer", "token"):
        return value.strip() or None
    if kind.lower() != "basic":
        return None
    try:
        user, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return user if secret in ("", "x-oauth-basic") else secret


def identify(forge: EmbeddedForge, header: str | None) -> Actor:
    """Who sends this ``Authorization`` header.

    Raises:
        Refusal: 401, there is one and it is no token of ours.
    """
    secret = credentials(header)
    if secret is None:
        return ANONYMOUS
    with forge.store.read() as db:
        actor = account.find_token(db, secret)
    if actor is None:
        raise Refusal(401, "Bad credentials")
    return actor

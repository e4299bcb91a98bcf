"""Which names are names: owners, repositories, labels, refs, commits. Pure; everything else is refused.

What passes here cannot climb out of a folder, cannot be read as an option by a program, and cannot hide
control characters from a person.
"""

from __future__ import annotations

import re

from bzzz.forge.embedded.refusal import invalid, not_found

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_COLOR = re.compile(r"[0-9A-Fa-f]{6}")
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")
_RESERVED_OWNERS = frozenset({"api"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]")

REF_CHARS_MAX = 250
LABEL_CHARS_MAX = 50


def owner(text: str) -> str:
    """A user's or organization's login.

    Raises:
        Refusal: 422; letters, digits and single hyphens, at most 39.
    """
    if not _OWNER.fullmatch(text) or text.lower() in _RESERVED_OWNERS:
        raise invalid(
            "Account", "login", f"{text[:60]!r} is no login: letters, digits and single hyphens, at most 39"
        )
    return text


def repository(text: str) -> str:
    """A repository's name.

    Raises:
        Refusal: 422; letters, digits, ``.``, ``_`` and ``-``, at most 100, not ending in ``.git``.
    """
    ends_badly = text.lower().endswith((".git", ".wiki", ".lock"))
    if not _REPOSITORY.fullmatch(text) or text.strip(".") == "" or text.startswith("-") or ends_badly:
        raise invalid(
            "Repository", "name", f"{text[:60]!r} is no repository name: letters, digits, '.', '_' and '-'"
        )
    return text


def is_ref(text: str) -> bool:
    """Whether ``text`` is a full ref name by the rules of ``git check-ref-format``."""
    if not text.startswith("refs/") or len(text) > REF_CHARS_MAX or text.count("/") < 2:
        return False
    if _REF_FORBIDDEN.search(text) or text.endswith(("/", ".")):
        return False
    return all(part and not part.startswith((".", "-")) for part in text.split("/"))


def ref(text: str) -> str:
    """A full ref name (``refs/heads/main``).

    Raises:
        Refusal: 422; git would not take it, or a part of it looks like an option.
    """
    if not is_ref(text):
        raise invalid("Reference", "ref", f"{text[:80]!r} is not a full ref name such as refs/heads/main")
    return text


def branch(text: str, field: str = "branch") -> str:
    """A branch name without ``refs/heads/``.

    Raises:
        Refusal: 422.
    """
    if not is_ref(f"refs/heads/{text}"):
        raise invalid("Reference", field, f"{text[:80]!r} is no branch name")
    return text


def commit(text: str, field: str = "sha") -> str:
    """A full object id.

    Raises:
        Refusal: 422.
    """
    if not _COMMIT.fullmatch(text):
        raise invalid("Reference", field, f"{text[:80]!r} is no full object id (40 hex digits)")
    return text


def path(text: str) -> str:
    """A file's path inside a tree, ``""`` for the root.

    Raises:
        Refusal: 404 for one that no tree can hold.
    """
    text = text.strip("/")
    if any(part in ("", ".", "..", ".git") for part in text.split("/") if text) or "\x00" in text:
        raise not_found()
    return text


def label(text: str) -> str:
    """A label's name.

    Raises:
        Refusal: 422; empty, too long, or with control characters or commas (a comma separates labels in queries).
    """
    if not text.strip() or len(text) > LABEL_CHARS_MAX or _CONTROL.search(text) or "," in text or "\n" in text:
        raise invalid("Label", "name", f"{text[:60]!r} is no label: 1 to {LABEL_CHARS_MAX} characters, no comma")
    return text.strip()


def color(text: str) -> str:
    """A label's colour, six hex digits.

    Raises:
        Refusal: 422.
    """
    text = text.removeprefix("#")
    if not _COLOR.fullmatch(text):
        raise invalid("Label", "color", f"{text[:20]!r} is no colour of six hex digits")
    return text.lower()


def visible(text: str) -> str:
    """``text`` with control and direction characters shown as U+FFFD; newlines and tabs stay."""
    return _CONTROL.sub("\ufffd", text)

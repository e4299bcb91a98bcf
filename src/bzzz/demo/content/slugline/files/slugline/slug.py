"""Slugs: what is left of a title when only letters, digits and separators may stand in an address."""

from __future__ import annotations

import re

_UNWANTED = re.compile(r"[^a-z0-9]+")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def slugify(text: str, separator: str = "-") -> str:
    """Turn a title into a slug; a title without any letter or digit gives an empty one."""
    return _UNWANTED.sub(separator, text.lower()).strip(separator)


def is_slug(text: str) -> bool:
    """Tell whether ``text`` is a slug already."""
    return _SLUG.fullmatch(text) is not None

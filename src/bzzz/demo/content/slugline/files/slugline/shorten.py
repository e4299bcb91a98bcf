"""Shorter slugs that still read well."""

from __future__ import annotations


def truncate(slug: str, length: int, separator: str = "-") -> str:
    """Cut ``slug`` to at most ``length`` characters, between two words where that is possible.

    A first word that is longer than ``length`` is cut within. Raises ValueError for a length below 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")
    if len(slug) <= length:
        return slug
    boundary = slug[: length + len(separator)].rfind(separator)
    return slug[:boundary] if boundary > 0 else slug[:length]

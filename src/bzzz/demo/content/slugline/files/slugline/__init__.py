"""Readable addresses from titles."""

from slugline.heading import anchor, contents
from slugline.shorten import truncate
from slugline.slug import is_slug, slugify

__all__ = ["anchor", "contents", "is_slug", "slugify", "truncate"]

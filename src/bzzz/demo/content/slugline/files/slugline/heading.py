"""Headings of a page: each with an anchor, and a table of contents that links to them."""

from __future__ import annotations

from collections.abc import Iterable

from slugline.slug import slugify


def anchor(text: str, level: int = 2) -> str:
    """The HTML of a heading that can be linked to."""
    return f'<h{level} id="{slugify(text)}">{text}</h{level}>'


def contents(headings: Iterable[str]) -> str:
    """The HTML of a table of contents, one link a heading."""
    links = [f'<li><a href="#{slugify(text)}">{text}</a></li>' for text in headings]
    return "<ul>" + "".join(links) + "</ul>"

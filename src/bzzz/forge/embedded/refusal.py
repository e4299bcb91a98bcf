"""The one exception of the embedded forge: what it will not do, as GitHub would answer it.

The API turns it into a status with GitHub's error body; to a Python caller it is a ``UsageError`` with one
clear line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bzzz.errors import UsageError


class Refusal(UsageError):
    """A request that is not carried out.

    Args:
        status: the HTTP status.
        message: one line for a person.
        errors: GitHub's list of what was wrong with which field (``resource``, ``field``, ``code``).
    """

    def __init__(self, status: int, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        detail = "; ".join(str(e["message"]) for e in errors if e.get("message"))
        super().__init__(f"{message}: {detail}" if detail else message)
        self.status = status
        self.message = message
        self.errors = tuple(errors)


def not_found() -> Refusal:
    """404, worded as GitHub does, which says no more to who may not look."""
    return Refusal(404, "Not Found")


def invalid(resource: str, field: str, message: str, code: str = "custom") -> Refusal:
    """422 for one field."""
    error = {"resource": resource, "field": field, "code": code, "message": message}
    return Refusal(422, "Validation Failed", (error,))

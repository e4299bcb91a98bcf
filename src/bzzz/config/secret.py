"""Secrets from files, whose content no error shows, and values in errors without secrets in them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from bzzz.errors import UsageError

SECRET_BYTES_MAX = 64 * 1024


def read_secret(path: str, what: str) -> str:
    """The secret in a file, without the line end.

    Raises:
        UsageError: it cannot be read, is empty, or is too large to be a secret; its content is never shown.
    """
    shown = _shown_path(path)
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no file name"
        raise UsageError(f"{shown}: {what} cannot be read: {reason}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise UsageError(f"{shown}: {what} is larger than {SECRET_BYTES_MAX} bytes; is this the right file?")
    try:
        text = one_line(data.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{shown}: {what} is not text; is this the right file?") from None
    if not text:
        raise UsageError(f"{shown}: {what} must be one line of text")
    return text


def one_line(text: str) -> str | None:
    """The text without space around it; ``None`` if it is more than one line, or no text."""
    line = text.strip()
    return line if line.isprintable() else None


def _shown_path(path: str) -> str:
    """A file's name for an error, unless it looks like the secret itself, put in its place by mistake."""
    # False for a text that can be no file's name, too.
    exists = os.path.exists(path)  # noqa: PTH110
    if len(path) >= 20 and "/" not in path and "." not in path and not exists:
        return f"{path[:4]}... (a file's name is needed, not the secret itself)"
    return path


def shown(key: str, value: Any) -> Any:
    """A wrong value for an error, unless it may be or hold a secret."""
    if re.search(r"key|token|secret|password|environment", key) and not key.endswith("_file"):
        return "(not shown)"
    if isinstance(value, str):
        return re.sub(r"//[^/]*@", "//(not shown)@", value)
    return value

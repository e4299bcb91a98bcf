"""Hive's log on standard error: one line an event, and never a secret in it, not even in a traceback.

Whatever wrote a line (this package, uvicorn, a library), it passes the redactor last.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

from bzzz.hive.redact import Redactor

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class SecretlessFormatter(logging.Formatter):
    """Formats as usual, then takes secrets out of the whole, its traceback included.

    Args:
        values: the secrets of this process.
    """

    def __init__(self, values: Iterable[str]) -> None:
        super().__init__(FORMAT)
        self._redactor = Redactor(values)

    def format(self, record: logging.LogRecord) -> str:
        """One record as it is written."""
        return self._redactor.text(super().format(record))


def install_log(values: Iterable[str], stream: TextIO | None = None) -> None:
    """Let the root logger write to standard error through a ``SecretlessFormatter``; what was there goes."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(SecretlessFormatter(values))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)

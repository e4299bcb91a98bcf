"""Runs the library's services so that one peer's bad message cannot end them.

Its service manager takes any exception in any task of a service for the end of the service, and with it of
the node (3 and 4 in the table of defects).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from libp2p.tools.anyio_service.trio_manager import TrioManager

_log = logging.getLogger("bzzz.mesh")


def guarded(
    function: Callable[..., Awaitable[Any]], counts: Counter[str], reason: str
) -> Callable[..., Awaitable[None]]:
    """``function`` with its exceptions counted under ``reason`` and ended there."""

    async def run(*args: Any) -> None:
        try:
            await function(*args)
        except Exception as error:
            counts[reason] += 1
            _log.debug("%s: %r", reason, error)

    return run


class GuardedManager(TrioManager):  # type: ignore[misc]
    """Runs one of the library's services.

    An exception in a passing task ends that task and is counted; a service's own main loops still end it,
    for without them it would only look alive.
    """

    def __init__(self, service: Any, counts: Counter[str]) -> None:
        super().__init__(service)
        self._counts = counts

    def run_task(
        self, async_fn: Any, *args: Any, daemon: bool = False, name: str | None = None, _internal: bool = False
    ) -> None:
        """As the library's, with the exceptions of passing tasks caught."""
        run = async_fn if daemon or _internal else guarded(async_fn, self._counts, "dropped_task_error")
        super().run_task(run, *args, daemon=daemon, name=name or str(async_fn), _internal=_internal)

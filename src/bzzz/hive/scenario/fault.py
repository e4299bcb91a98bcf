"""Answers spoilt on purpose: slow, 500, 429, or a connection that is cut, for a share of the calls and for a while.

``FaultBox`` knows which faults are on, ``FaultGate`` is the ASGI middleware that asks it. What steers the scenario,
and ``/health``, are spared, so that whoever caused a fault can end it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bzzz.hive.scenario.script import Fault, FaultTarget
from bzzz.ports import Clock

FAULTS_ON_MAX = 100
SPARED = ("/health", "/api/bzzz/scenario")


@dataclass(frozen=True, slots=True)
class _On:
    fault: Fault
    until_ms: int


class FaultBox:
    """The faults that are on.

    Args:
        clock: for how long.
        chance: a number from 0 to 1 that decides whether a call is among the share.
    """

    def __init__(self, clock: Clock, chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._on: list[_On] = []
        self.counts: Counter[str] = Counter()

    def begin(self, fault: Fault) -> None:
        """Let a fault begin now."""
        self._on = [
            *self._still()[-FAULTS_ON_MAX + 1 :],
            _On(fault, self._clock.now_ms() + int(fault.for_s * 1000)),
        ]

    def end(self) -> None:
        """End all of them."""
        self._on = []

    def on(self) -> Sequence[Fault]:
        """Those that are on now."""
        return [one.fault for one in self._still()]

    def hits(self, target: FaultTarget) -> Fault | None:
        """The fault that befalls this call, if any; the newest first."""
        for one in reversed(self._still()):
            if one.fault.target == target and self._chance() < one.fault.share:
                self.counts[f"faults_{one.fault.kind}"] += 1
                return one.fault
        return None

    def _still(self) -> list[_On]:
        now_ms = self._clock.now_ms()
        self._on = [one for one in self._on if one.until_ms > now_ms]
        return self._on


class FaultGate:
    """ASGI middleware that spoils answers.

    Args:
        app: what is behind it.
        box: says which.
        forge_prefix: the path where the forge is mounted; everything else is Hive's own.
        sleep: waits where an answer is slow.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        box: FaultBox,
        forge_prefix: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app = app
        self._box = box
        self._forge_prefix = forge_prefix.rstrip("/") + "/"
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, in ASGI's terms."""
        if scope["type"] == "http" and not scope["path"].startswith(SPARED):
            target: FaultTarget = "forge" if scope["path"].startswith(self._forge_prefix) else "hive"
            fault = self._box.hits(target)
            if fault is not None and fault.kind == "slow":
                await self._sleep(fault.delay_s)
            elif fault is not None:
                await _spoil(fault, scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _spoil(fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    if fault.kind == "away":
        # A head that promises a body, and no body: the server cuts the connection.
        head: Message = {"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"1")]}
        await send(head)
        return
    detail = f"the scenario's fault {fault.kind!r} is on"
    if fault.kind == "limited":
        answer = JSONResponse({"error": "limited", "detail": detail, "message": detail}, 429, {"Retry-After": "1"})
    else:
        answer = JSONResponse({"error": "internal_error", "detail": detail, "message": detail}, 500)
    await answer(scope, receive, send)

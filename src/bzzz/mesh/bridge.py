"""One trio program in a thread of its own, called from asyncio.

libp2p runs on trio alone, and a node on asyncio; so the engine has a thread, whose death must not go
unnoticed: ``on_end`` tells it, with the reason, and every call that was waiting fails. Starting another is
the owner's decision. ``call_home`` is the way back, for what peers ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import trio

from bzzz.errors import TransportError

T = TypeVar("T")
_GONE = "the mesh engine is down"


class TrioThread:
    """Runs ``main`` under trio until it ends or is stopped; made and used in one asyncio loop.

    Args:
        main: called with a function to call once when it is ready for calls. It should run until cancelled.
        on_end: called in the asyncio loop when the thread has ended by itself after it was ready.
    """

    def __init__(
        self, main: Callable[[Callable[[], None]], Awaitable[None]], on_end: Callable[[BaseException | None], None]
    ) -> None:
        self._main = main
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._calls: set[asyncio.Future[Any]] = set()
        self._stopping = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        # A daemon, so that an engine that does not end cannot keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="bzzz-mesh", daemon=True)

    async def start(self, timeout_s: float) -> None:
        """Start, and wait until ``main`` is ready.

        Raises:
            TransportError: ``main`` raised it, raised anything else, or was not ready in time.
        """
        self._thread.start()
        first: set[asyncio.Future[Any]] = {self._ready, self._over}
        await asyncio.wait(first, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return
        if not self._over.done():
            await self.stop(0.0)
            raise TransportError(f"the mesh engine did not start within {timeout_s:g} s")
        error = root_cause(self._over.result())
        if isinstance(error, TransportError):
            raise error
        raise TransportError(f"the mesh engine did not start: {describe(error)}")

    async def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run ``function(*args)`` in the trio program and give what it gives, or raise what it raises.

        Raises:
            TransportError: the program has ended, or ends before there is an answer.
        """
        result: T = await self._call(self._launch, function, args)
        return result

    async def call_now(self, function: Callable[..., T], *args: Any) -> T:
        """As ``call``, for a function that does not wait: it needs no task of its own.

        Raises:
            TransportError: as ``call``.
        """
        result: T = await self._call(self._do, function, args)
        return result

    async def _call(self, launch: Callable[..., None], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._token is None or self._over.done():
            raise TransportError(_GONE)
        self._calls.add(answer)
        try:
            self._token.run_sync_soon(launch, answer, function, args)
            return await answer
        except trio.RunFinishedError:
            raise TransportError(_GONE) from None
        finally:
            self._calls.discard(answer)

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Run ``function(*args)`` in the trio program soon, without an answer; nothing if it has ended."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function, *args)

    async def call_home(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """The other way: in the trio program, run ``function(*args)`` in the asyncio loop and give what it gives.

        Cancelled here, it is cancelled there.

        Raises:
            TransportError: the loop is over, or it was cancelled there.
        """
        token, over = trio.lowlevel.current_trio_token(), trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def ended(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(over.set)

        def begin() -> None:
            task = self._loop.create_task(function(*args))
            tasks.append(task)
            task.add_done_callback(ended)

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            raise TransportError(_GONE) from None
        try:
            await over.wait()
        except trio.Cancelled:
            # Begun by now, for the loop takes what it is told in order.
            self._tell(_cancel_all, tasks)
            raise
        if tasks[0].cancelled():
            raise TransportError("it was cancelled")
        return tasks[0].result()

    async def stop(self, timeout_s: float) -> bool:
        """Cancel ``main`` and wait for its end; whether it came in time."""
        self._stopping = True
        if not self._thread.ident:
            return True
        self.post(self._cancel)
        await asyncio.wait({self._over}, timeout=timeout_s)
        return self._over.done()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            trio.run(self._program)
        except BaseException as caught:
            error = caught
        self._tell(self._ended, error)

    async def _program(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._stopping:
                nursery.cancel_scope.cancel()
            await self._main(lambda: self._tell(self._set_ready))
            nursery.cancel_scope.cancel()

    def _launch(
        self, answer: asyncio.Future[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> None:
        try:
            if self._nursery is None:
                raise RuntimeError
            self._nursery.start_soon(self._answer, answer, function, args)
        except RuntimeError:
            self._tell(_fail, answer, TransportError(_GONE))

    def _do(self, answer: asyncio.Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
        try:
            result = function(*args)
        except Exception as error:
            self._tell(_fail, answer, error)
        else:
            self._tell(_succeed, answer, result)

    async def _answer(
        self, answer: asyncio.Future[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> None:
        try:
            result = await function(*args)
        except Exception as error:
            self._tell(_fail, answer, error)
        else:
            self._tell(_succeed, answer, result)

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        # The asyncio loop may be closed already, when the whole program is ending.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _ended(self, error: BaseException | None) -> None:
        self._over.set_result(error)
        for answer in list(self._calls):
            _fail(answer, TransportError(_GONE))
        if self._ready.done() and not self._stopping:
            self._on_end(root_cause(error))


def root_cause(error: BaseException | None) -> BaseException | None:
    """The first exception inside groups and trio's own wrapping."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, trio.TrioInternalError) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def describe(error: BaseException | None) -> str:
    """One short line about an exception, for a person."""
    if error is None:
        return "it ended without an error"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)

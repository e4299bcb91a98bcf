"""``bzzz.cli.interruption``: a signal is noted at any moment, raised at none, and lost at none."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from bzzz.cli.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_class_body_is_noted_and_raises_nothing(number: signal.Signals) -> None:
    """Before Python 3.12 a handler's exception would leave ``__set_name__`` as a RuntimeError."""

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            signal.raise_signal(number)

    with Interruption() as interruption:

        class Holder:
            field = Field()

        assert interruption.number == number
        assert interruption.exit_status == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_loop_runs_is_acted_upon_once_it_does(number: signal.Signals) -> None:
    async def run(interruption: Interruption) -> bool:
        told = asyncio.Event()
        with interruption.handed_over(told.set):
            return told.is_set()

    with Interruption() as interruption:
        signal.raise_signal(number)
        assert asyncio.run(run(interruption))


async def test_a_signal_within_calls_the_act_and_one_afterwards_is_only_noted() -> None:
    calls: list[str] = []
    told = asyncio.Event()

    def act() -> None:
        calls.append("act")
        told.set()

    with Interruption() as interruption:
        with interruption.handed_over(act):
            signal.raise_signal(signal.SIGTERM)
            await told.wait()
        signal.raise_signal(signal.SIGINT)
    assert calls == ["act"]
    assert interruption.number == signal.SIGTERM, "the first one decides the exit status"


def test_the_handlers_from_before_are_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    def handlers() -> list[Callable[..., object] | int | None]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    with Interruption():
        assert handlers() != before
    assert handlers() == before

from __future__ import annotations

import asyncio

import pytest

from bzzz.errors import ServiceUnavailable
from bzzz.hive.cache import SharedFetch


class SetClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms

    def wall_s(self) -> float:
        return 0.0


class Source:
    """Counts fetches; each gives its number, once ``gate`` is open."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def fetch(self) -> str:
        self.count += 1
        mine = self.count
        await self.gate.wait()
        if self.failing:
            raise ServiceUnavailable("forge", "list")
        return f"value {mine}"


def cache(clock: SetClock, entries_max: int = 10) -> SharedFetch[str]:
    return SharedFetch[str](clock, ttl_s=10, entries_max=entries_max)


async def test_all_who_ask_at_once_share_one_fetch_and_it_serves_until_it_is_old() -> None:
    clock, source = SetClock(), Source()
    shared = cache(clock)
    assert await asyncio.gather(*(shared.get("a", source.fetch) for _ in range(5))) == ["value 1"] * 5
    clock.ms = 9_999
    assert await shared.get("a", source.fetch) == "value 1"
    clock.ms = 10_000
    assert await shared.get("a", source.fetch) == "value 2"


async def test_one_who_gives_up_does_not_end_the_fetch_for_the_others() -> None:
    source = Source()
    source.gate.clear()
    shared = cache(SetClock())
    first, second = (asyncio.create_task(shared.get("a", source.fetch)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.gate.set()
    assert await second == "value 1"


async def test_something_old_is_given_at_once_while_it_is_fetched_anew() -> None:
    clock, source = SetClock(), Source()
    shared = cache(clock)
    assert await shared.get_soon("a", source.fetch, 1.0) == "value 1"
    clock.ms = 20_000
    source.gate.clear()
    assert await shared.get_soon("a", source.fetch, 1.0) == "value 1"
    source.gate.set()
    assert await shared.get("a", source.fetch) == "value 2"


async def test_a_failure_is_raised_to_those_who_need_it_fresh_and_not_repeated_for_the_others() -> None:
    clock, source = SetClock(), Source()
    shared = cache(clock)
    source.failing = True
    assert await shared.get_soon("a", source.fetch, 1.0) is None
    assert await shared.get_soon("a", source.fetch, 1.0) is None
    assert (source.count, shared.failed) == (1, 1)
    assert isinstance(shared.trouble("a"), ServiceUnavailable)
    with pytest.raises(ServiceUnavailable):
        await shared.get("a", source.fetch)
    source.failing = False
    clock.ms = 10_000
    assert await shared.get_soon("a", source.fetch, 1.0) == "value 3"
    assert shared.trouble("a") is None


async def test_what_was_being_fetched_when_it_changed_is_not_taken_for_fresh() -> None:
    source = Source()
    shared = cache(SetClock())
    source.gate.clear()
    old = asyncio.create_task(shared.get("a", source.fetch))
    await asyncio.sleep(0)
    shared.forget("a")
    new = asyncio.create_task(shared.get("a", source.fetch))
    await asyncio.sleep(0)
    source.gate.set()
    assert (await old, await new) == ("value 1", "value 2")
    assert await shared.get("a", source.fetch) == "value 2"


async def test_keys_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    source = Source()
    shared = cache(SetClock(), entries_max=2)
    for key in ("a", "b", "a", "c"):
        await shared.get(key, source.fetch)
    assert (source.count, shared.evicted) == (3, 1)
    await shared.get("a", source.fetch)
    assert source.count == 3


async def test_closing_ends_fetches_that_are_under_way() -> None:
    source = Source()
    source.gate.clear()
    shared = cache(SetClock())
    assert await shared.get_soon("a", source.fetch, 0.0) is None
    shared.forget("a")
    await shared.close()
    assert len(asyncio.all_tasks()) == 1


async def test_what_is_a_little_old_serves_while_it_is_renewed() -> None:
    clock, source = SetClock(), Source()
    shared = cache(clock)
    await shared.get("a", source.fetch)
    clock.ms = 14_999
    source.gate.clear()
    assert await shared.get_renewing("a", source.fetch, 5) == "value 1", "nobody waits"
    await asyncio.sleep(0)
    assert source.count == 2
    source.gate.set()
    assert await shared.get("a", source.fetch) == "value 2"
    clock.ms += 15_000
    assert await shared.get_renewing("a", source.fetch, 5) == "value 3", "too old to serve"


async def test_what_was_forgotten_or_failed_to_be_renewed_is_waited_for() -> None:
    clock, source = SetClock(), Source()
    shared = cache(clock)
    await shared.get("a", source.fetch)
    shared.forget("a")
    assert await shared.get_renewing("a", source.fetch, 5) == "value 2"
    clock.ms = 11_000
    source.failing = True
    assert await shared.get_renewing("a", source.fetch, 5) == "value 2"
    with pytest.raises(ServiceUnavailable):
        await shared.get("a", source.fetch)
    with pytest.raises(ServiceUnavailable):
        await shared.get_renewing("a", source.fetch, 5)

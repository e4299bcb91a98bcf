"""Events are kept within bounds and followed without gaps."""

from __future__ import annotations

import asyncio
from typing import Any

from bzzz.runtime.event_log import HISTORY_EVENTS_MAX, TEXT_CHARS_MAX, EventLog


def log(**changes: Any) -> EventLog:
    return EventLog(lambda: 1.23456, **changes)


async def collect(events: EventLog, after: int = 0) -> list[int]:
    return [event["id"] async for event in events.follow(after)]


def test_an_event_has_number_time_kind_level_and_its_fields() -> None:
    events = log()
    events.tell("claimed", task="a/b#1")
    assert events.history() == [{"id": 1, "at": 1.235, "kind": "claimed", "level": "info", "task": "a/b#1"}]


def test_a_field_cannot_take_the_place_of_number_or_kind() -> None:
    events = log()
    events.tell("report", id=99, at=0, kind="other")
    assert [(event["id"], event["kind"]) for event in events.history()] == [(1, "report")]


def test_history_is_bounded_and_begins_after_a_number() -> None:
    events = log()
    for _ in range(HISTORY_EVENTS_MAX + 10):
        events.tell("tick")
    assert [events.history()[0]["id"], len(events.history())] == [11, HISTORY_EVENTS_MAX]
    assert [event["id"] for event in events.history(HISTORY_EVENTS_MAX + 8)] == [2_009, 2_010]
    assert events.history(10**9) == []


def test_a_long_text_is_cut() -> None:
    events = log()
    events.tell("progress", text="x" * 1_000_000)
    assert len(events.history()[0]["text"]) == TEXT_CHARS_MAX


async def test_following_gives_what_was_and_what_comes_until_the_end() -> None:
    events = log()
    events.tell("one")
    events.tell("two")
    following = asyncio.create_task(collect(events, after=1))
    await asyncio.sleep(0)
    events.tell("three")
    await asyncio.sleep(0)
    events.tell("four")
    events.close()
    assert await following == [2, 3, 4]
    assert await collect(events) == [1, 2, 3, 4]


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing_within_the_history() -> None:
    events = log()
    stream = events.follow()
    events.tell("first")
    assert (await anext(stream))["id"] == 1
    for _ in range(HISTORY_EVENTS_MAX):
        events.tell("tick")
    events.close()
    assert [event["id"] async for event in stream] == list(range(2, HISTORY_EVENTS_MAX + 2))
    assert events.missed == 0


async def test_what_a_reader_missed_is_counted() -> None:
    events = log()
    stream = events.follow()
    events.tell("first")
    await anext(stream)
    for _ in range(HISTORY_EVENTS_MAX + 7):
        events.tell("tick")
    assert (await anext(stream))["id"] == 9
    assert events.missed == 7


async def test_a_number_of_an_earlier_start_begins_from_the_beginning() -> None:
    events = log()
    events.tell("one")
    events.close()
    assert await collect(events, after=5_000) == [1]


async def test_a_follower_that_is_cancelled_is_gone() -> None:
    events = log()
    following = asyncio.create_task(collect(events))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert following.cancelled()
    events.tell("still")
    assert len(events.history()) == 1


async def test_every_event_is_echoed_as_it_is_told() -> None:
    seen: list[Any] = []
    events = log(echo=seen.append)
    events.tell("one")
    assert seen == events.history()

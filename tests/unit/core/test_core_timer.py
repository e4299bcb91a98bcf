"""Deadlines as data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bzzz.core.timer import Timers

STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "earlier", "cancel", "pop"]), st.integers(0, 4), st.integers(0, 50)),
    max_size=60,
)


@given(STEPS)
def test_timers_behave_as_a_plain_dictionary_of_deadlines(steps: list[tuple[str, int, int]]) -> None:
    timers = Timers()
    model: dict[int, tuple[int, int]] = {}
    now_ms = 0
    for serial, (what, key, at_ms) in enumerate(steps):
        if what == "set" or (what == "earlier" and (key not in model or model[key][0] > at_ms)):
            model[key] = (at_ms, serial)
        if what == "set":
            timers.set((key,), at_ms)
        elif what == "earlier":
            timers.set_earlier((key,), at_ms)
        elif what == "cancel":
            timers.cancel((key,))
            model.pop(key, None)
        else:
            now_ms = max(now_ms, at_ms)
            due = sorted((when, order, name) for name, (when, order) in model.items() if when <= now_ms)
            assert [key[0] for key in timers.pop_due(now_ms)] == [name for _, _, name in due]
            for _, _, name in due:
                del model[name]
        assert timers.next_ms() == min((when for when, _ in model.values()), default=None)
        for name in range(5):
            assert timers.due_ms((name,)) == (model[name][0] if name in model else None)


def test_a_deadline_set_while_others_are_taken_is_taken_too_if_it_is_due() -> None:
    timers = Timers()
    timers.set(("a",), 5)
    found = []
    for key in timers.pop_due(10):
        found.append(key[0])
        if key == ("a",):
            timers.set(("b",), 10)
            timers.set(("c",), 11)
    assert found == ["a", "b"]


def test_moving_a_deadline_again_and_again_keeps_no_rubbish() -> None:
    timers = Timers()
    for at_ms in range(100_000):
        timers.set(("a",), 1_000_000 + at_ms)
    assert timers.size() < 1_000
    assert timers.next_ms() == 1_099_999

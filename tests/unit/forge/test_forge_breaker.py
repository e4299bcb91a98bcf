"""The circuit breaker of one forge."""

from __future__ import annotations

from bzzz.forge.breaker import Breaker


def test_a_limit_holds_back_for_as_long_as_it_asks() -> None:
    breaker = Breaker()
    assert breaker.wait_s(0) == 0
    breaker.limited(0, 30)
    assert breaker.wait_s(29_000) == 1
    assert breaker.asked
    assert breaker.wait_s(30_000) == 0


def test_the_longest_wish_counts() -> None:
    breaker = Breaker()
    breaker.limited(0, 30)
    breaker.limited(0, 5)
    assert breaker.wait_s(6_000) == 24


def test_after_a_pause_one_tries_and_the_others_wait() -> None:
    breaker = Breaker()
    breaker.limited(0, 1)
    assert breaker.wait_s(1_000) == 0
    assert breaker.wait_s(1_000) > 0
    breaker.answered()
    assert [breaker.wait_s(1_001) for _ in range(3)] == [0, 0, 0]


def test_a_trial_that_was_cancelled_lets_the_next_one_try() -> None:
    breaker = Breaker()
    breaker.limited(0, 1)
    assert breaker.wait_s(1_000) == 0
    breaker.abandoned()
    assert breaker.wait_s(1_000) == 0


def test_failures_in_a_row_open_it_for_pauses_that_double_up_to_a_bound() -> None:
    breaker, now, pauses = Breaker(failures_max=3, pause_s=2, pause_s_max=10), 0, []
    for _ in range(2):
        assert breaker.wait_s(now) == 0
        breaker.failed(now)
    assert breaker.wait_s(now) == 0
    for _ in range(5):
        breaker.failed(now)
        pauses.append(breaker.wait_s(now))
        now = breaker.open_until_ms
        assert breaker.wait_s(now) == 0
    assert pauses == [2, 4, 8, 10, 10]
    assert not breaker.asked


def test_an_answer_forgets_the_failures_before_it() -> None:
    breaker = Breaker(failures_max=2)
    for _ in range(5):
        breaker.failed(0)
        breaker.answered()
    assert breaker.wait_s(0) == 0

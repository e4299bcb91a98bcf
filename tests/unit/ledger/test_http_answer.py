from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzzz.errors import ServiceConflict, ServiceError, ServiceLimited, ServiceMissing, ServiceUnavailable
from bzzz.ledger.http_answer import RETRY_AFTER_S_MAX, describe, retry_after, status_error

WALL_S = 1_000_000_000.0


def error_of(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> ServiceError | None:
    return status_error("git server x", "asking", status, headers=headers or {}, body=body, wall_s=WALL_S)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("99999999999", RETRY_AFTER_S_MAX),
        ("-5", None),
        ("Sun, 09 Sep 2001 01:47:40 GMT", 60.0),
        ("Sun, 09 Sep 2001 01:45:40 GMT", 0.0),
        ("soon", None),
        ("١٢", None),
    ],
)
def test_both_forms_of_retry_after_are_read_within_bounds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, WALL_S) == seconds


@given(st.text())
def test_any_retry_after_is_no_wait_or_one_within_bounds(value: str) -> None:
    wait_s = retry_after(value, WALL_S)
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_S_MAX


@given(st.integers(min_value=100, max_value=999).filter(lambda status: status != 200))
def test_every_status_but_200_is_an_error_with_its_number(status: int) -> None:
    error = error_of(status)
    assert error is not None
    assert str(status) in str(error)


def test_a_limit_that_names_its_end_is_waited_for() -> None:
    error = error_of(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(WALL_S) + 30)})
    assert isinstance(error, ServiceLimited)
    assert error.retry_after_s == 30.0


def test_where_something_moved_to_is_told_unless_it_holds_a_password() -> None:
    assert "https://new.example/x" in str(error_of(302, {"location": "https://new.example/x"}))
    hidden = error_of(302, {"location": "https://me:secret@new.example/x"})
    assert isinstance(hidden, ServiceMissing)
    assert "secret" not in str(hidden)


@pytest.mark.parametrize(
    ("status", "kind"), [(408, ServiceUnavailable), (409, ServiceConflict), (413, ServiceConflict)]
)
def test_other_refusals_keep_their_kind(status: int, kind: type[ServiceError]) -> None:
    assert isinstance(error_of(status), kind)


def test_plain_words_are_quoted_and_pages_only_named() -> None:
    assert describe({"content-type": "text/plain; charset=utf-8"}, b"no\x1b[31m way\n") == "no [31m way"
    assert describe({"content-type": "text/html"}, b"<h1>hello</h1>") == "answered with text/html"
    assert describe({}, b"x") == ""

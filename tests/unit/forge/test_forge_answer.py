"""What a forge's answer means."""

from __future__ import annotations

import pytest

from bzzz.errors import ServiceDenied, ServiceLimited, ServiceNonsense
from bzzz.forge import answer
from bzzz.forge.answer import Response

NOW_S = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:50 GMT"}, 30),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "999999999"}, answer.RETRY_AFTER_MAX_S),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000012"}, 12),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "1790000012"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, 0),
        ({"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "x"}, None),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], wait_s: float | None) -> None:
    assert answer.retry_after(headers, NOW_S) == wait_s


def test_a_plain_403_is_no_limit_and_a_worded_one_is() -> None:
    def error(message: str) -> object:
        return answer.error(Response(403, {}, b'{"message": "%s"}' % message.encode()), "forge x", "asking", NOW_S)

    assert isinstance(error("Must have admin rights"), ServiceDenied)
    limited = error("You have exceeded a secondary rate limit")
    assert isinstance(limited, ServiceLimited)
    assert limited.retry_after_s == answer.RETRY_AFTER_DEFAULT_S


@pytest.mark.parametrize("status", [200, 201, 204, 304])
def test_success_is_no_error(status: int) -> None:
    assert answer.error(Response(status), "forge x", "asking", NOW_S) is None


def test_the_next_page_is_found_among_links_on_the_same_server_alone() -> None:
    url = "https://api.forge.test/repos/o/n/issues?page=1"
    header = (
        '<https://api.forge.test/repositories/1/issues?page=2>; rel="next", <https://api.forge.test/x>; rel="last"'
    )
    assert (
        answer.next_page({"link": header}, url, "s", "w") == "https://api.forge.test/repositories/1/issues?page=2"
    )
    assert answer.next_page({"link": "nonsense"}, url, "s", "w") is None
    assert answer.next_page({}, url, "s", "w") is None
    for elsewhere in (
        "https://api.forge.test:444/x",
        "http://api.forge.test/x",
        "https://evil.test/x",
        "//evil.test/x",
    ):
        with pytest.raises(ServiceNonsense):
            answer.next_page({"link": f'<{elsewhere}>; rel="next"'}, url, "s", "w")


def test_a_message_is_one_short_line_without_tokens() -> None:
    line = answer.clean("a\r\nb\x1b[31m ghp_0123456789abcdef " + "x" * 1000)
    assert line.startswith("a b [31m [removed] x")
    assert len(line) == answer.DETAIL_CHARS_MAX

"""Remembered answers and their ETags."""

from __future__ import annotations

from bzzz.forge.answer import Response
from bzzz.forge.etag_cache import EtagCache


def response(text: str, etag: str = '"e"') -> Response:
    return Response(200, {"etag": etag}, text.encode())


def test_an_etag_belongs_to_a_token_and_a_page() -> None:
    cache = EtagCache()
    cache.put(cache.key("a", "u"), response("x"))
    assert cache.get(cache.key("a", "u")) == ('"e"', response("x"))
    assert cache.get(cache.key("b", "u")) is None
    assert cache.get(cache.key(None, "u")) is None
    assert cache.get(cache.key("a", "v")) is None
    assert "a" not in cache.key("a", "u")[0][:1] or len(cache.key("a", "u")[0]) == 64


def test_entries_and_bytes_are_bounded_and_the_longest_unused_goes_first() -> None:
    cache = EtagCache(entries_max=2)
    for url in "abac":
        key = cache.key(None, url)
        if cache.get(key) is None:
            cache.put(key, response(url))
    assert cache.get(cache.key(None, "a")) is not None
    assert cache.get(cache.key(None, "b")) is None
    assert cache.evicted == 1

    cache = EtagCache(bytes_max=10)
    for url in "abc":
        cache.put(cache.key(None, url), response("12345"))
    assert (cache.size_bytes, cache.evicted) == (10, 1)
    cache.put(cache.key(None, "big"), response("x" * 11))
    assert cache.get(cache.key(None, "big")) is None


def test_an_answer_without_an_etag_takes_the_place_of_the_one_before() -> None:
    cache = EtagCache()
    key = cache.key(None, "u")
    cache.put(key, response("x"))
    cache.put(key, Response(200, {}, b"y"))
    assert cache.get(key) is None
    assert cache.size_bytes == 0

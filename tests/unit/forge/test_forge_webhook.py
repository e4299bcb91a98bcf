"""Webhooks in: signature, replay, and bodies that are no event."""

from __future__ import annotations

import json

import pytest

from bzzz.errors import PeerError
from bzzz.forge.webhook import Replays, receive, sign, verify

SECRET = "It's a Secret to Everybody"
BODY = json.dumps({"action": "opened", "issue": {"number": 3}, "repository": {"full_name": "o/n"}}).encode()


def headers(body: bytes = BODY, **more: str) -> dict[str, str]:
    base = {"X-Hub-Signature-256": sign(SECRET, body), "X-GitHub-Delivery": "id-1", "X-GitHub-Event": "issues"}
    return {**base, **{key.replace("_", "-"): value for key, value in more.items()}}


def test_githubs_own_example_of_a_signature_is_right() -> None:
    expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign(SECRET, b"Hello, World!") == expected
    assert verify(SECRET, b"Hello, World!", expected)


def test_a_signed_delivery_is_read() -> None:
    delivery = receive(SECRET, headers(), BODY, Replays())
    assert (delivery.event, delivery.repository, delivery.action, delivery.number) == ("issues", "o/n", "opened", 3)


@pytest.mark.parametrize("signature", ["", "sha256=", "sha1=abc", "sha256=" + "0" * 64, "sha256=é"])
def test_an_unsigned_delivery_is_refused(signature: str) -> None:
    with pytest.raises(PeerError, match="webhook_unsigned"):
        receive(SECRET, headers(X_Hub_Signature_256=signature), BODY, Replays())


def test_an_empty_secret_proves_nothing() -> None:
    assert not verify("", BODY, sign("", BODY))


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(PeerError, match="webhook_unsigned"):
        receive(SECRET, headers(), BODY + b" ", Replays())


def test_a_replay_is_refused_also_under_another_id() -> None:
    replays = Replays()
    receive(SECRET, headers(), BODY, replays)
    for again in (headers(), headers(X_GitHub_Delivery="id-2")):
        with pytest.raises(PeerError, match="webhook_replayed"):
            receive(SECRET, again, BODY, replays)


def test_the_memory_of_deliveries_is_bounded_and_counted() -> None:
    replays = Replays(deliveries_max=2)
    assert all(replays.first(str(n), str(n).encode()) for n in range(4))
    assert replays.forgotten == 4
    assert not replays.first("3", b"x")
    assert replays.first("0", b"0")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"{}", b'{"repository": 1}', b'{"repository": {"full_name": 1}}']
)
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(PeerError, match="webhook_malformed"):
        receive(SECRET, headers(body), body, Replays())


@pytest.mark.parametrize(
    "more", [{"X_GitHub_Event": "marketplace"}, {"X_GitHub_Delivery": ""}, {"X_GitHub_Delivery": "x" * 101}]
)
def test_headers_that_name_no_event_are_malformed(more: dict[str, str]) -> None:
    with pytest.raises(PeerError, match="webhook_malformed"):
        receive(SECRET, headers(BODY, **more), BODY, Replays())

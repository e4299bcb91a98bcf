"""What people are told: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

from bzzz.errors import (
    BzzzError,
    IllegalTransition,
    PayloadTooLarge,
    PeerError,
    ServiceDenied,
    ServiceError,
    ServiceLimited,
    SettingError,
)


def test_a_wrong_setting_names_file_key_value_and_what_is_allowed() -> None:
    error = SettingError("bzzz.toml", "mesh.port", "many", "a number from 0 to 65535")
    assert str(error) == "bzzz.toml: mesh.port = 'many' is not allowed; a number from 0 to 65535"


def test_a_long_value_is_shortened() -> None:
    assert len(str(SettingError("f", "k", "x" * 10_000, "less"))) < 120


def test_a_service_error_says_who_answered_what_and_what_to_do() -> None:
    error = ServiceDenied("forge example.test", "reading issues", "bad credentials", 401)
    assert str(error) == (
        "forge example.test: reading issues was answered 401: bad credentials "
        "(check that the token is right and may read and write here)"
    )


def test_a_service_error_without_an_answer_stays_one_line() -> None:
    assert str(ServiceError("Hive", "listing projects")) == "Hive: listing projects"


def test_a_limit_keeps_how_long_to_wait() -> None:
    assert ServiceLimited("forge", "listing", status=429, retry_after_s=7.5).retry_after_s == 7.5


def test_an_oversized_payload_names_both_sizes() -> None:
    assert "1000001 bytes" in str(PayloadTooLarge(1_000_001, 900_000))


def test_a_peer_error_is_counted_under_its_short_reason() -> None:
    assert PeerError("unsigned").reason == str(PeerError("unsigned")) == "unsigned"
    assert str(PeerError("oversized", "2 MB")) == "oversized: 2 MB"


def test_a_bug_in_a_state_machine_names_machine_state_and_event() -> None:
    error = IllegalTransition("claim", "OPEN", "Renewed")
    assert isinstance(error, BzzzError)
    assert str(error) == "claim: Renewed is not allowed in OPEN"

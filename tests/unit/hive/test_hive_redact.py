"""Secrets are taken out of text and JSON, and what is none stays."""

from __future__ import annotations

import json
import time

import pytest

from bzzz.hive.redact import DEPTH_MAX, MARK, Redactor

LETTERS = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA{LETTERS}\n{LETTERS}=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"remote: ghp_{LETTERS} was used", f"ghp_{LETTERS}"),
        (f"github_pat_{LETTERS}_{LETTERS}", LETTERS),
        (f"token glpat-{LETTERS[:20]}.", f"glpat-{LETTERS[:20]}"),
        (f"OPENAI sk-proj-{LETTERS}", f"sk-proj-{LETTERS}"),
        (f"sk-ant-api03-{LETTERS}", LETTERS),
        ("slack xoxb-123456789012-abcdefghij", "xoxb-123456789012"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        (f"bzf_{LETTERS}", LETTERS),
        (f"bzh_{LETTERS}", LETTERS),
        (f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{LETTERS}", LETTERS),
        (f"curl -H 'Authorization: Bearer {LETTERS}'", LETTERS),
        (f'{{"Authorization": "Basic {LETTERS}="}}', LETTERS),
        (f"authorization=token {LETTERS}", LETTERS),
        (f"it sent bearer {LETTERS} there", LETTERS),
        ("git clone https://bot:hunter2@git.test/a/b", "hunter2"),
        (f"git clone https://{LETTERS}@git.test/a/b", LETTERS),
        ("postgresql://hive:pa55word@db/hive", "pa55word"),
        ("export DB_PASSWORD=correct-horse-battery", "correct-horse"),
        ("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("password = 'correct horse'", "correct horse"),
        (f"before {KEY} after", "MIIEpAIBAAKCAQEA"),
        (KEY.partition("-----END")[0], LETTERS),
    ],
)
def test_a_known_shape_of_secret_is_taken_out(text: str, secret: str) -> None:
    redactor = Redactor()
    clean = redactor.text(text)
    assert secret not in clean
    assert MARK in clean
    assert redactor.found >= 1
    assert redactor.text(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "the task-scheduling-of-agents module",
        "def authorize(user): return tokens[user]",
        "see https://forge.test/acme/shop/pull/3 at 12:30",
        "git@github.com:acme/shop.git",
        "max_tokens = 4096, input_tokens: 12",
        "commit 0123456789abcdef0123456789abcdef01234567",
        'key = os.environ["API_KEY"]',
        "API_KEY=$API_KEY make",
        "a bearer of bad news",
        "Token buckets limit the rate",
    ],
)
def test_text_without_a_secret_stays_as_it_is(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert redactor.found == 0


def test_the_values_of_configured_secrets_are_taken_out_in_every_writing() -> None:
    redactor = Redactor(["p@ss word/1234", "short"])
    assert redactor.text("it is p@ss word/1234, or p%40ss%20word%2F1234; short stays") == (
        f"it is {MARK}, or {MARK}; short stays"
    )


def test_what_stands_under_a_telling_name_is_a_secret_and_keys_are_text_too() -> None:
    redactor = Redactor()
    clean = redactor.value(
        {
            "apiKey": "anything",
            "headers": {"X-Api-Key": "k", "Set-Cookie": "sid=1"},
            "usage": {"tokens": 12},
            f"ghp_{LETTERS}": [{"password": "p"}, 3, None, True],
        }
    )
    assert clean == {
        "apiKey": MARK,
        "headers": {"X-Api-Key": MARK, "Set-Cookie": MARK},
        "usage": {"tokens": 12},
        MARK: [{"password": MARK}, 3, None, True],
    }
    assert redactor.found == 5


def test_a_value_nested_too_deep_is_refused() -> None:
    value: object = "x"
    for _ in range(DEPTH_MAX + 2):
        value = [value]
    with pytest.raises(ValueError, match="deeper"):
        Redactor().value(value)


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----",
        "Authorization: ",
        "https://a:",
        "sk-" + "a" * 90,
        "A_A_A_A_TOKEN",
        "eyJaaaaaaaaa.",
        "password='",
        "a.a+a-",
        "bearer ",
    ],
)
def test_hostile_text_costs_time_in_proportion_to_its_length(piece: str) -> None:
    redactor = Redactor(["some secret value"])
    text = piece * (400_000 // len(piece))
    started = time.process_time()
    redactor.text(text)
    assert time.process_time() - started < 4.0


def test_json_stays_json() -> None:
    text = Redactor().text(json.dumps({"Authorization": f"Bearer {LETTERS}", "next": "x"}))
    assert json.loads(text) == {"Authorization": MARK, "next": "x"}

"""Who is let in: the pure rule, and the gate on a real socket."""

from __future__ import annotations

import base64
import logging
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from tests.support.hive_server import running_hive

from bzzz.errors import SettingError
from bzzz.hive.access import given_key, refuse_role, refuse_stranger
from bzzz.hive.key import Caller, Role
from bzzz.hive.setting import read_keys, read_secret

KEY = "k" * 32
OWN = frozenset({"hive.lan"})


@pytest.mark.parametrize(
    ("client", "host", "let_in"),
    [
        ("127.0.0.1", "127.0.0.1:8740", True),
        ("127.8.9.1", "localhost", True),
        ("::1", "[::1]:8740", True),
        ("::ffff:127.0.0.1", "hive.lan:8740", True),
        ("127.0.0.1", "evil.example:8740", False),
        ("127.0.0.1", "", False),
        ("192.168.1.7", "hive.lan", False),
        ("192.168.1.7", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("testclient", "localhost", False),
    ],
)
def test_without_keys_only_this_machine_is_served_under_its_own_name(client: str, host: str, let_in: bool) -> None:
    assert (refuse_stranger(client, host, OWN) is None) is let_in


@pytest.mark.parametrize(
    ("authorization", "key"),
    [
        (f"Bearer {KEY}", KEY),
        (f"bearer  {KEY} ", KEY),
        ("Basic " + base64.b64encode(f"any:{KEY}".encode()).decode(), KEY),
        ("Bearer ", None),
        (KEY, None),
        ("", None),
        ("Basic !!!", None),
        ("Basic " + base64.b64encode(KEY.encode()).decode(), None),
    ],
)
def test_a_key_is_found_in_the_header_however_it_is_sent(authorization: str, key: str | None) -> None:
    assert given_key(authorization) == key


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/api/bzzz/projects", Role.READ),
        ("GET", "/", Role.READ),
        ("GET", "/api/bzzz/captures", Role.READ),
        ("POST", "/api/bzzz/projects/1/claim", Role.NODE),
        ("PUT", "/api/bzzz/projects/1/status", Role.NODE),
        ("POST", "/api/bzzz/projects/1/create-pr", Role.NODE),
        ("POST", "/api/bzzz/chat-log", Role.NODE),
        ("POST", "/api/bzzz/projects", Role.ADMIN),
        ("PATCH", "/api/bzzz/projects/1", Role.ADMIN),
        ("DELETE", "/api/bzzz/projects/1", Role.ADMIN),
        ("POST", "/api/bzzz/projects/1/claim/x", Role.ADMIN),
        ("GET", "/api/bzzz/keys", Role.ADMIN),
        ("POST", "/unknown", Role.ADMIN),
    ],
)
def test_each_call_needs_its_role_and_an_unknown_write_needs_the_highest(
    method: str, path: str, needed: Role
) -> None:
    for role in Role:
        refusal = refuse_role(Caller("walnut", role), method, path)
        assert (refusal is None) is (role >= needed)
        if refusal is not None:
            assert refusal.status is HTTPStatus.FORBIDDEN
            assert needed.word in refusal.detail


async def test_the_gate_stands_before_every_route_but_health_and_webhooks(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"# for the nodes\n{KEY}\n")
    async with (
        running_hive(tmp_path, key_file=key_file) as hive,
        hive.client() as stranger,
        hive.client(KEY) as node,
    ):
        for path in ("/", "/docs", "/openapi.json", "/api/bzzz/active-repos", "/api/bzzz/events", "/nowhere"):
            answer = await stranger.get(path)
            assert answer.status_code == 401
            assert answer.json()["error"] == "unauthorized"
            assert "Basic" in answer.headers["www-authenticate"]
        assert (await stranger.post("/api/bzzz/projects", content=b"{" * 100)).status_code == 401
        assert (await stranger.get("/health")).status_code == 200
        assert (await stranger.post("/api/bzzz/webhooks/github")).status_code == 403
        assert (await node.get("/api/bzzz/active-repos")).status_code == 200


async def test_a_hive_without_keys_says_so_and_refuses_a_foreign_host_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bzzz.hive"):
        async with running_hive(tmp_path) as hive, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{hive.url}/api/bzzz/projects", headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["error"]) == (403, "wrong_host")
    assert "only clients on this machine are served" in caplog.text


@pytest.mark.parametrize("text", ["", "# only a comment\n", "s3cret\n", "ключ-ключ-ключ-ключ\n"])
def test_a_key_file_without_a_good_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(SettingError) as caught:
        read_keys(path)
    assert str(path) in str(caught.value)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="webhook"):
        read_secret(tmp_path / "absent", "hive.webhook_secret_file")
    assert read_secret(None, "hive.webhook_secret_file") is None

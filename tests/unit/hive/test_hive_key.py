"""API keys: made, found, revoked, limited (``bzzz.hive.keyring``, ``key_store``, ``rate``), on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.support.hive_server import RealClock, RunningHive, running_hive
from tests.support.manual_clock import ManualClock

from bzzz.errors import UsageError
from bzzz.hive.database import open_database
from bzzz.hive.key import KEY_PREFIX, Role, digest
from bzzz.hive.key_store import KeyStore
from bzzz.hive.keyring import READ_AGAIN_S, Keyring
from bzzz.hive.rate import RateLimit
from bzzz.hive.setting import credential, read_keys
from bzzz.hive.store import HiveStore

ACTIVE = "/api/bzzz/active-repos"
CLAIM = {"task_number": 1, "agent_id": "old"}


@pytest.fixture
async def hive(tmp_path: Path, database: str) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path, database_url=database) as running:
        running.add_project()
        yield running


async def make(client: httpx.AsyncClient, name: str, role: str) -> str:
    answer = await client.post("/api/bzzz/keys", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    assert key.startswith(KEY_PREFIX)
    return key


async def test_the_first_key_closes_hive_to_who_has_none_and_each_role_does_what_it_may(hive: RunningHive) -> None:
    async with hive.client() as anyone:
        admin_key = await make(anyone, "boss", "admin")
        assert (await anyone.get(ACTIVE)).status_code == 401
    async with hive.client(admin_key) as admin:
        node_key, read_key = await make(admin, "walnut", "node"), await make(admin, "page", "read")
    for key, expected in (
        (read_key, (200, 403, 403, 403)),
        (node_key, (200, 404, 403, 403)),
        (admin_key, (200, 404, 201, 200)),
    ):
        async with hive.client(key) as client:
            answers = [
                await client.get(ACTIVE),
                await client.post("/api/bzzz/projects/1/claim", json=CLAIM),
                await client.post("/api/bzzz/projects", json={"name": "x", "git_url": "http://forge.test/acme/x"}),
                await client.get("/api/bzzz/keys"),
            ]
        assert tuple(answer.status_code for answer in answers) == expected
        for answer in answers:
            if answer.status_code == 403:
                assert answer.json()["error"] == "forbidden"
                assert "has the role" in answer.json()["detail"]


async def test_a_revoked_key_ends_at_once_and_hive_stays_closed(hive: RunningHive) -> None:
    async with hive.client() as anyone:
        key = await make(anyone, "boss", "admin")
        async with hive.client(key) as boss:
            assert (await boss.post("/api/bzzz/keys", json={"name": "boss", "role": "read"})).status_code == 409
            assert (await boss.delete("/api/bzzz/keys/boss")).status_code == 200
            assert (await boss.get(ACTIVE)).status_code == 401
        assert (await anyone.get(ACTIVE)).status_code == 401
    (info,) = hive.parts.store.keys.list()
    assert (info.name, bool(info.revoked_at)) == ("boss", True)


async def test_keys_are_kept_as_hashes_alone_and_never_listed(hive: RunningHive, database: str) -> None:
    async with hive.client() as anyone:
        key = await make(anyone, "boss", "admin")
    async with hive.client(key) as boss:
        listed = await boss.get("/api/bzzz/keys")
        assert key not in listed.text
        assert key.startswith(listed.json()["keys"][0]["shown"].removesuffix("..."))
        assert (await boss.delete("/api/bzzz/keys/nobody")).status_code == 404
        assert (await boss.post("/api/bzzz/keys", json={"name": "a b"})).status_code == 422
    reader, _ = open_database(database)
    with reader.connect() as connection:
        row = str(connection.execute(text("SELECT * FROM bzzz_keys")).one())
    reader.dispose()
    assert digest(key) in row
    assert key not in row


async def test_a_key_made_or_revoked_by_another_process_is_known_in_a_moment(database: str) -> None:
    clock = ManualClock()
    with HiveStore(database, RealClock()) as store:
        ring = Keyring(store.keys, clock, {})
        assert not await ring.in_use()
        store.keys.add("walnut", Role.NODE, "bzh_first-key-of-walnut")
        assert not await ring.in_use()
        clock.advance(READ_AGAIN_S)
        assert await ring.in_use()
        found = await ring.find("bzh_first-key-of-walnut")
        assert found is not None
        assert (found.name, found.role) == ("walnut", Role.NODE)
        await ring.close()
        assert store.keys.list()[0].used_at
        store.keys.revoke("walnut")
        assert await ring.find("bzh_first-key-of-walnut") is not None
        clock.advance(READ_AGAIN_S)
        assert await ring.find("bzh_first-key-of-walnut") is None
        assert await ring.in_use()
        await ring.close()


async def test_of_two_keys_of_one_name_made_at_once_one_is_refused(database: str) -> None:
    with HiveStore(database, RealClock()) as store:

        def attempt(number: int) -> bool:
            try:
                store.keys.add("walnut", Role.NODE, f"bzh_key-number-{number}")
            except UsageError:
                return False
            return True

        made = await asyncio.gather(*(asyncio.to_thread(attempt, number) for number in range(6)))
        assert sum(made) == 1


async def test_a_key_that_calls_too_often_is_told_when_to_come_back_and_others_are_not(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text("node first-key-of-a-node\nnode second-key-of-a-node\n")
    async with (
        running_hive(tmp_path, key_file=key_file, rate_per_s=0.01, rate_burst=3) as hive,
        hive.client("first-key-of-a-node") as first,
        hive.client("second-key-of-a-node") as second,
    ):
        answers = [await first.get(ACTIVE) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["error"] == "limited"
        assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
        assert (await second.get(ACTIVE)).status_code == 200
        assert (await second.get("/health")).json()["counters"]["refused_limited"] == 1


async def test_guessing_keys_is_slowed_down_and_does_not_shut_out_who_has_one(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text("the-right-key-of-a-node\n")
    async with (
        running_hive(tmp_path, key_file=key_file, wrong_rate_per_s=0.01, wrong_rate_burst=2) as hive,
        hive.client("a-wrong-key-of-a-node") as wrong,
        hive.client("the-right-key-of-a-node") as right,
    ):
        assert [(await wrong.get(ACTIVE)).status_code for _ in range(3)] == [401, 401, 429]
        assert (await right.get(ACTIVE)).status_code == 200


async def test_a_database_that_is_away_lets_nobody_in_by_mistake(
    hive: RunningHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    async with hive.client() as anyone:
        key = await make(anyone, "boss", "admin")
    monkeypatch.setattr(KeyStore, "in_force", fail)
    hive.parts.keyring.forget()
    monkeypatch.setattr(KeyStore, "any", fail)
    async with hive.client(key) as boss, hive.client() as anyone:
        for answer in (await boss.get(ACTIVE), await anyone.get(ACTIVE)):
            assert (answer.status_code, answer.json()["error"]) == (503, "database_unavailable")
            assert answer.headers["retry-after"]


def test_a_bucket_empties_fills_again_and_memory_is_bounded() -> None:
    limit = RateLimit(per_s=2.0, burst=2, names_max=2)
    assert [limit.take("a", 0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limit.take("a", 500) == 0.0
    assert limit.take("a", 500) == 0.5
    limit.take("b", 500)
    limit.take("c", 500)
    assert limit.take("a", 500) == 0.0
    assert RateLimit(per_s=0, burst=1).take("a", 0) == RateLimit(per_s=0, burst=1).take("a", 0) == 0.0


def test_a_key_file_gives_each_key_its_role(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# nodes\nnode aaaaaaaaaaaaaaaaaaaa\n\nread bbbbbbbbbbbbbbbbbbbb\ncccccccccccccccccccc\n")
    assert list(read_keys(path).values()) == [Role.NODE, Role.READ, Role.ADMIN]


def test_a_systemd_credential_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "hive-keys").write_text("x")
    assert credential("hive-keys", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == tmp_path / "hive-keys"
    assert credential("other", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) is None
    assert credential("hive-keys", {}) is None

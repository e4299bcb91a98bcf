"""A project's repository is looked at before it is added: on a real forge, and on what is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.forge_server import ForgeServer, running_forge
from tests.support.hive_server import running_hive

from bzzz.core.task import Repository
from bzzz.hive.inspection import Finding, inspect_repository, trouble


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with running_forge(tmp_path_factory.mktemp("forge"), anonymous_read=True) as server:
        yield server


@pytest.fixture(scope="module")
def shop(forge: ForgeServer) -> Repository:
    return forge.repository("acme", "shop")


@pytest.fixture(scope="module")
def vault(forge: ForgeServer) -> Repository:
    info = forge.forge.create_repository("acme", "vault", private=True, files={"a": "b"})
    return Repository(2, "vault", "acme", "vault", info.git_url, info.api_url)


async def look(repository: Repository, token: str | None) -> dict[str, bool]:
    return {finding.what: finding.fine for finding in await inspect_repository(repository, token)}


async def test_a_token_that_may_write_passes(forge: ForgeServer, shop: Repository, vault: Repository) -> None:
    token = forge.forge.create_token("bzzz", scope="write")
    for repository in (shop, vault):
        found = await inspect_repository(repository, token)
        assert trouble(found) == ""
        assert [finding.what for finding in found] == ["exists", "read", "write", "git read", "git write"]


async def test_each_thing_that_fails_is_named(forge: ForgeServer, shop: Repository, vault: Repository) -> None:
    reader = forge.forge.create_token("bzzz", scope="read")
    assert await look(shop, reader) == {
        "exists": True,
        "read": True,
        "write": False,
        "git read": True,
        "git write": False,
    }
    assert "the token may not push" in trouble(await inspect_repository(shop, reader))
    nobody = trouble(await inspect_repository(vault, None))
    assert nobody.startswith("exists: no")
    assert "it is private and there is no token" in nobody
    absent = replace(shop, repository="absent", git_url=shop.git_url.replace("shop", "absent"))
    assert "acme/absent is not at 127.0.0.1" in trouble(await inspect_repository(absent, reader))
    wrong = await look(shop, "wrong-token")
    assert (wrong["read"], wrong["git write"]) == (False, False)
    assert "wrong-token" not in trouble(await inspect_repository(shop, "wrong-token"))


async def test_what_is_no_forge_or_is_away_is_said(forge: ForgeServer, shop: Repository) -> None:
    no_api = replace(shop, api_url=forge.base_url + "/nowhere")
    assert "exists" in trouble(await inspect_repository(no_api, None))
    away = replace(shop, api_url="http://127.0.0.1:9/api/v3", git_url="http://127.0.0.1:9/acme/shop.git")
    found = await inspect_repository(away, None)
    assert "127.0.0.1:9 does not answer" in trouble(found)
    ssh = replace(shop, git_url="git@127.0.0.1:acme/shop.git")
    assert "claims are taken over http" in trouble(await inspect_repository(ssh, None))


async def test_a_project_whose_repository_cannot_be_used_is_not_added_unless_that_is_asked_for(
    tmp_path: Path, forge: ForgeServer, shop: Repository
) -> None:
    looked: list[str] = []

    async def inspect(repository: Repository) -> Sequence[Finding]:
        looked.append(f"{repository.api_url} {repository.key}")
        return await inspect_repository(repository, forge.token)

    path = "/api/bzzz/projects"
    async with running_hive(tmp_path, inspect=inspect) as hive, hive.client() as client:
        draft = {"name": "shop", "git_url": shop.git_url}
        assert (await client.post(path, json=draft)).status_code == 201
        absent = {"name": "absent", "git_url": shop.git_url.replace("shop", "absent")}
        refused = await client.post(path, json=absent)
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid_request")
        assert "exists: no (acme/absent is not at" in refused.json()["detail"]
        assert (await client.patch(f"{path}/1", json={"git_url": absent["git_url"]})).status_code == 422
        assert (await client.patch(f"{path}/1", json={"description": "x"})).status_code == 200
        assert looked == [f"{forge.api_url} acme/{name}" for name in ("shop", "absent", "absent")]
        assert (await client.post(f"{path}?check=false", json=absent)).status_code == 201
        assert len(looked) == 3


async def test_looking_at_many_repositories_at_once_is_fine(forge: ForgeServer, shop: Repository) -> None:
    found = await asyncio.gather(*(inspect_repository(shop, forge.token) for _ in range(5)))
    assert {trouble(one) for one in found} == {""}

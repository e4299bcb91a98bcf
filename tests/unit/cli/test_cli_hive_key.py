"""``bzzz hive key``, on a running Hive and in its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.hive_server import RunningHive, running_hive
from typer.testing import CliRunner, Result

from bzzz.cli.hive import app
from bzzz.config import load
from bzzz.errors import ServiceError, UsageError


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path) as running:
        yield running


async def run(*arguments: str, **environment: str) -> Result:
    clean = dict.fromkeys(("BZZZ_HIVE_API_URL", "BZZZ_HIVE_API_KEY", "BZZZ_HIVE_API_KEY_FILE"), "")
    return await asyncio.to_thread(CliRunner().invoke, app, ["key", *arguments], env={**clean, **environment})


@pytest.mark.parametrize("place", ["url", "database"])
async def test_a_key_is_made_into_a_file_for_its_owner_alone_listed_and_revoked(
    hive: RunningHive, tmp_path: Path, place: str
) -> None:
    where = ("--url", hive.url) if place == "url" else ("--database", str(tmp_path / "hive.db"))
    file = tmp_path / "boss.key"
    made = await run("create", "boss", "--role", "admin", "--out", str(file), *where)
    assert made.exit_code == 0, made.output
    key = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in made.output
    again = await run("create", "boss", "--out", str(file), *where)
    assert isinstance(again.exception, UsageError)
    hive.parts.keyring.forget()
    by_key = (*where, "--key-file", str(file))
    listed = await run("list", "--json", *by_key)
    assert [(one["name"], one["role"]) for one in json.loads(listed.stdout)] == [("boss", "admin")]
    assert "boss" in (await run("list", *by_key)).stdout
    assert key not in listed.stdout
    async with hive.client(key) as client:
        assert (await client.get("/api/bzzz/projects")).status_code == 200
    assert (await run("revoke", "boss", *by_key)).stdout == "revoked 'boss'\n"
    assert isinstance((await run("revoke", "boss", *by_key)).exception, UsageError | ServiceError)


async def test_a_mistake_is_said(hive: RunningHive) -> None:
    for wrong in (("create", "a b"), ("create", "x", "--role", "king")):
        assert isinstance((await run(*wrong, "--url", hive.url)).exception, UsageError)


async def test_a_key_comes_from_a_systemd_credential_for_commands_and_nodes(
    hive: RunningHive, tmp_path: Path
) -> None:
    made = await run("create", "boss", "--role", "admin", "--url", hive.url)
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "hive-api-key").write_text(made.stdout)
    (folder / "github-token").write_text("token-of-the-node\n")
    listed = await run("list", "--url", hive.url, CREDENTIALS_DIRECTORY=str(folder))
    assert listed.exit_code == 0, listed.output
    config = load(None, {"CREDENTIALS_DIRECTORY": str(folder)})
    assert config.hive_key == made.stdout.strip()
    assert config["forge.token_file"] == str(folder / "github-token")

"""``bzzz hive export`` and ``bzzz hive captures``, from a running Hive and from its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.hive_server import RunningHive, running_hive
from typer.testing import CliRunner, Result

from bzzz.cli import hive_capture
from bzzz.cli.hive import app
from bzzz.errors import SettingError, UsageError


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path) as running, running.client() as client:
        running.add_project()
        for number in range(1, 6):
            body = {"task_number": number, "agent_id": "walnut", "content": "x", "tokens_in": 10}
            assert (await client.post("/api/bzzz/projects/1/submit-work", json=body)).status_code == 200
        yield running


async def run(*arguments: str) -> Result:
    environment = dict.fromkeys(("BZZZ_HIVE_API_URL", "BZZZ_HIVE_API_KEY", "BZZZ_HIVE_API_KEY_FILE"), "")
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)


@pytest.mark.parametrize("place", ["url", "database"])
async def test_everything_is_exported_page_by_page(
    hive: RunningHive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(hive_capture, "PAGE_ITEMS", 2)
    where = ("--url", hive.url) if place == "url" else ("--database", str(tmp_path / "hive.db"))
    folder = tmp_path / "out"
    ran = await run("export", str(folder), *where, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout) == {"agent_work": 5}
    numbers = {json.loads(path.read_text())["task_number"] for path in (folder / "agent_work").glob("*.json")}
    assert numbers == {1, 2, 3, 4, 5}
    nothing = await run("export", str(folder), *where, "--until", "2020-01-01", "--project", "shop")
    assert "nothing" in nothing.stdout


async def test_captures_are_listed_with_their_sums(hive: RunningHive) -> None:
    listed = await run("captures", "--url", hive.url, "--project", "shop", "--agent", "walnut")
    assert listed.exit_code == 0, listed.output
    assert "5 items, 50 tokens" in listed.stdout
    assert (
        json.loads((await run("captures", "--url", hive.url, "--task", "3", "--json")).stdout)["sums"]["items"] == 1
    )


async def test_a_mistake_is_said_and_a_password_is_not_taken_from_the_command_line(tmp_path: Path) -> None:
    absent = await run("export", str(tmp_path), "--database", str(tmp_path / "absent.db"))
    assert isinstance(absent.exception, UsageError)
    for url in ("postgresql://hive:s3cret@db/hive", "postgresql://db/hive?password=s3cret"):
        refused = await run("export", str(tmp_path), "--database", url)
        assert isinstance(refused.exception, SettingError)
        assert "s3cret" not in str(refused.exception)

"""``bzzz hive project``, against a running Hive and against a database file.

It speaks for bzzz.cli.project_option too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hive_server import RunningHive, running_hive
from typer.testing import CliRunner

import bzzz
from bzzz.cli.hive import app
from bzzz.errors import BzzzError

KEY = "s3cret-key-of-a-person"


@dataclass
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


async def run(*arguments: str, **environment: str) -> Ran:
    """Run ``bzzz hive project ...`` in a thread: the Hive it talks to is in this event loop."""
    clean = dict.fromkeys(("BZZZ_HIVE_API_URL", "BZZZ_HIVE_API_KEY", "BZZZ_HIVE_API_KEY_FILE"), "")
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["project", *arguments], env={**clean, "COLUMNS": "200", **environment}
    )
    if isinstance(result.exception, BzzzError):
        # What the ``bzzz`` program makes of it.
        return Ran(1, result.stdout, f"bzzz: {result.exception}\n")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path) as running:
        yield running


@pytest.fixture(params=["url", "database"])
async def where(request: pytest.FixtureRequest, hive: RunningHive, tmp_path: Path) -> tuple[str, str]:
    return ("--url", hive.url) if request.param == "url" else ("--database", str(tmp_path / "hive.db"))


async def test_a_project_is_added_shown_disabled_enabled_and_removed(where: tuple[str, str]) -> None:
    added = await run("add", "shop", "--git-url", "http://forge.test/acme/shop.git", "--json", *where)
    assert added.status == 0
    assert json.loads(added.out)["bzzz_enabled"] is True
    for verb, enabled in (("disable", False), ("enable", True)):
        assert (await run(verb, "acme/shop", *where)).status == 0
        shown = json.loads((await run("show", "shop", "--json", *where)).out)
        assert shown["bzzz_enabled"] is enabled
    assert (await run("remove", str(shown["id"]), "--yes", *where)).out == "removed 'shop'\n"
    assert json.loads((await run("list", "--json", *where)).out) == []


async def test_a_list_fits_80_columns_and_prints_no_control_characters(where: tuple[str, str]) -> None:
    for index in range(3):
        url = f"http://forge.test/{'o' * 60}/{'r' * 60}{index}.git"
        assert (await run("add", f"{'n' * 120}{index}", "--git-url", url, *where)).status == 0
    listed = await run("list", *where)
    assert listed.status == 0
    assert max(map(len, listed.out.splitlines())) <= 80
    assert "\x1b" not in listed.out
    assert max(map(len, (await run("show", "1", *where)).out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nowhere"), "there is no project 'nowhere'"),
        (("add", "shop"), "give either --git-url or --repository"),
        (("add", "shop", "--git-url", "nonsense"), "git_url:"),
        (("add", "shop", "--git-url", "https://u:s3cret@github.com/a/b"), "git_url:"),
        (("remove", "shop"), "nothing was removed"),
    ],
)
async def test_a_mistake_is_one_line(where: tuple[str, str], arguments: tuple[str, ...], said: str) -> None:
    ran = await run(*arguments, *where)
    assert ran.status == 1
    assert ran.err.startswith("bzzz: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert "s3cret" not in ran.err


async def test_a_hive_with_keys_is_given_the_key_from_a_file_or_the_environment(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(KEY)
    async with running_hive(tmp_path, key_file=key_file) as hive:
        refused = await run("list", "--url", hive.url)
        assert (refused.status, "401" in refused.err) == (1, True)
        assert (await run("list", "--url", hive.url, "--key-file", str(key_file))).status == 0
        assert (await run("list", BZZZ_HIVE_API_URL=hive.url, BZZZ_HIVE_API_KEY=KEY)).status == 0
        wrong = await run("list", BZZZ_HIVE_API_URL=hive.url, BZZZ_HIVE_API_KEY="wrong-" + KEY)
        assert wrong.status == 1
        assert KEY not in wrong.err


async def test_a_database_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    ran = await run("list", "--database", str(tmp_path / "absent.db"))
    assert (ran.status, "there is no database" in ran.err) == (1, True)
    assert not (tmp_path / "absent.db").exists()


async def test_a_hive_that_is_away_is_said(hive: RunningHive) -> None:
    await hive.stop()
    ran = await run("list", "--url", hive.url)
    assert ran.status == 1
    assert f"Hive {hive.url}" in ran.err


async def test_help_has_examples() -> None:
    for command in ("add", "list", "show", "enable", "disable", "remove"):
        assert "Example: bzzz hive project" in (await run(command, "--help")).out


async def test_listing_projects_does_not_wait_for_forge_ledger_and_server() -> None:
    code = (
        "import sys, bzzz.cli.hive; "
        "print([name for name in ('uvicorn', 'bzzz.forge', 'bzzz.ledger', 'bzzz.hive.app') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(bzzz.__file__).parents[1])},
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"

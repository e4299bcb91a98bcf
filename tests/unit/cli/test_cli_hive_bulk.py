"""``bzzz hive project set`` and ``import``: settings by flags, and many projects from a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.hive_server import RunningHive, running_hive
from typer.testing import CliRunner, Result

from bzzz.cli.hive import app
from bzzz.errors import UsageError

TOML = """
[[project]]
name = "shop"
git_url = "http://forge.test/acme/shop.git"
labels = ["agents"]
limits = { wall_s_max = 1800 }

[[project]]
name = "till"
git_url = "http://forge.test/acme/till.git"
reviewers = "ana"

[[project]]
name = "mill"
git_url = "http://forge.test/acme/mill.git"
bzzz_enabled = false
"""


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[RunningHive]:
    async with running_hive(tmp_path) as running:
        yield running


@pytest.fixture(params=["url", "database"])
async def where(request: pytest.FixtureRequest, hive: RunningHive, tmp_path: Path) -> tuple[str, str]:
    return ("--url", hive.url) if request.param == "url" else ("--database", str(tmp_path / "hive.db"))


async def run(*arguments: str) -> Result:
    environment = dict.fromkeys(("BZZZ_HIVE_API_URL", "BZZZ_HIVE_API_KEY", "BZZZ_HIVE_API_KEY_FILE"), "")
    return await asyncio.to_thread(CliRunner().invoke, app, ["project", *arguments], env=environment)


async def test_each_project_of_a_file_is_added_or_changed_whatever_becomes_of_the_others(
    where: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "projects.toml"
    file.write_text(TOML)
    ran = await run("import", str(file), "--json", *where)
    results = {one["name"]: one for one in json.loads(ran.stdout)}
    assert ran.exit_code == 1
    assert {name: one["result"] for name, one in results.items()} == {
        "shop": "added",
        "till": "failed",
        "mill": "added",
    }
    assert "reviewers" in results["till"]["detail"]
    file.write_text(TOML.replace('"ana"', '["ana"]').replace("1800", "900"))
    ran = await run("import", str(file), *where)
    assert ran.exit_code == 0
    assert ran.stdout == "changed 'shop'\nadded 'till'\nchanged 'mill'\n"
    shown = json.loads((await run("show", "shop", "--json", *where)).stdout)
    assert shown["settings"]["limits"] == {"wall_s_max": 900}


async def test_settings_are_changed_by_flags_and_taken_away_by_an_empty_text(where: tuple[str, str]) -> None:
    added = await run(
        "add",
        "shop",
        "--git-url",
        "http://forge.test/acme/shop.git",
        "--label",
        "agents",
        "--reviewer",
        "ana",
        *where,
    )
    assert added.exit_code == 0, added.output
    command = "sh -c 'make test'"
    changed = await run(
        "set", "shop", "--check-command", command, "--limit", "wall_s_max=60", "--label", "", *where
    )
    assert changed.stdout == "changed 'shop'\n"
    settings = json.loads((await run("show", "shop", "--json", *where)).stdout)["settings"]
    assert settings["check_command"] == ["sh", "-c", "make test"]
    assert (settings["labels"], settings["reviewers"], settings["limits"]) == ([], ["ana"], {"wall_s_max": 60})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[[project"),
        ("a.yaml", "- just\n- words"),
        ("a.json", "{}"),
        ("a.json", "{"),
        ("a.yaml", "a: [b"),
    ],
)
async def test_a_file_that_holds_no_projects_is_said(
    hive: RunningHive, tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    ran = await run("import", str(file), "--url", hive.url)
    assert isinstance(ran.exception, UsageError)
    assert str(file) in str(ran.exception)


@pytest.mark.parametrize(
    "wrong", [("set", "shop"), ("set", "shop", "--limit", "x"), ("set", "shop", "--check-command", "'")]
)
async def test_a_wrong_flag_is_said(hive: RunningHive, wrong: tuple[str, ...]) -> None:
    assert isinstance((await run(*wrong, "--url", hive.url)).exception, UsageError)

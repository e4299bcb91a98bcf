"""The published interface is kept: schemathesis finds no server error and no answer that is not documented.

It is run as its own program against a Hive on a real socket, on both databases, with a fixed seed and a bound on
its time. The event stream, which has no end, is left to the tests of its own.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.hive_server import RunningHive, running_hive
from tests.support.hive_world import issue

KEY = "key-of-the-interface-test"
EXAMPLES = 6
TIME_S_MAX = 180
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


async def run_schemathesis(url: str, folder: Path, *more: str) -> tuple[int, str]:
    """Run it; gives its status and what it said."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS)),
        *("--exclude-path", "/api/bzzz/events", "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--seed", "7", "--request-timeout", "10", "--no-shrink"),
        *("--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure", *more),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "120"},
    )
    try:
        async with asyncio.timeout(TIME_S_MAX):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace")


async def prepare(hive: RunningHive) -> None:
    """Something to find: a project with tasks, a claim, a pull request, captures."""
    hive.add_project()
    hive.forge.put("acme/shop", issue(1), issue(2))
    hive.forge.branches.add("main")
    async with hive.client(KEY) as client:
        for path, body in (
            ("projects/1/claim", {"task_number": 1, "agent_id": "0"}),
            ("projects/1/submit-work", {"task_number": 1, "agent_id": "0"}),
        ):
            assert (await client.post(f"/api/bzzz/{path}", json=body)).status_code == 200


@pytest.mark.timeout(TIME_S_MAX + 30)
async def test_schemathesis_finds_no_server_error_and_no_undocumented_answer(tmp_path: Path, database: str) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(KEY)
    settings = {"database_url": database, "key_file": key_file, "rate_per_s": 0.0}
    async with running_hive(tmp_path, **settings) as hive:  # type: ignore[arg-type]
        await prepare(hive)
        status, said = await run_schemathesis(hive.url, tmp_path)
        assert status == 0, said
        assert "No issues found" in said, said


async def test_every_call_is_published_with_its_failures(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive, hive.client() as client:
        published = (await client.get("/openapi.json")).json()
        assert published["info"]["title"] == "Bzzz Hive"
        assert len(published["paths"]) >= 20
        for path, calls in published["paths"].items():
            for method, call in calls.items():
                assert {"401", "403", "413", "422", "429", "503"} <= call["responses"].keys(), (method, path)
        assert (await client.get("/docs")).status_code == 200

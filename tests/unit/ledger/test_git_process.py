from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from bzzz.errors import LedgerRefused
from bzzz.ledger.git_process import run_git

HOLD = "alias.hold=!echo $$ > {pid}; exec sleep 60"


def written_pid(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() and path.read_text().endswith("\n") else None


async def wait_for_pid(path: Path) -> int:
    async with asyncio.timeout(30):
        while (pid := written_pid(path)) is None:  # noqa: ASYNC110  (a file has no signal here)
            await asyncio.sleep(0.01)
    return pid


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while is_alive(pid):  # noqa: ASYNC110  (another program's end has no signal here)
            await asyncio.sleep(0.01)
    return True


async def test_bytes_go_in_and_come_out() -> None:
    finished = await run_git(["hash-object", "--stdin"], b"hello\n", output_bytes_max=100, timeout_s=30)
    assert finished.status == 0
    assert finished.output == b"ce013625030ba8dba906f756967f9e9ca394464a\n"


async def test_neither_configuration_nor_secrets_of_the_surroundings_reach_git(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".gitconfig").write_text("[planted]\n\tkey = value\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLANTED_TOKEN", "secret")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    finished = await run_git(["-c", "alias.env=!env", "env"], b"", output_bytes_max=10_000, timeout_s=30)
    assert b"PLANTED" not in finished.output
    assert str(tmp_path).encode() not in finished.output
    config = await run_git(["config", "--get", "planted.key"], b"", output_bytes_max=100, timeout_s=30)
    assert config.output == b""


async def test_output_above_the_bound_ends_the_run() -> None:
    arguments = ["-c", "alias.much=!yes", "much"]
    finished = await run_git(arguments, b"", output_bytes_max=1000, timeout_s=30)
    assert finished.overflowed
    assert len(finished.output) == 1000


async def test_input_that_nobody_reads_does_not_hang() -> None:
    finished = await run_git(["--version"], b"x" * 5_000_000, output_bytes_max=1000, timeout_s=30)
    assert finished.status == 0


@pytest.mark.parametrize("cancel", [True, False])
async def test_a_run_that_is_cancelled_or_too_long_leaves_no_process(tmp_path: Path, cancel: bool) -> None:
    pid_file = tmp_path / "pid"
    running = asyncio.create_task(
        run_git(["-c", HOLD.format(pid=pid_file), "hold"], b"", output_bytes_max=10, timeout_s=60 if cancel else 2)
    )
    pid = await wait_for_pid(pid_file)
    if cancel:
        running.cancel()
    with pytest.raises(asyncio.CancelledError if cancel else TimeoutError):
        await running
    assert await gone(pid)


async def test_a_machine_without_git_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LedgerRefused, match="install git"):
        await run_git(["--version"], b"", output_bytes_max=10, timeout_s=30)

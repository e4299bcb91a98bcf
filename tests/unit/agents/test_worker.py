"""The worker process by itself, and the lines between it and its node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent_fixture import Bench, make_comment

import bzzz
from bzzz.agents.runner import LineReader
from bzzz.agents.setting import AgentSettings
from bzzz.agents.spec import (
    event_from_line,
    event_to_line,
    read_object,
    settings_from_object,
    settings_to_object,
    spec_from_object,
    spec_to_object,
)
from bzzz.ports import AttemptEvent, AttemptFinished, AttemptProgressed, AttemptStarted, Outcome, Work

HEAVY = {"asyncio", "pydantic", "httpx", "libp2p", "sqlalchemy", "trio", "fastapi", "psutil", "yaml", "ssl", "site"}


def test_the_worker_imports_nothing_heavy() -> None:
    root = Path(bzzz.__file__).resolve().parent.parent
    code = "import sys, bzzz.agents.worker; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(root), "PATH": os.defpath}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.splitlines())
    assert "bzzz.agents.worker" in loaded
    assert loaded & HEAVY == set()


def test_an_attempt_and_its_settings_survive_their_json() -> None:
    bench = Bench(Path("/data"), Path("/origin"))
    spec = bench.spec("a1", {"kind": "command", "command": ["x"]}, comments=(make_comment(1, "x\ud800\n"),))
    settings = AgentSettings(Path("/data"), "node", sandbox_paths=(Path("/x"),), protocols=("https",))
    assert spec_from_object(json.loads(json.dumps(spec_to_object(spec)))) == spec
    assert settings_from_object(json.loads(json.dumps(settings_to_object(settings)))) == settings


@pytest.mark.parametrize(
    "event",
    [
        AttemptStarted("a1", "command", 7),
        AttemptProgressed("a1", "fetch", "x\ny"),
        AttemptFinished("a1", Outcome.STOPPED, "why"),
        AttemptFinished(
            "a1", Outcome.PROVED, "s", Work(Path("/g"), "c", "b", "br"), {"status": 0}, {"seconds": 1.0}, "q", 3.0
        ),
    ],
)
def test_an_event_survives_its_line(event: AttemptEvent) -> None:
    line = event_to_line(event, unsaved=True)
    assert line.count(b"\n") == 1
    assert event_from_line(line)[0] == event
    assert event_from_line(line)[1]["unsaved"] is True


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"1",
        b"{}",
        b'{"event": "Else"}',
        b'{"event": "AttemptFinished"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        event_from_line(line)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_cut_and_oversized_ones_dropped_and_counted(size: int) -> None:
    data = b"one\n" + b"x" * 50 + b"\ntwo\n\nthree\nrest"
    reader = LineReader(10)
    lines = [line for start in range(0, len(data), size) for line in reader.feed(data[start : start + size])]
    assert lines == [b"one", b"two", b"", b"three"]
    assert reader.dropped == 1


def test_a_file_that_is_no_object_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[1]")
    assert read_object(tmp_path / "x") is None
    assert read_object(tmp_path / "y") is None

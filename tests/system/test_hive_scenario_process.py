"""A real Hive plays a scenario, a real node works on it, and ``bzzz scenario trigger`` tells what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

import bzzz

START_S_MAX = 30.0
WATCH_S_MAX = 60
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("BZZZ_")},
    "PYTHONPATH": str(Path(bzzz.__file__).parents[1]),
}


@contextlib.contextmanager
def running(log: Path, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A ``bzzz`` process until the context ends."""
    command = [sys.executable, "-m", "bzzz", *arguments]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def until_playing(url: str, process: subprocess.Popen[bytes], log: Path) -> Mapping[str, object]:
    deadline = time.monotonic() + START_S_MAX
    while True:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}/api/bzzz/scenario", trust_env=False)
            if answer.is_success and answer.json()["counters"].get("tasks", 0) >= 1:
                status: Mapping[str, object] = answer.json()
                return status
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_captured(url: str, least: int) -> Sequence[Mapping[str, Any]]:
    """The deliveries that the node's outbox brought."""
    deadline = time.monotonic() + START_S_MAX
    while True:
        answer = httpx.get(f"{url}/api/bzzz/captures", params={"kind": "create-pr"}, trust_env=False)
        kept: list[Mapping[str, Any]] = answer.json()["captures"]
        if len(kept) >= least:
            return kept
        assert time.monotonic() < deadline
        time.sleep(0.05)


def settings(folder: Path, host: str) -> Path:
    """A node that applies the diffs in issues, with the token of this Hive's forge."""
    value = {
        "node": {"name": "walnut", "data_dir": str(folder / "node"), "max_tasks": 2},
        "hive": {"url": f"http://{host}"},
        "mesh": {"mdns": False, "listen": ["/ip4/127.0.0.1/tcp/0"]},
        "forge": {"token_files": {host: str(folder / "hive" / "forge.token")}},
        "agent": {"kind": "patch", "sandbox": "none"},
    }
    path = folder / "node.yaml"
    path.write_text(json.dumps(value))
    return path


def test_a_node_takes_what_a_trigger_gave_back_and_the_urgent_task_it_opened(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    scene = tmp_path / "mine.toml"
    scene.write_text("[[project]]\nname = 'shop'\n[tasks]\nfirst = 2\nmost = 2\n")
    serve = ["hive", "serve", "--data-dir", str(tmp_path / "hive"), "--port", host.rpartition(":")[2]]
    with running(tmp_path / "hive.log", [*serve, "--scenario", str(scene)]) as hive:
        until_playing(f"http://{host}", hive, tmp_path / "hive.log")
        trigger = [sys.executable, "-m", "bzzz", "scenario", "trigger", "--url", f"http://{host}", "--json"]
        trigger += ["--claims", "1", "--updates", "1", "--urgent", "1", "--wait-s", str(WATCH_S_MAX)]
        # The claims are played before there is a node, so that it does not come first.
        with (
            subprocess.Popen(trigger, stdout=subprocess.PIPE, env=ENVIRONMENT) as process,
            running(tmp_path / "node.log", ["up", "-c", str(settings(tmp_path, host))]),
        ):
            out, _ = process.communicate(timeout=WATCH_S_MAX + 30)
            told = json.loads(out)
            assert process.returncode == 0, told
            kept = until_captured(f"http://{host}", len(told["watched"]))
        assert "rival's claim" in [one["what"] for one in told["played"]]
        assert {one["state"] for one in told["watched"]} == {"delivered"}, (tmp_path / "node.log").read_text()
        assert {one["holder"] for one in told["watched"]} == {"walnut"}
        assert all(one["body"]["check"]["passed"] for one in kept)

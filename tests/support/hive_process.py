"""A Hive, and nodes, as real processes of their own: started, ended in order, or killed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import bzzz
from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings

START_S_MAX = 40.0
STOP_S_MAX = 30.0
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("BZZZ_")},
    "PYTHONPATH": str(Path(bzzz.__file__).parents[1]),
}


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class HiveProcess:
    """``bzzz hive serve`` over one folder and one port, whichever process it is just now."""

    folder: Path
    arguments: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What all its processes said."""
        return self.folder / "hive.log"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        command = [sys.executable, "-m", "bzzz", "hive", "serve", "--data-dir", str(self.folder / "hive")]
        command += ["--port", str(self.port), *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
        deadline = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S_MAX)

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(STOP_S_MAX)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """One call; its JSON, which has to be a success."""
        answer = httpx.request(method, f"{self.url}{path}", trust_env=False, timeout=30, **more)
        assert answer.is_success, answer.text
        return answer.json()

    @contextlib.contextmanager
    def forge(self) -> Iterator[EmbeddedForge]:
        """Its forge as an administrator's command opens it, beside the process that serves it."""
        settings = EmbeddedForgeSettings(data_dir=self.folder / "hive" / "forge", base_url=f"{self.url}/forge")
        opened = EmbeddedForge(settings)
        try:
            yield opened
        finally:
            opened.close()


@contextlib.contextmanager
def running_hive_process(folder: Path, *arguments: str) -> Iterator[HiveProcess]:
    """A Hive while the context lasts."""
    hive = HiveProcess(folder, arguments)
    hive.start()
    try:
        yield hive
    finally:
        hive.stop()


@contextlib.contextmanager
def running_node(hive: HiveProcess, name: str, **settings: Any) -> Iterator[Path]:
    """A node of this Hive while the context lasts; gives its log. ``settings`` are tables of its file."""
    folder = hive.folder / name
    folder.mkdir()
    host = hive.url.removeprefix("http://")
    value = {
        "hive": {"url": hive.url},
        "mesh": {"mdns": False, "listen": ["/ip4/127.0.0.1/tcp/0"]},
        "forge": {"token_files": {host: str(hive.folder / "hive" / "forge.token")}},
        "agent": {"kind": "patch", "sandbox": "none"},
        **settings,
        "node": {"name": name, "data_dir": str(folder / "data"), **settings.get("node", {})},
    }
    path, log = folder / "node.yaml", folder / "node.log"
    path.write_text(json.dumps(value))
    command = [sys.executable, "-m", "bzzz", "up", "-c", str(path)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT) as process:
        try:
            yield log
        finally:
            process.terminate()
            process.wait(STOP_S_MAX)

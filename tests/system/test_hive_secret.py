"""Secrets planted wherever Hive is given one are found nowhere else.

A real ``bzzz hive serve`` over a real PostgreSQL: everything it answers, logs and tells, every row it keeps and
every command line it or a child of it ever had is searched for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from tests.support.postgres import PostgresServer, running_postgres

import bzzz

SECRETS = {
    "admin key": "planted-admin-key-0123456789",
    "node key": "planted-node-key-0123456789",
    "webhook secret": "planted-webhook-secret-01",
    "GitHub token": "ghp_plantedplantedplantedplanted0123",
    "database password": "planted-database-password",
    "captured token": "ghp_capturedcapturedcaptured01234567",
    "captured password": "captured-url-password",
}
START_S_MAX = 30.0


class Watch:
    """Everything that came out of Hive, and the command lines that were seen meanwhile."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.command_lines: set[str] = set()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def hear(self, what: str, text: str) -> None:
        self.said[f"{len(self.said)} {what}"] = text

    def follow(self, pid: int) -> None:
        """Look at a process and its children until ``end``."""
        process = psutil.Process(pid)

        def look() -> None:
            while not self._ended.wait(0.01):
                with contextlib.suppress(psutil.Error):
                    for one in (process, *process.children(recursive=True)):
                        with contextlib.suppress(psutil.Error):
                            self.command_lines.add(" ".join(one.cmdline()))

        self._thread = threading.Thread(target=look)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def leaks(self) -> list[str]:
        everything = {**self.said, "command lines": "\n".join(self.command_lines)}
        return [
            f"the {name} in {what}"
            for name, secret in SECRETS.items()
            for what, text in everything.items()
            if secret in text
        ]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def serving(folder: Path, database_url: str, watch: Watch) -> Iterator[str]:
    """A Hive whose every secret is planted; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secrets = folder / "secrets"
    secrets.mkdir()
    keys = f"{SECRETS['admin key']}\nnode {SECRETS['node key']}"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("BZZZ_")},
        "PYTHONPATH": str(Path(bzzz.__file__).parents[1]),
        # Each way that a secret may come: a credential of systemd, a _FILE variable, a flag that names a file.
        "CREDENTIALS_DIRECTORY": str(secrets),
        "BZZZ_HIVE_WEBHOOK_SECRET_FILE": str(write(folder, "webhook", SECRETS["webhook secret"])),
        "GITHUB_TOKEN_FILE": str(write(folder, "github", SECRETS["GitHub token"])),
    }
    write(secrets, "hive-keys", keys)
    url_file = write(folder, "database", database_url)
    log = folder / "hive.log"
    command = [sys.executable, "-m", "bzzz", "hive", "serve", "--data-dir", str(folder / "data")]
    command += ["--port", str(port), "--database-url-file", str(url_file)]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        watch.follow(process.pid)
        try:
            deadline = time.monotonic() + START_S_MAX
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/health", trust_env=False).is_success:
                        break
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(20)
            watch.end()
            watch.hear("the log", log.read_text())


def visit(url: str, watch: Watch) -> None:
    """Every kind of call, right and wrong, with secrets where a careless client puts them."""
    captured = f"used {SECRETS['captured token']} at https://bot:{SECRETS['captured password']}@git.test/a/b"
    admin = {"Authorization": f"Bearer {SECRETS['admin key']}"}
    node = {"Authorization": f"Bearer {SECRETS['node key']}"}

    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:

        def call(method: str, path: str, headers: Any = admin, **more: Any) -> httpx.Response:
            answer = client.request(method, path, headers=headers, **more)
            watch.hear(f"{method} {path}", f"{answer.headers}\n{answer.text}")
            return answer

        repository = {"name": "shop", "description": "", "auto_init": True}
        call(
            "POST",
            "/forge/api/v3/user/repos",
            {"Authorization": f"Bearer {SECRETS['GitHub token']}"},
            json=repository,
        )
        for place in (
            "https://github.com/acme/shop.git",
            f"https://bot:{SECRETS['captured password']}@git.test/a/b",
        ):
            call("POST", "/api/bzzz/projects", json={"name": place[-9:], "git_url": place, "bzzz_enabled": False})
        draft = {"name": "away", "git_url": "http://127.0.0.1:9/acme/away.git"}
        call("POST", "/api/bzzz/projects?check=false", json=draft)
        projects = call("GET", "/api/bzzz/projects").json()["projects"]
        away = next(one["id"] for one in projects if one["name"] == "away")
        call("GET", f"/api/bzzz/projects/{away}/tasks")
        call("POST", f"/api/bzzz/projects/{away}/claim", node, json={"task_number": 1, "agent_id": "old"})
        call("GET", "/api/bzzz/active-repos", node)
        work = {"task_number": 1, "agent_id": "old", "content": captured, "files": {"log": captured}}
        for path in ("submit-work", "log-prompt", "coordination-discussion", "create-pr"):
            call("POST", f"/api/bzzz/projects/{away}/{path}", node, json={**work, "pr_url": "http://x/pull/1"})
        for path in ("coordination-log", "chat-log", "antennae-log"):
            call("POST", f"/api/bzzz/{path}", node, json={"details": {"headers": node, "text": captured}})
        report = {"task_number": 1, "status": "failed", "results": {"reason": captured, **node}}
        call("PUT", f"/api/bzzz/projects/{away}/status", node, json=report)
        # Wrong calls that hold a secret where it is easily repeated.
        call("POST", "/api/bzzz/projects", node, json=draft)
        call("GET", f"/api/bzzz/{SECRETS['admin key']}", {"Authorization": "Bearer wrong-key-of-some-length"})
        call("PUT", f"/api/bzzz/projects/{away}/status", json={"status": SECRETS["admin key"]})
        call("POST", "/api/bzzz/chat-log", content=f'{{"key": "{SECRETS["node key"]}"')
        body = json.dumps({"repository": {"full_name": "acme/away"}}).encode()
        right = "sha256=" + hmac.new(SECRETS["webhook secret"].encode(), body, hashlib.sha256).hexdigest()
        for signature in (right, right, "sha256=00", SECRETS["webhook secret"]):
            call("POST", "/api/bzzz/webhooks/github", {"X-Hub-Signature-256": signature}, content=body)
        call("GET", "/api/bzzz/keys")
        call("GET", "/api/bzzz/captures")
        call("GET", "/")
        call("GET", "/health", {})
        call("GET", "/openapi.json")
        listen(client, admin, watch, away)


def listen(client: httpx.Client, admin: dict[str, str], watch: Watch, project_id: int) -> None:
    """The event stream, while something happens."""
    with client.stream("GET", "/api/bzzz/events", headers=admin) as stream:
        lines = stream.iter_lines()
        heard = [next(lines)]
        client.patch(f"/api/bzzz/projects/{project_id}", headers=admin, json={"description": "changed"})
        while "acme/away" not in heard[-1]:
            heard.append(next(lines))
    watch.hear("the event stream", "\n".join(heard))


def rows(url: str) -> str:
    """Every row of every table."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return "\n".join(
            str(row) for (table,) in tables for row in connection.execute(f'SELECT * FROM "{table}"').fetchall()
        )


def test_planted_secrets_are_in_no_log_answer_event_row_or_command_line(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    watch = Watch()
    url = postgres.create()
    with_password = url.replace("postgres@", f"postgres:{SECRETS['database password']}@")
    with serving(tmp_path, with_password, watch) as hive:
        visit(hive, watch)
        watch.hear("the database", rows(url))
        exported = subprocess.run(
            [sys.executable, "-m", "bzzz", "hive", "export", str(tmp_path / "out"), "--url", hive],
            env={**os.environ, "PYTHONPATH": str(Path(bzzz.__file__).parents[1]), "CREDENTIALS_DIRECTORY": "",
                 "BZZZ_HIVE_API_KEY": SECRETS["admin key"]},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert exported.returncode == 0, exported.stderr
        watch.hear("the export", exported.stdout + exported.stderr)
        for path in (tmp_path / "out").rglob("*.json*"):
            watch.hear(path.name, path.read_text())
        # The database dies: what is logged of it must not tell how to get in.
        postgres.restart(start=False)
        answer = httpx.get(f"{hive}/api/bzzz/projects", headers={"Authorization": f"Bearer {SECRETS['admin key']}"})
        watch.hear("without its database", answer.text)
        assert answer.status_code == 503
        postgres.restart(stop=False)
    assert any("[secret]" in text for what, text in watch.said.items() if "captures" in what)
    assert any("database failed" in text for what, text in watch.said.items() if "the log" in what)
    assert len(watch.command_lines) >= 1
    assert watch.leaks() == []


def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bzzz", "hive", "serve", "--data-dir", str(tmp_path)]
    command += ["--database-url", f"postgresql://hive:{SECRETS['database password']}@db/hive"]
    environment = {**os.environ, "PYTHONPATH": str(Path(bzzz.__file__).parents[1])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "--database-url-file" in ended.stderr
    assert SECRETS["database password"] not in ended.stderr + ended.stdout

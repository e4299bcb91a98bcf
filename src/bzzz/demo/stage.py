"""A Hive, its embedded forge and some nodes as real processes in one folder, for the demo and benchmarks.

Each process is in a session of its own and is told to end when this one dies, so nothing outlives the stage:
not after Ctrl-C, not after an error, not after this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import bzzz
from bzzz.demo.repository import DemoIssue, DemoRepository, write_repository
from bzzz.errors import BzzzError, ServiceUnavailable

OWNER = "demo"
START_S_MAX = 30.0
STOP_S_MAX = 10.0
POLL_S = 0.05
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork

EventTaker = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What tells a node of the stage from the others."""

    name: str
    capabilities: tuple[str, ...] = ()
    specialization: str = ""
    max_tasks: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    launcher: tuple[str, ...] = ()
    """What to put before the node's own command line: ``ip netns exec ..``, ``nice``, ``unshare ..``."""


@dataclass(slots=True)
class RunningNode:
    """One node's process, and the reading of its events."""

    spec: NodeSpec
    folder: Path
    process: asyncio.subprocess.Process
    api: str = ""
    reader: asyncio.Task[None] | None = None


class Stage:
    """The processes of one run.

    Args:
        folder: an empty folder for everything.
        on_event: called with each node's name and event, as they come.
        sandbox: how the nodes contain agents.
        hive_url: where nodes reach Hive, if that is another address than its own, such as a proxy's; calls
            of the stage itself go straight to Hive.
    """

    def __init__(self, folder: Path, on_event: EventTaker, sandbox: str, *, hive_url: str = "") -> None:
        self.folder = folder
        self.nodes: dict[str, RunningNode] = {}
        self.serves_at = f"http://127.0.0.1:{_free_port()}"
        self.hive_url = hive_url or self.serves_at
        self.forge_url = f"{self.hive_url}/forge"
        self._mesh = f"stage-{secrets.token_hex(4)}"
        self._on_event = on_event
        self._sandbox = sandbox
        self._hive: asyncio.subprocess.Process | None = None
        self._token = ""
        self._client = httpx.AsyncClient(timeout=20.0)

    # --- the forge and Hive -----------------------------------------------------------------------------

    async def open(self, repositories: Sequence[DemoRepository]) -> None:
        """Make the repositories, start Hive with the forge, and list the repositories there.

        Raises:
            BzzzError: something could not be made or started; it says what.
        """
        await asyncio.to_thread(self._make_repositories, repositories)
        await self.start_hive()
        for repository in repositories:
            project = {"name": repository.name, "git_url": f"{self.forge_url}/{OWNER}/{repository.name}.git"}
            answer = await self._client.post(
                f"{self.serves_at}/api/bzzz/projects",
                json={**project, "description": repository.description, "bzzz_enabled": True},
            )
            if not answer.is_success:
                raise ServiceUnavailable(f"Hive {self.hive_url}", "adding a project", answer.text[:300])

    async def start_hive(self) -> None:
        """Start Hive with the forge, or start it again in its folder and at its port.

        Raises:
            BzzzError: it does not answer; it says what Hive said.
        """
        port = self.serves_at.rpartition(":")[2]
        data = str(self.folder / "hive")
        arguments = ["hive", "serve", "--data-dir", data, "--host", "127.0.0.1", "--port", port]
        self._hive = await self._spawn("hive", [*arguments, "--base-url", self.hive_url])
        await self._until_answers(f"{self.serves_at}/health", self._hive, "hive")

    async def kill_hive(self) -> None:
        """SIGKILL Hive and the forge in it."""
        if self._hive is not None:
            await _kill(self._hive)

    def _make_repositories(self, repositories: Sequence[DemoRepository]) -> None:
        from bzzz.forge.embedded import EmbeddedForge, EmbeddedForgeSettings  # noqa: PLC0415  slow to import

        settings = EmbeddedForgeSettings(data_dir=self.folder / "hive" / "forge", base_url=self.forge_url)
        forge = EmbeddedForge(settings)
        try:
            for repository in repositories:
                source = self.folder / "sources" / repository.name
                write_repository(repository, source)
                forge.import_repository(source, OWNER, repository.name)
            self._token = forge.create_token(OWNER, scope="admin", label="the stage")
            token_file = self.folder / "forge.token"
            token_file.touch(mode=0o600)
            token_file.write_text(forge.create_token("bzzz", scope="write", label="nodes") + "\n")
        finally:
            forge.close()

    async def open_issue(self, repository: str, issue: DemoIssue) -> int:
        """Create an issue as a maintainer; returns its number."""
        answer = await self.forge_api(
            "POST",
            f"/repos/{OWNER}/{repository}/issues",
            {"title": issue.title, "body": issue.body, "labels": list(issue.labels)},
        )
        return int(answer["number"])

    async def forge_api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call of the forge's REST interface, as the maintainer.

        Raises:
            ServiceUnavailable: it was not answered with success.
        """
        url = f"{self.serves_at}/forge/api/v3{path}"
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = await self._client.request(method, url, json=body, headers=headers)
        if not answer.is_success:
            raise ServiceUnavailable("the stage's forge", f"{method} {path}", answer.text[:300], answer.status_code)
        return answer.json() if answer.content else None

    # --- nodes ------------------------------------------------------------------------------------------

    async def start_node(self, spec: NodeSpec) -> RunningNode:
        """Start a node, or start it again in its folder, and follow its events."""
        folder = self.folder / spec.name
        folder.mkdir(exist_ok=True)
        config = folder / "bzzz.json.yaml"
        config.write_text(json.dumps(self.node_settings(spec, folder)))
        (folder / "data" / "api.json").unlink(missing_ok=True)
        process = await self._spawn(spec.name, ["up", "-c", str(config)], spec.launcher)
        node = self.nodes[spec.name] = RunningNode(spec, folder, process)
        node.api = await self._until_api(node)
        node.reader = asyncio.create_task(self._follow(node))
        return node

    def node_settings(self, spec: NodeSpec, folder: Path) -> dict[str, Any]:
        """What a node of the stage is started with, by section."""
        host = self.forge_url.removeprefix("http://").partition("/")[0]
        settings: dict[str, Any] = {
            "node": {
                "name": spec.name,
                "data_dir": str(folder / "data"),
                "capabilities": list(spec.capabilities),
                "specialization": spec.specialization,
                "max_tasks": spec.max_tasks,
            },
            "hive": {"url": self.hive_url},
            "mesh": {"name": self._mesh, "listen": ["/ip4/127.0.0.1/tcp/0"]},
            "forge": {"token_files": {host: str(self.folder / "forge.token")}},
            "agent": {"kind": "patch", "sandbox": self._sandbox},
        }
        for section, values in spec.extra.items():
            settings.setdefault(section, {}).update(values)
        return settings

    async def meshed(self, *, ready: bool = True) -> None:
        """Wait until every node hears every other one and, unless told otherwise, is ready to take tasks.

        A node that started lets the mesh settle first, so that it does not think itself alone.

        Raises:
            BzzzError: not within ``START_S_MAX``.
        """
        wanted = len(self.nodes) - 1
        try:
            async with asyncio.timeout(START_S_MAX):
                for node in self.nodes.values():
                    while len(await self._alive_peers(node)) < wanted or (ready and await self._is_starting(node)):  # noqa: ASYNC110
                        await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise BzzzError(
                "the nodes did not find each other by mDNS: does this machine let multicast pass on loopback?"
            ) from None

    async def _alive_peers(self, node: RunningNode) -> list[Any]:
        found = (await self.ask(node, "/peers"))["peers"]
        return [peer for peer in found if peer["liveness"] == "alive" and peer["max_tasks"]]

    async def _is_starting(self, node: RunningNode) -> bool:
        return bool((await self.ask(node, "/status")).get("status", "starting") == "starting")

    async def ask(self, node: RunningNode, path: str) -> Any:
        """One answer of a node's local API; an empty object while it does not answer."""
        try:
            return (await self._client.get(node.api + path)).json()
        except (httpx.HTTPError, ValueError):
            return {"peers": [], "tasks": []}

    async def kill_node(self, name: str) -> None:
        """SIGKILL: no last word."""
        node = self.nodes.pop(name)
        await _kill(node.process)
        if node.reader is not None:
            node.reader.cancel()

    async def stop_node(self, name: str) -> None:
        """SIGTERM, and wait for it to end in good order."""
        node = self.nodes.pop(name)
        await _end(node.process)
        if node.reader is not None:
            node.reader.cancel()

    async def _until_api(self, node: RunningNode) -> str:
        path = node.folder / "data" / "api.json"
        try:
            async with asyncio.timeout(START_S_MAX):
                while True:
                    if node.process.returncode is not None:
                        raise BzzzError(f"{node.spec.name} did not start: {self._last_words(node.spec.name)}")
                    with contextlib.suppress(OSError, ValueError, KeyError):
                        return str(json.loads(path.read_text())["url"])
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise BzzzError(f"{node.spec.name} did not start within {START_S_MAX:.0f} s") from None

    async def _follow(self, node: RunningNode) -> None:
        after = 0
        while node.process.returncode is None:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                address = f"{node.api}/events?after={after}"
                async with self._client.stream("GET", address, timeout=None) as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data: "):
                            event = json.loads(line[6:])
                            after = event["id"]
                            self._on_event(node.spec.name, event)
            await asyncio.sleep(POLL_S)

    # --- processes --------------------------------------------------------------------------------------

    async def _spawn(
        self, name: str, arguments: Sequence[str], launcher: Sequence[str] = ()
    ) -> asyncio.subprocess.Process:
        log = self._log_file(name).open("ab")
        try:
            return await asyncio.create_subprocess_exec(
                *launcher,
                sys.executable,
                "-m",
                "bzzz",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env=_environment(),
            )
        finally:
            log.close()

    async def _until_answers(self, url: str, process: asyncio.subprocess.Process, name: str) -> None:
        try:
            async with asyncio.timeout(START_S_MAX):
                while True:
                    if process.returncode is not None:
                        raise BzzzError(f"{name} did not start: {self._last_words(name)}")
                    with contextlib.suppress(httpx.HTTPError):
                        if (await self._client.get(url)).is_success:
                            return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise BzzzError(f"{name} did not answer at {url} within {START_S_MAX:.0f} s") from None

    def _log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log_file(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def close(self) -> None:
        """End every process: first asked, then killed."""
        for node in self.nodes.values():
            if node.reader is not None:
                node.reader.cancel()
        try:
            await asyncio.gather(*(_end(node.process) for node in self.nodes.values()))
        finally:
            if self._hive is not None:
                await _end(self._hive)
            await self._client.aclose()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await process.wait()
    except TimeoutError:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _environment() -> dict[str, str]:
    """This one, without settings for nodes; the processes run the very code that the stage is of."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("BZZZ_")}
    return {**found, "PYTHONPATH": str(Path(bzzz.__file__).resolve().parent.parent)}


def _end_with_parent() -> None:
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

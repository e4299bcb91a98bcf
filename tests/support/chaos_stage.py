"""Real nodes, a real Hive and its forge, with a test that holds every step of an attempt in its hand.

Nodes reach Hive and the forge through a ``Door``; agents and checks pass gates (``gated_program``); each node's
events are kept in order and can be waited for. What is true in the end is read past all of them, from the bare
repositories and the forge's own API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.support.bare_repository import git, try_git
from tests.support.gated_program import content, file_name
from tests.support.http_door import Door, Fits, Passing
from tests.support.process_table import wait_until_none

from bzzz.core.record import ClaimRecord, RecordState
from bzzz.core.task import Repository
from bzzz.demo.repository import DemoIssue, DemoRepository
from bzzz.demo.stage import OWNER, NodeSpec, RunningNode, Stage
from bzzz.ledger.git_ref import GitRefLedger

PROGRAM = Path(__file__).with_name("gated_program.py")
WAIT_S_MAX = 40.0
LOOK_S = 0.02
ENDED_S_MAX = 20.0

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """A pull request, as far as it matters here."""

    number: int
    state: str
    branch: str
    commit: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: its claim chain, work branches with their commits, pull requests, rescued work."""

    chain: tuple[ClaimRecord, ...]
    branches: Mapping[str, str]
    pulls: tuple[Opened, ...]
    rescued: Mapping[str, str]

    @property
    def deliveries(self) -> list[ClaimRecord]:
        return [record for record in self.chain if record.state is RecordState.DELIVERED]


class ChaosStage:
    """See the module. ``events`` are (node, event), oldest first."""

    def __init__(self, folder: Path, door: Door) -> None:
        self.folder = folder
        self.door = door
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.events: list[tuple[str, Event]] = []
        self._moved = asyncio.Event()
        self.stage = Stage(folder / "stage", self.take, "none", hive_url=door.url)
        self.stage.folder.mkdir()
        host, _, port = self.stage.serves_at.removeprefix("http://").partition(":")
        door.upstream = (host, int(port))
        self._ledger = GitRefLedger(lambda _: None)
        self._places: dict[str, Path] = {}

    # --- beginning and end ------------------------------------------------------------------------------

    async def open(self, names: Sequence[str] = ("work",)) -> None:
        """Hive, with a repository for each name."""
        await self.stage.open([self._project(name) for name in names])
        root = self.stage.folder / "hive" / "forge" / "repositories"
        for number, name in enumerate(names, 1):
            self._places[name] = root / f"{number}.git"

    def _project(self, name: str) -> DemoRepository:
        words = [sys.executable, str(PROGRAM), "check", str(self.gates), "{number}"]
        files = {
            "README.md": f"# {name}\n".encode(),
            ".bzzz.toml": f"[check]\ncommand = {json.dumps(words)}\n".encode(),
        }
        return DemoRepository(name, f"The project {name}", files, ())

    async def close(self) -> None:
        for node in self.stage.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                node.process.send_signal(signal.SIGCONT)
        await self.stage.close()
        await self._ledger.close()
        await asyncio.to_thread(wait_until_none, self.folder, ENDED_S_MAX)

    # --- nodes ------------------------------------------------------------------------------------------

    async def start(
        self, name: str, *, max_tasks: int = 12, launcher: Sequence[str] = (), **extra: Mapping[str, Any]
    ) -> RunningNode:
        """Start a node, or start it again; settings by section beside the usual ones."""
        return await self.stage.start_node(self.spec(name, max_tasks, launcher, extra))

    def spec(
        self, name: str, max_tasks: int, launcher: Sequence[str], extra: Mapping[str, Mapping[str, Any]]
    ) -> NodeSpec:
        """A node whose agent passes the gates."""
        words = [sys.executable, str(PROGRAM), "agent", str(self.gates), "{number}"]
        settings: dict[str, dict[str, Any]] = {"agent": {"kind": "command", "command": words}}
        for section, values in extra.items():
            settings.setdefault(section, {}).update(values)
        return NodeSpec(name, ("python",), max_tasks=max_tasks, extra=settings, launcher=tuple(launcher))

    async def kill(self, name: str) -> None:
        """SIGKILL the node's own process."""
        await self.stage.kill_node(name)

    def workers(self, name: str) -> dict[str, int]:
        """The worker processes of a node, by attempt."""
        found = {}
        for path in (self.stage.folder / name / "data" / "attempts").glob("*/pid.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads(path.read_text())["pid"]
                os.kill(pid, 0)
                found[path.parent.name] = pid
        return found

    # --- gates ------------------------------------------------------------------------------------------

    def shut(self, gate: str, number: int, repository: str = "work") -> None:
        self._sign("shut", gate, number, repository).touch()

    def open_gate(self, gate: str, number: int, repository: str = "work") -> None:
        self._sign("shut", gate, number, repository).unlink()

    def tell_to(self, what: str, gate: str, number: int, repository: str = "work") -> None:
        """Have whoever passes a gate ``fail``, or ``fill`` the disk."""
        self._sign(what, gate, number, repository).touch()

    async def at(self, gate: str, number: int, repository: str = "work", *, times: int = 1) -> int:
        """Wait until somebody stands at a gate, for the n-th time; gives the process id."""
        what = f"somebody at gate {gate} of {repository}#{number}"
        await self.until(lambda: self.passed(gate, number, repository) >= times, what)
        return int(self._sign("at", gate, number, repository).read_text().splitlines()[times - 1])

    def passed(self, gate: str, number: int, repository: str = "work") -> int:
        """How many came to a gate so far."""
        place = self._sign("at", gate, number, repository)
        return place.read_text().count("\n") if place.exists() else 0

    def _sign(self, what: str, gate: str, number: int, repository: str) -> Path:
        return self.gates / f"{what}-{gate}-{repository}-{number}"

    # --- waiting ----------------------------------------------------------------------------------------

    def take(self, name: str, event: Event) -> None:
        """Note a node's event."""
        self.events.append((name, event))
        self._moved.set()

    async def event(
        self, node: str, kind: str, *, since: int = 0, timeout_s: float = WAIT_S_MAX, **fields: object
    ) -> Event:
        """Wait for a node's event from a place in ``events`` on; strings in ``fields`` are to be contained."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._event(node, kind, since, fields)
        except TimeoutError:
            told = f"{node} does not tell {kind} {fields} within {timeout_s:g} s"
            raise AssertionError(f"{told}\n{self.tell()}") from None

    async def _event(self, node: str, kind: str, place: int, fields: Mapping[str, object]) -> Event:
        while True:
            while place < len(self.events):
                name, event = self.events[place]
                place += 1
                if name == node and event["kind"] == kind and _has(event, fields):
                    return event
            self._moved.clear()
            await self._moved.wait()

    async def never(self, node: str, kind: str, within_s: float, **fields: object) -> None:
        """Fail if an event comes; that it does not can only be seen by waiting."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                event = await self._event(node, kind, len(self.events), fields)
            raise AssertionError(f"{node}: {event}")

    async def within(self, wanted: Awaitable[object], what: str) -> None:
        """Wait for what is to come, and say what did not."""
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await wanted
        except TimeoutError:
            raise AssertionError(f"not within {WAIT_S_MAX} s: {what}\n{self.tell()}") from None

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Look again and again at what other programs leave in files."""
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while not holds():  # noqa: ASYNC110  files of other programs
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"not within {WAIT_S_MAX} s: {what}\n{self.tell()}") from None

    def tell(self) -> str:
        """The newest events, for a failure's message."""
        lines = []
        for name, event in self.events[-40:]:
            shown = {key: value for key, value in event.items() if key not in ("id", "level", "check", "addresses")}
            lines.append(f"{name}: {shown}")
        return "\n".join(lines)

    # --- the forge --------------------------------------------------------------------------------------

    async def draft(self, repository: str = "work", body: str = "Do it.", title: str = "Resolve it") -> int:
        """Open an issue that is no task yet; gives its number."""
        return await self.stage.open_issue(repository, DemoIssue(0, title, body, (), ""))

    async def publish(self, number: int, repository: str = "work") -> None:
        """Make it a task, as a maintainer does: by the label."""
        await self.api("POST", f"/repos/{OWNER}/{repository}/issues/{number}/labels", {"labels": ["bzzz-task"]})

    async def issue(self, repository: str = "work", *, shut: Sequence[str] = (), body: str = "Do it.") -> int:
        """Open a task whose attempts stop at these gates; gives its number."""
        number = await self.draft(repository, body)
        for gate in shut:
            self.shut(gate, number, repository)
        await self.publish(number, repository)
        return number

    async def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return await self.stage.forge_api(method, path, body)

    async def comment(self, number: int, repository: str = "work") -> str:
        """Wait for a comment under an issue; gives the first."""
        path = f"/repos/{OWNER}/{repository}/issues/{number}/comments"
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while not (found := await self.api("GET", path)):  # noqa: ASYNC110  a server
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"nobody comments on {repository}#{number}\n{self.tell()}") from None
        return str(found[0]["body"])

    async def told_hive(self, number: int, status: str, repository: str = "work") -> None:
        """Wait until Hive has been told that a task has this status, whoever asks it."""
        project = list(self._places).index(repository) + 1
        address = f"{self.stage.serves_at}/api/bzzz/projects/{project}/tasks"
        found: list[dict[str, Any]] = []
        try:
            async with httpx.AsyncClient(timeout=20.0) as client, asyncio.timeout(WAIT_S_MAX):
                while not any(task["number"] == number and task["status"] == status for task in found):
                    await asyncio.sleep(LOOK_S)
                    found = (await client.get(address)).json()
        except TimeoutError:
            raise AssertionError(f"Hive does not say {status} of {repository}#{number}: {found}") from None

    def place(self, repository: str = "work") -> Path:
        """The bare repository on disk."""
        return self._places[repository]

    async def outcome(self, number: int, repository: str = "work") -> Outcome:
        """What is true of a task now, past every node."""
        where = Repository(0, repository, OWNER, repository, f"file://{self.place(repository)}", "")
        chain = await self._ledger.history(where, number)
        listing = git(self.place(repository), "for-each-ref", "--format=%(refname) %(objectname)")
        refs = dict(line.split(" ") for line in listing.splitlines())
        branches = {
            ref: commit for ref, commit in refs.items() if ref.startswith(f"refs/heads/bzzz/task-{number}-")
        }
        heads = {ref.removeprefix("refs/heads/") for ref in branches}
        pulls = await self.api("GET", f"/repos/{OWNER}/{repository}/pulls?state=all&per_page=100")
        rescued = {ref: commit for ref, commit in refs.items() if ref.startswith(f"refs/bzzz/rescue/{number}/")}
        return Outcome(
            tuple(seen.record for seen in chain),
            branches,
            tuple(
                Opened(pull["number"], pull["state"], pull["head"]["ref"], pull["head"]["sha"])
                for pull in pulls
                if pull["head"]["ref"] in heads
            ),
            rescued,
        )

    async def has_pull(self, number: int, repository: str = "work") -> Outcome:
        """Wait until a pull request for the task is there."""
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while not (found := await self.outcome(number, repository)).pulls:  # noqa: ASYNC110  a server
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"{repository}#{number} has no pull request: {found}\n{self.tell()}") from None
        return found

    async def delivered_once(self, number: int, repository: str = "work") -> Outcome:
        """Wait for the delivery, and check all that must be true of it."""
        await self.has_pull(number, repository)
        found = await self.outcome(number, repository)
        delivered = found.deliveries
        assert len(delivered) == 1, found
        assert found.chain[-1] == delivered[0], found
        assert len(found.pulls) == 1, found
        assert found.branches == {f"refs/heads/{delivered[0].branch}": delivered[0].commit}, found
        assert self.work_at(str(delivered[0].commit), number, repository) == content(number), found
        for earlier, later in zip(found.chain, found.chain[1:], strict=False):
            taken = later.state is RecordState.HELD and earlier.state is not RecordState.HELD
            moved = earlier.holder.peer != later.holder.peer
            assert later.epoch == earlier.epoch + (1 if taken or moved else 0), found
        return found

    def work_at(self, commit: str, number: int, repository: str = "work") -> str | None:
        """The agent's file in a commit on the server."""
        shown = try_git(self.place(repository), "show", f"{commit}:{file_name(number)}")
        return shown.stdout.decode() if shown.returncode == 0 else None


def _has(event: Event, fields: Mapping[str, object]) -> bool:
    return all(
        value in event.get(key, "") if isinstance(value, str) else event.get(key) == value
        for key, value in fields.items()
    )


def path_ends(method: str, end: str) -> Fits:
    """Requests with this method and the end of this path."""
    return lambda request: request.method == method and request.path.endswith(end)


def delivers(number: int, repository: str = "work") -> Fits:
    """The push that delivers a task: it makes the work branch."""
    mark = f"refs/heads/bzzz/task-{number}-".encode()

    def fits(request: Passing) -> bool:
        return request.path.endswith(f"/{repository}.git/git-receive-pack") and mark in request.body

    return fits


@contextlib.asynccontextmanager
async def chaos_stage(folder: Path, *repositories: str, host: str = "127.0.0.1") -> AsyncIterator[ChaosStage]:
    """A stage with its door, closed at the end."""
    async with Door(host) as door:
        stage = ChaosStage(folder, door)
        try:
            await stage.open(repositories or ("work",))
            yield stage
        finally:
            await stage.close()

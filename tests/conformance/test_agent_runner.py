"""The ``AgentRunner`` port: what every runner promises, then what a real attempt promises in every sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent_fixture import (
    ANSWER_S_MAX,
    DIFF,
    FILES,
    SANDBOXES,
    Bench,
    git,
    make_issue,
    make_origin,
    make_repository,
    names,
    python,
    shell,
    show,
)

from bzzz.agents import process
from bzzz.agents.memory import MemoryAgentRunner, Script
from bzzz.agents.runner import ProcessAgentRunner
from bzzz.errors import AgentError
from bzzz.ports import (
    AgentRunner,
    AttemptFinished,
    AttemptProgressed,
    AttemptSpec,
    AttemptStarted,
    Outcome,
    Work,
)

DONE = "echo done > answer.txt"
# Tells that it runs by a file in its tree, then waits to be ended; what it made is to be saved.
LINGER = "echo half > answer.txt; echo ready; exec sleep 1000"


@pytest.fixture(params=SANDBOXES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, make_origin(tmp_path / "origin"), request.param)


@pytest.fixture
async def runner(bench: Bench) -> AsyncIterator[ProcessAgentRunner]:
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    yield runner
    await runner.close()
    assert process.marked(bench.settings().node) == []


# --- every runner ---------------------------------------------------------------------------------------


def _scripted(bench: Bench) -> AgentRunner:
    def script_for(spec: AttemptSpec) -> Script:
        work = Work(Path("/nowhere"), "c", "b", spec.branch)
        gate = asyncio.Event() if "sleep" in str(spec.agent) else None
        return Script(AttemptFinished("", Outcome.PROVED, "done", work), gate=gate)

    return MemoryAgentRunner(script_for)


def _processes(bench: Bench) -> AgentRunner:
    return ProcessAgentRunner(bench.settings(), lambda _: None)


RUNNERS: dict[str, Callable[[Bench], AgentRunner]] = {"memory": _scripted, "process": _processes}


@pytest.fixture(params=RUNNERS)
async def any_runner(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Bench, AgentRunner]]:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin"))
    runner = RUNNERS[request.param](bench)
    yield bench, runner
    await runner.close()


async def test_an_attempt_starts_once_and_finishes_once(any_runner: tuple[Bench, AgentRunner]) -> None:
    bench, runner = any_runner
    finished = await bench.run(runner, bench.spec("a1", shell(DONE)))
    assert (finished.attempt_id, finished.outcome) == ("a1", Outcome.PROVED)
    assert finished.work is not None
    assert finished.work.branch == "bzzz/task-7-abcdef"
    assert [event.attempt_id for event in bench.events if isinstance(event, AttemptStarted)] == ["a1"]
    assert isinstance(bench.events[-1], AttemptFinished)


async def test_a_stopped_attempt_finishes_as_stopped_with_its_work(any_runner: tuple[Bench, AgentRunner]) -> None:
    bench, runner = any_runner
    await runner.start(bench.spec("a1", shell(LINGER)))
    await bench.started(runner)
    await _until_changed(bench, runner)
    await runner.stop("a1", "the claim was lost")
    await runner.stop("a1", "again")
    finished = await bench.finish(runner)
    assert (finished.outcome, finished.summary) == (Outcome.STOPPED, "the claim was lost")
    assert finished.work is not None


async def test_stopping_or_forgetting_what_is_not_known_does_nothing(any_runner: tuple[Bench, AgentRunner]) -> None:
    _, runner = any_runner
    await runner.stop("nobody", "reason")
    await runner.forget("nobody")
    assert list(await runner.recover()) == []


async def test_an_attempt_id_is_used_once(any_runner: tuple[Bench, AgentRunner]) -> None:
    bench, runner = any_runner
    await bench.run(runner, bench.spec("a1", shell(DONE)))
    with pytest.raises(AgentError, match="attempt a1 was started before"):
        await runner.start(bench.spec("a1", shell(DONE)))


async def test_closing_ends_every_attempt_and_tells_of_each(any_runner: tuple[Bench, AgentRunner]) -> None:
    bench, runner = any_runner
    for name in ("a1", "a2"):
        await runner.start(bench.spec(name, shell(LINGER)))
        await bench.started(runner)
    await runner.close()
    outcomes = {(await bench.finish(runner)).outcome for _ in range(2)}
    assert outcomes == {Outcome.STOPPED}
    with pytest.raises(AgentError, match="the node is stopping"):
        await runner.start(bench.spec("a3", shell(DONE)))


async def _until_changed(bench: Bench, runner: AgentRunner) -> None:
    """Wait until the lingering agent has said that it made its change."""
    if isinstance(runner, MemoryAgentRunner):
        return
    async with asyncio.timeout(ANSWER_S_MAX):
        while not any(isinstance(event, AttemptProgressed) and event.detail == "ready" for event in bench.events):
            bench.events.append(await runner.receive())


# --- outcomes of real attempts --------------------------------------------------------------------------


async def test_a_diff_of_a_maintainer_is_applied_and_proved(bench: Bench, runner: ProcessAgentRunner) -> None:
    finished = await bench.run(runner, bench.spec("a1", {"kind": "patch"}, issue=make_issue(DIFF)))
    assert finished.outcome is Outcome.PROVED
    assert show(finished, "answer.txt") == "done"
    assert finished.check["passed"] is True
    assert finished.check["command"] == "grep -q done answer.txt"


async def test_the_commit_says_whose_work_it_is(bench: Bench, runner: ProcessAgentRunner) -> None:
    finished = await bench.run(runner, bench.spec("a1", shell(DONE)))
    assert finished.work is not None
    shown = git(finished.work.git_dir, "show", "-s", "--format=%an|%cn|%ce|%P|%B", finished.work.commit)
    assert shown == (
        f"walnut|Bzzz|noreply@bzzz.invalid|{finished.work.base}|Answer the question (#7)\n\n"
        "Bzzz-Task: acme/demo#7\nBzzz-Agent: walnut\nBzzz-Epoch: 3"
    )
    assert finished.work.base == git(bench.origin, "rev-parse", "main")


async def test_an_agent_that_changes_nothing_proved_nothing(bench: Bench, runner: ProcessAgentRunner) -> None:
    finished = await bench.run(runner, bench.spec("a1", shell("echo all done")))
    assert (finished.outcome, finished.work) == (Outcome.NO_CHANGE, None)


async def test_a_failing_check_is_told_with_its_output_and_the_work_is_kept(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    finished = await bench.run(runner, bench.spec("a1", shell("echo wrong > answer.txt")))
    assert finished.outcome is Outcome.CHECK_FAILED
    assert "`grep -q done answer.txt` ended with status 1" in finished.summary
    assert finished.check["status"] == 1
    assert show(finished, "answer.txt") == "wrong"


async def test_a_diff_that_does_not_apply_asks_naming_file_and_hunk(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    body = DIFF.replace("-open", "-closed")
    finished = await bench.run(runner, bench.spec("a1", {"kind": "patch"}, issue=make_issue(body)))
    assert finished.outcome is Outcome.NEEDS_HELP
    assert "`answer.txt`, hunk `@@ -1 +1 @@` does not match" in finished.question
    assert finished.work is None


async def test_an_agent_asks_by_leaving_a_file_that_is_not_committed(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    script = "mkdir .bzzz; printf 'Which colour\\033[2J?' > .bzzz/help.md; echo half > answer.txt"
    finished = await bench.run(runner, bench.spec("a1", shell(script)))
    assert (finished.outcome, finished.question) == (Outcome.NEEDS_HELP, "Which colour<U+001B>[2J?")
    assert names(finished) == sorted(FILES)


@pytest.mark.parametrize(
    ("bound", "script"),
    [
        ("wall_s_max", "echo half > answer.txt; while :; do echo busy; sleep 0.05; done"),
        ("idle_s_max", "echo half > answer.txt; exec sleep 1000"),
    ],
)
async def test_a_time_bound_ends_the_agent_says_which_and_saves(
    bench: Bench, runner: ProcessAgentRunner, bound: str, script: str
) -> None:
    changed: dict[str, Any] = {bound: 0.6}
    finished = await bench.run(runner, bench.spec("a1", shell(script), **changed))
    assert finished.outcome is Outcome.OUT_OF_BUDGET
    assert bound in finished.summary
    assert show(finished, "answer.txt") == "half"


async def test_changes_in_the_tree_count_as_activity(bench: Bench, runner: ProcessAgentRunner) -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i > count.txt; sleep 0.25; done; " + DONE
    finished = await bench.run(runner, bench.spec("a1", shell(script), idle_s_max=0.8))
    assert finished.outcome is Outcome.PROVED


async def test_a_flood_of_output_is_ended_and_kept_bounded(bench: Bench, runner: ProcessAgentRunner) -> None:
    spec = bench.spec("a1", shell("echo half > answer.txt; exec yes"), output_bytes_max=100_000)
    finished = await bench.run(runner, spec)
    assert finished.outcome is Outcome.OUT_OF_BUDGET
    assert "output_bytes_max" in finished.summary
    assert (bench.settings().attempts / "a1/agent.log").stat().st_size <= 100_000
    assert show(finished, "answer.txt") == "half"


async def test_a_missing_program_is_no_fault_of_the_task(bench: Bench, runner: ProcessAgentRunner) -> None:
    agent = {"kind": "command", "command": ["no-such-agent"]}
    finished = await bench.run(runner, bench.spec("a1", agent))
    assert finished.outcome is Outcome.AGENT_MISSING
    assert "no-such-agent is not installed here" in finished.summary
    assert not finished.outcome.costs_strike


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ({"kind": "magic"}, "kind = 'magic' is not one of command, patch"),
        ({"kind": "command", "command": "sh"}, "command = 'sh' is not allowed; a list of words"),
        (shell("true", prompt="telepathy"), "prompt = 'telepathy' is not allowed; one of stdin, argument, file"),
        (shell("true", env_files={"KEY": "/no/such/file"}), "env_files.KEY = /no/such/file cannot be read"),
    ],
)
async def test_a_wrong_agent_configuration_is_named(tmp_path: Path, agent: dict[str, Any], said: str) -> None:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin"))
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    finished = await bench.run(runner, bench.spec("a1", agent))
    assert finished.outcome is Outcome.AGENT_MISSING
    assert said in finished.summary
    await runner.close()


async def test_an_agent_that_fails_crashed_whatever_the_check_says(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    finished = await bench.run(runner, bench.spec("a1", shell(DONE + "; echo out of ideas; exit 3")))
    assert finished.outcome is Outcome.CRASHED
    assert finished.summary == "sh ended with status 3: out of ideas"
    assert show(finished, "answer.txt") == "done"


async def test_a_limit_is_told_apart_from_a_failure(bench: Bench, runner: ProcessAgentRunner) -> None:
    by_words = await bench.run(runner, bench.spec("a1", shell("echo 'Error: Rate Limit hit'; exit 1")))
    by_status = await bench.run(
        runner, bench.spec("a2", shell("exit 75", rate_limited={"exit_codes": [75], "retry_after_s": 90}))
    )
    assert [by_words.outcome, by_status.outcome] == [Outcome.RATE_LIMITED] * 2
    assert (by_words.retry_after_s, by_status.retry_after_s) == (600.0, 90.0)
    assert not by_words.outcome.costs_strike


@pytest.mark.parametrize(
    ("way", "command"),
    [
        ("stdin", ["sh", "-c", "cat > answer.txt"]),
        ("argument", ["sh", "-c", 'printf %s "$1" > answer.txt', "agent"]),
        ("file", ["sh", "-c", 'cat "$1" > answer.txt', "agent", "{prompt_file}"]),
    ],
)
async def test_the_prompt_reaches_the_program(
    bench: Bench, runner: ProcessAgentRunner, way: str, command: list[str]
) -> None:
    agent = {"kind": "command", "command": command, "prompt": way}
    issue = make_issue("get it done $(id) `id` ../../etc {prompt_file}")
    finished = await bench.run(runner, bench.spec("a1", agent, issue=issue))
    assert finished.outcome is Outcome.PROVED
    text = show(finished, "answer.txt")
    assert "You are working on issue #7" in text
    assert "get it done $(id) `id` ../../etc {prompt_file}" in text


async def test_the_environment_is_cleared_and_holds_what_was_configured(
    bench: Bench, runner: ProcessAgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "hunter2-of-the-node")
    key = bench.folder / "key"
    key.write_text("model-key-123456\n")
    agent = shell(
        "env > answer.txt; echo done >> answer.txt; echo my key is $KEY; pwd > where.txt",
        env={"COLOUR": "blue", "BZZZ_ATTEMPT": "another"},
        env_files={"KEY": str(key)},
    )
    finished = await bench.run(runner, bench.spec("a1", agent))
    env = dict(line.split("=", 1) for line in show(finished, "answer.txt").splitlines() if "=" in line)
    assert (env["COLOUR"], env["KEY"], env["CI"], env["TERM"]) == ("blue", "model-key-123456", "1", "dumb")
    assert env["BZZZ_ATTEMPT"] == "a1"
    assert "FORGE_TOKEN" not in env
    log = (bench.settings().attempts / "a1/agent.log").read_text()
    assert log == "my key is ***\n"
    assert "model-key" not in str([*bench.events, (bench.settings().attempts / "a1/spec.json").read_text()])


async def test_the_check_is_that_of_the_base_and_changes_to_it_are_noted(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    script = "printf '[check]\\ncommand = [\"true\"]\\n' > .bzzz.toml; echo wrong > answer.txt"
    finished = await bench.run(runner, bench.spec("a1", shell(script)))
    assert finished.outcome is Outcome.CHECK_FAILED
    assert finished.check["touched"] == [".bzzz.toml", "answer.txt"]


async def test_the_check_sees_the_commit_alone(bench: Bench, runner: ProcessAgentRunner) -> None:
    # The file that the check needs is ignored, so it is no part of the commit and the check has to fail.
    script = "echo answer.txt > .git/info/exclude; echo '*.tmp' > .gitignore; echo done > x.tmp; ln -s x.tmp y; "
    finished = await bench.run(runner, bench.spec("a1", shell(script)))
    assert finished.outcome is Outcome.CHECK_FAILED
    assert names(finished) == sorted([*FILES, ".gitignore", "y"])


async def test_without_a_check_a_person_is_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin", {"answer.txt": "open\n"}))
    strict = ProcessAgentRunner(bench.settings(), lambda _: None)
    finished = await bench.run(strict, bench.spec("a1", shell(DONE)))
    assert finished.outcome is Outcome.NEEDS_HELP
    assert "no check is configured" in finished.summary
    assert finished.work is not None
    lenient = ProcessAgentRunner(bench.settings(check_required=False), lambda _: None)
    assert (await bench.run(lenient, bench.spec("a2", shell(DONE)))).outcome is Outcome.PROVED
    await strict.close()
    await lenient.close()


async def test_a_check_that_does_not_end_is_ended(tmp_path: Path) -> None:
    check = '[check]\ncommand = ["sleep", "1000"]\ntimeout_s = 0.3\n'
    bench = Bench(tmp_path, make_origin(tmp_path / "origin", {**FILES, ".bzzz.toml": check}))
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    finished = await bench.run(runner, bench.spec("a1", shell(DONE)))
    assert finished.outcome is Outcome.CHECK_FAILED
    assert "took more than 0.3 s (check.timeout_s)" in finished.summary
    await runner.close()


async def test_work_above_the_bound_is_left_out_and_named(bench: Bench) -> None:
    runner = ProcessAgentRunner(bench.settings(work_bytes_max=50_000), lambda _: None)
    script = "head -c 90000 /dev/zero > 'big file.bin'; " + DONE
    finished = await bench.run(runner, bench.spec("a1", shell(script)))
    assert finished.outcome is Outcome.OUT_OF_BUDGET
    assert "big file.bin (90000 bytes: work_bytes_max is 50000)" in finished.summary
    assert show(finished, "answer.txt") == "done"
    assert names(finished) == sorted(FILES)
    await runner.close()


# --- processes ------------------------------------------------------------------------------------------

DAEMON = """
import os, sys, time
sys.stdout.flush()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        {exec}
    os._exit(0)
os.wait()
open("answer.txt", "w").write("done\\n")
"""


@pytest.mark.parametrize(
    "execute", ["os.execvp('sleep', ['sleep', '987654'])", "os.execve('/bin/sleep', ['sleep', '987654'], {})"]
)
async def test_a_daemon_that_left_its_session_and_its_marks_dies_with_the_attempt(
    bench: Bench, runner: ProcessAgentRunner, execute: str
) -> None:
    before = _sleepers()
    finished = await bench.run(runner, bench.spec("a1", python(DAEMON.replace("{exec}", execute))))
    assert finished.outcome is Outcome.PROVED
    assert _sleepers() - before == set()


def _sleepers() -> set[int]:
    found = set()
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and b"987654" in (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found


async def test_an_agent_that_ignores_the_request_to_end_is_killed(bench: Bench, runner: ProcessAgentRunner) -> None:
    script = "trap '' TERM; echo half > answer.txt; echo ready; while :; do sleep 1; done"
    await runner.start(bench.spec("a1", shell(script)))
    await _until_changed(bench, runner)
    await runner.stop("a1", "enough")
    finished = await bench.finish(runner)
    assert finished.outcome is Outcome.STOPPED
    assert show(finished, "answer.txt") == "half"


async def test_an_agent_may_tidy_up_when_asked_to_end(bench: Bench, runner: ProcessAgentRunner) -> None:
    script = "trap 'echo tidied > answer.txt; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    await runner.start(bench.spec("a1", shell(script)))
    await _until_changed(bench, runner)
    await runner.stop("a1", "enough")
    assert show(await bench.finish(runner), "answer.txt") == "tidied"


async def test_a_killed_worker_is_a_crash_whose_work_and_processes_are_taken_care_of(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    await runner.start(bench.spec("a1", shell(LINGER)))
    await _until_changed(bench, runner)
    os.kill(_worker_pid(bench, "a1"), signal.SIGKILL)
    finished = await bench.finish(runner)
    assert finished.outcome is Outcome.CRASHED
    assert "the worker ended with status -9" in finished.summary
    assert show(finished, "answer.txt") == "half"
    assert finished.shown["files"] == {"answer.txt": "half\n"}
    assert process.marked(bench.settings().node, "a1") == []


def _worker_pid(bench: Bench, attempt_id: str) -> int:
    value = json.loads((bench.settings().attempts / attempt_id / "pid.json").read_text())
    return int(value["pid"])


NODE = """
import asyncio, sys
from pathlib import Path
from bzzz.agents.runner import ProcessAgentRunner
from tests.agent_fixture import Bench, shell
async def main():
    bench = Bench(Path(sys.argv[1]), Path(sys.argv[1]) / "origin", sys.argv[2])
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    await runner.start(bench.spec("a1", shell(sys.argv[3])))
    while True:
        print(await runner.receive(), flush=True)
asyncio.run(main())
"""


@pytest.fixture
def node(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    """A node in a process of its own, whose agent has made half of its change."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    with subprocess.Popen(
        [sys.executable, "-c", NODE, str(bench.folder), bench.sandbox, LINGER],
        env=environment,
        stdout=subprocess.PIPE,
    ) as node:
        assert node.stdout is not None
        while b"detail='ready'" not in (line := node.stdout.readline()):
            assert line, "the node ended by itself"
        yield node
        node.kill()
    process.end_marked(bench.settings().node)


async def test_a_node_that_dies_takes_its_agents_along_and_finds_their_work_again(
    bench: Bench, node: subprocess.Popen[bytes]
) -> None:
    worker = process.identify(_worker_pid(bench, "a1"))
    assert worker is not None
    node.kill()
    assert await asyncio.to_thread(process.await_gone, worker, ANSWER_S_MAX)
    # Nobody reaped it: the end of its standard input was enough.
    assert process.marked(bench.settings().node) == []
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    (left,) = await runner.recover()
    assert (left.attempt_id, left.outcome) == ("a1", Outcome.STOPPED)
    assert left.summary == "the node that ran this attempt is gone"
    assert show(left, "answer.txt") == "half"
    assert left.shown["files"] == {"answer.txt": "half\n"}
    (again,) = await runner.recover()
    assert again == left
    await runner.forget("a1")
    assert list(await runner.recover()) == []
    assert not (bench.settings().attempts / "a1").exists()


async def test_a_worker_that_hangs_when_its_node_dies_is_ended_and_its_work_recovered(
    bench: Bench, node: subprocess.Popen[bytes]
) -> None:
    os.kill(_worker_pid(bench, "a1"), signal.SIGSTOP)
    node.kill()
    runner = ProcessAgentRunner(bench.settings(recover_grace_s=0.1), lambda _: None)
    (left,) = await runner.recover()
    assert left.outcome is Outcome.CRASHED
    assert show(left, "answer.txt") == "half"
    assert left.shown["files"] == {"answer.txt": "half\n"}
    assert process.marked(bench.settings().node) == []


async def test_a_recycled_process_id_is_never_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin"))
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    await bench.run(runner, bench.spec("a1", shell(DONE)))
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    found = process.identify(stranger.pid)
    assert found is not None
    word = f'{{"pid": {found.pid}, "started_ticks": {found.started_ticks - 1}}}'
    (bench.settings().attempts / "a1/pid.json").write_text(word)
    await runner.recover()
    assert process.identify(stranger.pid) == found
    assert process.send(process.ProcessId(found.pid, found.started_ticks - 1), signal.SIGKILL) is False
    stranger.kill()
    await stranger.wait()
    await runner.close()


# --- fetching -------------------------------------------------------------------------------------------


async def test_attempts_at_the_same_time_share_a_fetch(bench: Bench, runner: ProcessAgentRunner) -> None:
    specs = [bench.spec(f"a{number}", shell(DONE)) for number in range(3)]
    await asyncio.gather(*(runner.start(spec) for spec in specs))
    finished = [await bench.finish(runner) for _ in specs]
    assert {each.outcome for each in finished} == {Outcome.PROVED}
    counters = runner.counters()
    assert (counters["fetches"], counters["fetches_shared"]) == (1, 2)


async def test_a_later_attempt_begins_from_the_newest_commit(bench: Bench, runner: ProcessAgentRunner) -> None:
    first = await bench.run(runner, bench.spec("a1", shell(DONE)))
    (bench.origin / "new.txt").write_text("new\n")
    git(bench.origin, "add", "new.txt")
    git(bench.origin, "commit", "--quiet", "--message=Next")
    second = await bench.run(runner, bench.spec("a2", shell(DONE)))
    assert first.work is not None
    assert second.work is not None
    assert second.work.base == git(bench.origin, "rev-parse", "main") != first.work.base


async def test_a_repository_that_is_away_costs_no_strike_and_says_so(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    bench.origin.rename(bench.folder / "moved")
    finished = await bench.run(runner, bench.spec("a1", shell(DONE)))
    assert finished.outcome is Outcome.AGENT_MISSING
    assert "git server of acme/demo: fetch branch main" in finished.summary
    assert not finished.outcome.costs_strike


async def test_a_git_server_that_never_answers_holds_up_neither_stop_nor_close(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    asked = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/acme/demo.git"
    repository = dataclasses.replace(make_repository(bench.origin), git_url=url)
    await runner.start(bench.spec("a1", shell(DONE), repository=repository))
    await asked.wait()
    await runner.stop("a1", "changed my mind")
    assert (await bench.finish(runner)).outcome is Outcome.STOPPED
    async with asyncio.timeout(10):
        await runner.close()
    assert process.marked(bench.settings().node) == []
    server.close()


async def test_an_attempt_stopped_before_its_work_tree_is_ready_finishes(
    bench: Bench, runner: ProcessAgentRunner
) -> None:
    await runner.start(bench.spec("a1", shell(LINGER)))
    await runner.stop("a1", "changed my mind")
    finished = await bench.finish(runner)
    assert finished.outcome is Outcome.STOPPED


# --- the disk -------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A data folder on a file system of 3 MiB, where this machine lets one be mounted; else ``None``."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = shutil.which("mount")
    done = None
    if mount is not None and os.geteuid() == 0:
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=3m", "none", str(folder)], capture_output=True, check=False
        )
    if done is None or done.returncode != 0:
        yield None
        return
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_told_and_the_work_is_kept_until_there_is_room(
    small_disk: Path | None, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin"))
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    fill = "head -c 2000 /dev/urandom > kept.bin; cat /dev/zero > filler.bin"
    if small_disk is None:
        fill = "head -c 2000 /dev/urandom > kept.bin; exit 1"  # as far as one can go here
    finished = await bench.run(runner, bench.spec("a1", shell(fill)))
    if small_disk is None:
        assert finished.outcome is Outcome.CRASHED
    else:
        assert finished.outcome is Outcome.OUT_OF_BUDGET
        assert "the disk is full" in finished.summary
        await runner.forget("a1")
        (bench.settings().attempts / "a1/tree/filler.bin").unlink()
        (finished,) = await runner.recover()
    assert "kept.bin" in names(finished)
    await runner.close()

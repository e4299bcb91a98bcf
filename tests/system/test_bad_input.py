"""Whatever comes from outside is data: wrong answers, garbage, hostile issues, failing checks, wrong settings."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.support.chaos_stage import ChaosStage, chaos_stage
from tests.support.faulty_server import answer
from tests.support.gated_program import content, file_name
from tests.support.http_door import Door, Fits

from bzzz.core.record import RecordState
from bzzz.demo.stage import OWNER

ROOT = Path(__file__).parents[2]
TROUBLES = {
    "401": answer(401, '{"message": "Bad credentials"}'),
    "403": answer(403, '{"message": "Forbidden"}'),
    "404": answer(404, '{"message": "Not Found"}'),
    "429": answer(429, '{"message": "slow down"}', Retry_After="5"),
    "500": answer(500, "<html>\nOops\n</html>", "text/html"),
    "503": answer(503, ""),
    "nothing": b"",
    "nonsense": answer(200, "<html>\nhello\x1b[2J\n</html>", "text/html"),
}
LINE_CHARACTERS_MAX = 300
READINGS_MAX = 6
"""How often a repository that cannot be read is tried within a test: quickly at first, then ever less often."""


@pytest.fixture
async def chaos(tmp_path: Path) -> AsyncIterator[ChaosStage]:
    async with chaos_stage(tmp_path) as stage:
        yield stage


def status_of(trouble: str) -> str:
    """What a line about it must name."""
    return trouble if trouble.isdigit() else ""


def below(path: str) -> Fits:
    return lambda request: path in request.path


async def add_elsewhere(chaos: ChaosStage, door: Door, name: str) -> None:
    """List a repository in Hive whose forge and git server are at an address of their own."""
    project = {"name": name, "git_url": f"{door.url}/{OWNER}/{name}.git", "bzzz_enabled": True}
    async with httpx.AsyncClient() as client:
        answered = await client.post(f"{chaos.stage.serves_at}/api/bzzz/projects?check=false", json=project)
    assert answered.is_success, answered.text


def names_below(folder: Path) -> set[str]:
    """Names of all files below; ``rglob`` fails where a folder goes away meanwhile, as a node cleans up."""
    return {name for _, _, names in os.walk(folder) for name in names}


@pytest.mark.timeout(90)
async def test_each_wrong_answer_is_one_clear_line_and_the_other_repositories_go_on(chaos: ChaosStage) -> None:
    """Field notes 8 and 15: eight forges, and eight git servers of forges that are well, fail in all ways."""
    doors: dict[str, Door] = {}
    async with contextlib.AsyncExitStack() as stack:
        for kind in ("api", "git"):
            for trouble, wrong in TROUBLES.items():
                door = doors[f"{kind}-{trouble}"] = await stack.enter_async_context(Door())
                if kind == "git":
                    door.answer(below("/api/v3/"), answer(200, "[]"))
                door.answer(lambda _: True, wrong)
                await add_elsewhere(chaos, door, f"{kind}-{trouble}")
        node = await chaos.start("walnut", tasks={"watch_interval_s": 1})
        for name in doors:
            told = await chaos.event("walnut", "notice", level="warning", text=f"{OWNER}/{name} cannot be read")
            assert status_of(name.partition("-")[2]) in told["text"]
            assert told["text"].isprintable(), "one line, and nothing that could move a terminal"
            assert len(told["text"]) < LINE_CHARACTERS_MAX
        await chaos.delivered_once(await chaos.issue())
        assert node.process.returncode is None
        for name, door in doors.items():
            lines = {
                event["text"] for _, event in chaos.events if f"{OWNER}/{name} cannot" in event.get("text", "")
            }
            told_times = sum(f"{OWNER}/{name} cannot" in event.get("text", "") for _, event in chaos.events)
            assert told_times == len(lines) <= 2, (
                "said once, not at every try, and once that it is not asked any more"
            )
            assert 0 < len(door.seen) <= READINGS_MAX, f"{name}: {len(door.seen)} requests"


def asked_again(chaos: ChaosStage, path: str) -> bool:
    return sum(request.path == path for request in chaos.door.seen) > 1


@pytest.mark.timeout(90)
async def test_a_node_starts_with_a_hive_that_answers_wrongly_and_says_so_in_one_line(chaos: ChaosStage) -> None:
    """Field note 8: each of these nodes has a Hive of another kind; all of them stay, and ask again."""
    kinds = ("401", "429", "503", "nonsense")
    for kind in kinds:
        chaos.door.answer(below(f"/as-{kind}/"), TROUBLES[kind])
    await asyncio.gather(
        *(chaos.start(f"node-{kind}", hive={"url": f"{chaos.door.url}/as-{kind}"}) for kind in kinds)
    )
    for kind in kinds:
        told = await chaos.event(f"node-{kind}", "notice", level="warning", text="0 repositories known before")
        assert status_of(kind) in told["text"]
        assert chaos.door.url in told["text"], "it says where"
        assert told["text"].isprintable()
        await chaos.until(
            functools.partial(asked_again, chaos, f"/as-{kind}/api/bzzz/active-repos"), "it asks again"
        )
        warnings = [event for name, event in chaos.events if name == f"node-{kind}" and event["level"] == "warning"]
        assert len(warnings) == 1, warnings
        assert chaos.stage.nodes[f"node-{kind}"].process.returncode is None


@pytest.mark.timeout(60)
async def test_garbage_on_the_mesh_port_disturbs_nobody(chaos: ChaosStage) -> None:
    """Not a peer: noise, another protocol, a handshake that stops in the middle, a flood of connections."""
    await chaos.start("walnut")
    await chaos.start("acacia")
    await chaos.stage.meshed()
    address = (await chaos.event("walnut", "started"))["addresses"][0]
    port = int(address.split("/")[4])
    garbage = [
        os.urandom(200_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x13/multistream/1.0.0\n" + b"\x07/noise\n" + b"\xff\xff" + os.urandom(70_000),
        b"\x13/multistream/1.0.0\n",
        b"\xff" * 10,
        b"",
    ]

    async def knock(data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            await asyncio.wait_for(writer.drain(), 5)
            if data:
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 15)
        except OSError:
            pass  # thrown out: as it should be
        finally:
            writer.close()

    await asyncio.gather(*(knock(data) for data in garbage * 5))
    for name in ("walnut", "acacia"):
        status = await chaos.stage.ask(chaos.stage.nodes[name], "/status")
        assert status["connected_peers"] == 1, name
        assert "broken_loops" not in status["counters"]["node"], name
    await chaos.delivered_once(await chaos.issue())
    kinds = {event["kind"] for _, event in chaos.events}
    assert not kinds & {"broken", "mesh_restarted", "peer_disconnected"}


BODY_CHARACTERS = 64 * 1024
HOSTILE = "\x1b[2J\x07 $(touch pwned) `touch pwned`; touch pwned & ../../../pwned \u202e \x00 {prompt} %s <!-- -->"


@pytest.mark.timeout(60)
async def test_a_hostile_issue_is_data_for_a_program_and_for_every_log(chaos: ChaosStage) -> None:
    """Field note 15: control characters, 64 KB, words that a shell would run, paths that leave the tree."""
    await chaos.start("walnut", agent={"prompt": "argument"})
    text = HOSTILE.replace("\x00", "")  # which no forge stores
    number = await chaos.draft(title=f"Title {text}", body=(f"{text}\n" * 2000)[:BODY_CHARACTERS])
    await chaos.publish(number)
    outcome = await chaos.delivered_once(number)
    assert outcome.chain[-1].branch is not None
    assert outcome.chain[-1].branch.isprintable()
    assert not [name for name in names_below(chaos.folder) if name.startswith("pwned")]
    log = (chaos.stage.folder / "walnut.log").read_text()
    assert all(character.isprintable() or character == "\n" for character in log)


@pytest.mark.timeout(60)
async def test_a_diff_that_leaves_the_tree_is_a_question_to_its_author_and_a_better_one_is_taken(
    chaos: ChaosStage,
) -> None:
    """Field notes 13 and 15: nothing is written outside; nothing is delivered without a change that passes."""
    await chaos.start("walnut", agent={"kind": "patch"})
    escape = "--- /dev/null\n+++ b/../../escaped.txt\n@@ -0,0 +1 @@\n+out\n"
    number = await chaos.draft(body=f"Please:\n\n```diff\n{escape}```\n")
    await chaos.publish(number)
    ended = await chaos.event("walnut", "attempt_ended", task=f"/work#{number}")
    assert ended["outcome"] == "needs_help"
    issue = f"/repos/{OWNER}/work/issues/{number}"
    comment = await chaos.comment(number)
    assert "escaped.txt" in comment
    assert "escaped.txt" not in names_below(chaos.folder)
    assert not (await chaos.outcome(number)).pulls
    better = f"--- /dev/null\n+++ b/{file_name(number)}\n@@ -0,0 +1 @@\n+{content(number)}"
    await chaos.api("PATCH", issue, {"body": f"Like this:\n\n```diff\n{better}```\n"})
    outcome = await chaos.delivered_once(number)
    assert outcome.chain[-1].epoch == 2


@pytest.mark.timeout(120)
async def test_a_check_that_fails_three_times_brings_a_person_and_no_pull_request(chaos: ChaosStage) -> None:
    """Field notes 10 and 13: the agents say that they are done; the check does not, and it counts."""
    number = await chaos.draft()
    chaos.tell_to("fail", "check", number)
    for name in ("walnut", "ironwood", "acacia"):
        await chaos.start(name)
    await chaos.stage.meshed()
    await chaos.publish(number)
    comment = await chaos.comment(number)
    assert "was told to fail" in comment
    await chaos.told_hive(number, "escalated")
    outcome = await chaos.outcome(number)
    last = outcome.chain[-1]
    assert (last.state, last.epoch, last.strikes) == (RecordState.ESCALATED, 3, 3)
    assert len({record.holder.peer for record in outcome.chain}) == 3, "each tried once"
    assert not outcome.pulls
    assert not outcome.branches
    works = [chaos.work_at(commit, number) for commit in outcome.rescued.values()]
    assert works == [content(number)] * 3, "what they made is kept for the person"
    issue = await chaos.api("GET", f"/repos/{OWNER}/work/issues/{number}")
    assert {"needs-human"} <= {label["name"] for label in issue["labels"]}
    assert "in-progress" not in {label["name"] for label in issue["labels"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\nmax_tasks = 0\n", ("node.max_tasks", "0", "1 to 64")),
        ("[nodes]\nname = 'x'\n", ("nodes.name", "no such setting")),
        ("[node\n", ("line 1",)),
        ("[agent]\nkind = 'command'\n", ("agent.command", "needs the program")),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    file = tmp_path / "bzzz.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "bzzz", "up", "-c", str(file), "--data-dir", str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert str(file) in line
    for part in said:
        assert part in line
    assert not (tmp_path / "data").exists()

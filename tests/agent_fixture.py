"""What the tests of agents share: a real repository to work on, an attempt, and following it to its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bzzz.agents.sandbox import probe
from bzzz.agents.setting import AgentSettings
from bzzz.core.task import Comment, Issue, Repository, TaskId
from bzzz.ports import AgentRunner, AttemptEvent, AttemptFinished, AttemptSpec, AttemptStarted

ANSWER_S_MAX = 60.0

_BWRAP = shutil.which("bwrap")
# The suite is whole where bubblewrap is missing: what is parametrized by this runs with what there is.
SANDBOXES = ["none", "bubblewrap"] if _BWRAP and not probe(_BWRAP) else ["none"]

CHECK = """
[check]
command = ["sh", "-c", "grep -q done answer.txt"]
"""
FILES: Mapping[str, str] = {"answer.txt": "open\n", ".bzzz.toml": CHECK, "src/code.py": "one\ntwo\nthree\n"}
DIFF = """\
```diff
--- a/answer.txt
+++ b/answer.txt
@@ -1 +1 @@
-open
+done
```
"""


def git(folder: Path, *arguments: str) -> str:
    """Plain git, as a person would use it, but for the person's own configuration."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Someone",
        "GIT_AUTHOR_EMAIL": "someone@example.org",
        "GIT_COMMITTER_NAME": "Someone",
        "GIT_COMMITTER_EMAIL": "someone@example.org",
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


def make_origin(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """A repository with one commit on ``main``."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=Begin")
    return folder


def make_repository(origin: Path) -> Repository:
    """What Hive would tell of it."""
    return Repository(1, "demo", "acme", "demo", git_url=str(origin), api_url="http://forge.invalid")


def make_issue(body: str = "", *, association: str = "OWNER", title: str = "Answer the question") -> Issue:
    """Issue 7."""
    return Issue(7, title, body, "open", ("bzzz-task",), (), "maintainer", association, "", "t1", "t1")


def make_comment(number: int, body: str, *, association: str = "MEMBER") -> Comment:
    """A comment; later numbers are newer."""
    return Comment(number, "someone", association, body, f"2026-01-01T00:00:{number:02d}Z")


def shell(script: str, **more: Any) -> dict[str, Any]:
    """A command agent that runs a shell script."""
    return {"kind": "command", "command": ["sh", "-c", script], **more}


def python(script: str, **more: Any) -> dict[str, Any]:
    """A command agent that runs a Python script with this interpreter."""
    return {"kind": "command", "command": [sys.executable, "-I", "-c", script], **more}


@dataclass
class Bench:
    """A node's data folder and one repository to work on."""

    folder: Path
    origin: Path
    sandbox: str = "none"
    events: list[AttemptEvent] = field(default_factory=list)

    def settings(self, **changed: Any) -> AgentSettings:
        """Settings with short graces."""
        given: dict[str, Any] = {"sandbox": self.sandbox, "end_grace_s": 0.3, "stop_s_max": 20.0, **changed}
        return AgentSettings(self.folder / "data", f"node-{self.folder}", **given)

    def spec(self, attempt_id: str, agent: Mapping[str, Any], **changed: Any) -> AttemptSpec:
        """An attempt on issue 7."""
        given: dict[str, Any] = {
            "task": TaskId("acme/demo", 7),
            "epoch": 3,
            "repository": make_repository(self.origin),
            "issue": make_issue(),
            "comments": (),
            "branch": "bzzz/task-7-abcdef",
            "agent_name": "walnut",
            **changed,
        }
        return AttemptSpec(attempt_id=attempt_id, agent=agent, **given)

    async def until(self, runner: AgentRunner, kind: type[AttemptEvent]) -> AttemptEvent:
        """Receive up to the first event of a kind."""
        async with asyncio.timeout(ANSWER_S_MAX):
            while True:
                event = await runner.receive()
                self.events.append(event)
                if isinstance(event, kind):
                    return event

    async def finish(self, runner: AgentRunner) -> AttemptFinished:
        """Receive up to an attempt's end."""
        event = await self.until(runner, AttemptFinished)
        assert isinstance(event, AttemptFinished)
        return event

    async def started(self, runner: AgentRunner) -> AttemptStarted:
        """Receive up to an agent's start."""
        event = await self.until(runner, AttemptStarted)
        assert isinstance(event, AttemptStarted)
        return event

    async def run(self, runner: AgentRunner, spec: AttemptSpec) -> AttemptFinished:
        """One attempt from beginning to end."""
        await runner.start(spec)
        return await self.finish(runner)


def show(finished: AttemptFinished, path: str) -> str:
    """A file as it is in an attempt's work."""
    assert finished.work is not None
    return git(finished.work.git_dir, "show", f"{finished.work.commit}:{path}")


def names(finished: AttemptFinished) -> list[str]:
    """All files of an attempt's work."""
    assert finished.work is not None
    return git(finished.work.git_dir, "ls-tree", "-r", "--name-only", finished.work.commit).splitlines()

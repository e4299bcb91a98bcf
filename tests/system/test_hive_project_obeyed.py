"""What a project asks for in Hive, real nodes do: labels, check, agent, limits and reviewers, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from tests.support.hive_process import HiveProcess, running_hive_process, running_node
from tests.support.waiting import wait_for

SEEN_S_MAX = 90.0
# Whatever program an operator has: it does the work, or, where the issue says so, never ends.
AGENT = ["sh", "-c", "if grep -q slowly; then sleep 600; fi; echo done > notes.txt; echo 'I wrote a note'"]
FILES = {"README.md": "# shop\n", ".bzzz.toml": '[check]\ncommand = ["false"]\ntimeout_s = 60\n'}


def make_project(hive: HiveProcess, name: str, **settings: Any) -> None:
    """A repository whose own check always fails, and a project with settings of its own."""
    with hive.forge() as forge:
        forge.create_repository("acme", name, files=FILES)
    hive.ask("POST", "/api/bzzz/projects", json={"name": name, "github_repo": f"acme/{name}", **settings})


def open_issue(hive: HiveProcess, name: str, title: str, *labels: str) -> int:
    with hive.forge() as forge:
        return int(forge.create_issue("acme", name, title, labels=labels)["number"])


def until_captured(hive: HiveProcess, kind: str, log: Path, **query: str) -> list[Any]:
    """Items of one kind, once there is one."""

    def found() -> list[Any]:
        items: list[Any] = hive.ask("GET", "/api/bzzz/captures", params={"kind": kind, **query})["captures"]
        return items

    assert wait_for(lambda: bool(found()), SEEN_S_MAX), log.read_text()
    return found()


def test_a_projects_labels_check_agent_and_reviewers_are_obeyed_and_its_work_is_captured(tmp_path: Path) -> None:
    with running_hive_process(tmp_path) as hive:
        make_project(
            hive,
            "shop",
            labels=["agents", "ready"],
            check_command=["grep", "-q", "done", "notes.txt"],
            agent="sh",
            reviewers=["ana", "bo"],
        )
        make_project(hive, "till", agent="claude-code")
        wanted = open_issue(hive, "shop", "Leave a note", "agents", "ready")
        half = open_issue(hive, "shop", "One label is missing", "agents")
        usual = open_issue(hive, "shop", "The usual label is not this project's", "bzzz-task")
        other = open_issue(hive, "till", "For another agent", "bzzz-task")
        with running_node(hive, "walnut", agent={"kind": "command", "command": AGENT, "sandbox": "none"}) as log:
            (pull,) = until_captured(hive, "create-pr", log)
            (prompt,) = until_captured(hive, "log-prompt", log, task=str(wanted))
            (work,) = until_captured(hive, "submit-work", log, task=str(wanted))
        assert pull["task_number"] == wanted
        check = pull["body"]["check"]
        assert (check["passed"], check["command"]) == (True, "grep -q done notes.txt"), check
        shown = httpx.get(f"{hive.url}/forge/api/v3/repos/acme/shop/pulls", trust_env=False).json()[0]
        assert [one["login"] for one in shown["requested_reviewers"]] == ["ana", "bo"]
        assert shown["html_url"] == pull["body"]["pr_url"]
        assert "Leave a note" in prompt["body"]["prompt_content"]
        assert prompt["body"]["response"].strip() == "I wrote a note"
        assert work["body"]["files"] == {"notes.txt": "done\n"}
        assert "+done" in work["body"]["content"]
        ours, tills = (hive.ask("GET", f"/api/bzzz/projects/{number}/tasks") for number in (1, 2))
        assert [(one["number"], one["claim"]["state"]) for one in ours] == [(wanted, "delivered")]
        assert [(one["number"], one["claim"]) for one in tills] == [(other, None)]
        assert {half, usual}.isdisjoint(one["number"] for one in ours)


def test_a_projects_wall_limit_ends_an_attempt_and_its_strikes_ask_a_person(tmp_path: Path) -> None:
    with running_hive_process(tmp_path) as hive:
        make_project(hive, "shop", limits={"wall_s_max": 1, "strikes_max": 1}, check_command=["true"])
        number = open_issue(hive, "shop", "Do it slowly", "bzzz-task")
        with running_node(hive, "walnut", agent={"kind": "command", "command": AGENT, "sandbox": "none"}) as log:
            (prompt,) = until_captured(hive, "log-prompt", log, task=str(number))
            task = "/api/bzzz/projects/1/tasks"
            escalated = lambda: hive.ask("GET", task)[0]["status"] == "escalated"  # noqa: E731
            assert wait_for(escalated, SEEN_S_MAX), log.read_text()
        assert prompt["body"]["outcome"] == "out_of_budget"
        assert prompt["body"]["usage"]["seconds"] < 30

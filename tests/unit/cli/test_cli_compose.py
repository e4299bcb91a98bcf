"""A node is wired from its settings, and judges issues as they say."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_forge import make_issue
from tests.support.node_world import make_repository

from bzzz.cli.compose import LABELS_MAX, compose_node
from bzzz.config import load
from bzzz.core.capability import match
from bzzz.core.task import ProjectRules, Task, TaskType
from bzzz.errors import UsageError

SECRET = "s3cret-Kq81-never-shown"


async def test_a_node_is_wired_from_its_settings_and_shows_no_secret(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SECRET)
    flags = {
        "node.name": "walnut",
        "node.data_dir": str(tmp_path / "data"),
        "node.max_tasks": 3,
        "mesh.listen": "/ip4/127.0.0.1/tcp/0",
        "hive.url": "http://127.0.0.1:9",
        "hive.key_file": str(key),
        "forge.token_files": {"127.0.0.1:9": str(key)},
        "tasks.claim_ttl_s": 90,
    }
    config = load(None, {}, flags)
    events: list[Any] = []
    composed = compose_node(config, events.append)
    profile = composed.node.core.context.profile
    assert (profile.agent, profile.max_tasks) == ("walnut", 3)
    assert profile.peer == composed.transport.peer_id
    assert composed.node.core.context.policy.renew_interval_ms == 30_000
    assert composed.node.has_hive
    with pytest.raises(UsageError, match="another node is running"):
        compose_node(config, events.append)
    composed.journal.close()
    again = compose_node(config, events.append)
    assert again.transport.peer_id == profile.peer
    assert again.node.core.context.profile.incarnation > profile.incarnation
    again.journal.close()
    assert SECRET not in repr((composed, events, config, profile))
    written = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert all(SECRET.encode() not in content for content in written)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_what_contains_an_agent_is_as_the_settings_say(tmp_path: Path) -> None:
    from bzzz.cli.compose import _agent_settings

    flags = {
        "agent.network": "host",
        "agent.readable": f"~/.nvm,{tmp_path}",
        "agent.path": f"{tmp_path}/bin:/usr/bin",
        "agent.author_email": "agents@example.org",
    }
    usual = _agent_settings(load(None, {}, {}), tmp_path, "peer")
    assert (usual.network, usual.sandbox_paths, usual.path) == ("none", (), "")
    settings = _agent_settings(load(None, {}, flags), tmp_path, "peer")
    assert settings.network == "host"
    assert settings.sandbox_paths == (Path("~/.nvm").expanduser(), tmp_path)
    assert settings.path == f"{tmp_path}/bin:/usr/bin"
    assert settings.author_email == "agents@example.org"


def judged(tmp_path: Path, **changes: Any) -> Task | str:
    from bzzz.cli.compose import _admission

    config = load(None, {}, {"node.data_dir": str(tmp_path)})
    return _admission(config)(make_repository(), replace(make_issue(7), **changes))


def test_an_issue_becomes_a_task_that_gossip_can_carry(tmp_path: Path) -> None:
    labels = ("bzzz-task", "priority-5", "bug", *(f"label{number}" + "x" * 500 for number in range(100)))
    task = judged(tmp_path, title="a\x1b[2J\n\u202eb " + "t" * 10_000, labels=labels, body="crash " * 200_000)
    assert isinstance(task, Task)
    assert (str(task.id), task.task_type, task.priority) == ("acme/shop#7", TaskType.BUG, 5)
    assert task.title.isprintable()
    assert len(task.title) < 500
    assert len(task.labels) == LABELS_MAX
    assert max(map(len, task.labels)) <= 100


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"association": "NONE"}, "its author is not among those whose issues are taken"),
        ({"labels": ("other",)}, "it does not carry the label"),
        ({"state": "closed"}, "it is not open"),
        ({"is_pull": True}, "it is a pull request"),
    ],
)
def test_what_is_no_task_is_told_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert judged(tmp_path, **changes) == reason


def test_a_projects_labels_make_its_tasks_and_its_agent_is_asked_for_as_a_capability(tmp_path: Path) -> None:
    from bzzz.cli.compose import _admission, _capabilities

    config = load(None, {}, {"agent.kind": "command", "agent.command": "/opt/bin/claude-agent,--yes"})
    rules = ProjectRules(labels=("agents", "ready"), agent="claude-agent")
    admit, shop = _admission(config), replace(make_repository(), rules=rules)
    one = admit(shop, replace(make_issue(7), labels=("agents", "bzzz-task")))
    assert one == "it does not carry the label"
    both = admit(shop, replace(make_issue(7), labels=("Ready", "agents")))
    assert isinstance(both, Task)
    assert "needs-claude-agent" in both.labels
    assert match(both, _capabilities(config), "", ()) >= 1
    assert match(both, ("command", "aider"), "", ()) == 0

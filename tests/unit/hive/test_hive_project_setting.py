"""A project's own settings: checked, kept in its metadata, changed one by one, told to nodes and used by Hive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.hive_server import RealClock, running_hive
from tests.support.hive_world import issue

from bzzz.hive.project import change_from, draft_from
from bzzz.hive.project_setting import ProjectSettings, check_setting, read_settings
from bzzz.hive.store import HiveStore

SETTINGS: dict[str, Any] = {
    "labels": ["agents"],
    "check_command": ["make", "test"],
    "agent": "claude",
    "limits": {"wall_s_max": 1800, "strikes_max": 2},
    "reviewers": ["ana"],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "agents"),
        ("labels", ["a\nb"]),
        ("labels", ["x"] * 11),
        ("labels", [3]),
        ("check_command", "make test"),
        ("check_command", ["x" * 3000]),
        ("check_command", ["a\x00b"]),
        ("agent", 3),
        ("limits", ["wall_s_max"]),
        ("limits", {"walls": 3}),
        ("limits", {"wall_s_max": 0}),
        ("limits", {"wall_s_max": True}),
        ("limits", {"wall_s_max": float("nan")}),
        ("reviewers", [""]),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{key}:"):
        check_setting(key, value)
    assert read_settings({key: value}) == ProjectSettings()


def test_settings_go_into_metadata_one_by_one_and_an_empty_one_goes_away(database: str) -> None:
    with HiveStore(database, RealClock()) as store:
        draft = {"name": "shop", "git_url": "http://forge.test/acme/shop", "metadata": {"stars": 3}, **SETTINGS}
        made = store.add(draft_from(draft, ""))
        assert made.settings.to_object() == SETTINGS
        assert made.metadata["stars"] == 3
        changed = store.change(made.id, change_from({"agent": "", "labels": ["todo"]}))
        assert changed is not None
        assert changed.settings == ProjectSettings(("todo",), ("make", "test"), "", SETTINGS["limits"], ("ana",))
        assert "agent" not in changed.metadata
        replaced = store.change(made.id, change_from({"metadata": {"team": "till", "reviewers": ["bo"]}}))
        assert replaced is not None
        assert (replaced.metadata["team"], replaced.settings.reviewers) == ("till", ("bo",))
        assert "stars" not in replaced.metadata
        assert replaced.labels("bzzz-task") == ("todo",)


async def test_nodes_are_told_of_settings_and_a_projects_label_makes_its_tasks(tmp_path: Path) -> None:
    async with running_hive(tmp_path) as hive, hive.client() as client:
        draft = {"name": "shop", "git_url": "http://forge.test/acme/shop", **SETTINGS}
        assert (await client.post("/api/bzzz/projects", json=draft)).json()["settings"] == SETTINGS
        hive.forge.put("acme/shop", issue(1), issue(2, labels=("agents",)))
        (told,) = (await client.get("/api/bzzz/active-repos")).json()["repositories"]
        assert json.loads(json.dumps(told["settings"])) == SETTINGS
        tasks = (await client.get("/api/bzzz/projects/1/tasks")).json()
        assert [task["number"] for task in tasks] == [2]
        answers = [
            await client.post("/api/bzzz/projects/1/claim", json={"task_number": number, "agent_id": "old"})
            for number in (1, 2)
        ]
        assert [answer.status_code for answer in answers] == [404, 200]
        wrong = await client.patch("/api/bzzz/projects/1", json={"limits": {"speed": 3}})
        assert (wrong.status_code, wrong.json()["detail"][:7]) == (422, "limits:")

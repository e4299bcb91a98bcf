"""``bzzz simulate``: one JSON object, a readable result, and a violation that can be repeated."""

from __future__ import annotations

import functools
import json

import pytest
import typer
from typer.testing import CliRunner

from bzzz.cli import simulate as command
from bzzz.errors import UsageError
from bzzz.simulation.fault import FaultKind
from bzzz.simulation.flaw import Flaw

APP = typer.Typer()
APP.command()(command.simulate)
RUNNER = CliRunner()


def test_json_is_one_object_on_standard_output_and_the_seed_is_told_apart() -> None:
    result = RUNNER.invoke(APP, ["--nodes", "3", "--tasks", "6", "--seeds", "4", "--seed", "11", "--json"])
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["seeds"] == 4
    assert value["delivered"] == 24
    assert value["double_deliveries"] == 0
    assert value["undelivered"] == 0
    assert 1.0 <= value["claim_writes_per_task"] <= 1.2
    assert value["messages_per_task"] > 0
    assert value["violations"] == []
    assert f"first seed {value['first_seed']}" in result.stderr


def test_a_person_reads_the_seed_first_and_no_line_is_wider_than_a_terminal() -> None:
    result = RUNNER.invoke(APP, ["--nodes", "3", "--tasks", "5", "--seeds", "2", "--faults", "all"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("first seed ")
    assert all(len(line) <= 80 for line in lines)
    assert "violations" in lines[-1]


def test_the_same_seed_gives_the_same_figures() -> None:
    values = []
    for _ in range(2):
        result = RUNNER.invoke(APP, ["--nodes", "4", "--tasks", "8", "--seed", "77", "--faults", "all", "--json"])
        value = json.loads(result.stdout)
        assert value["seeds"] == 1
        values.append({name: value[name] for name in value if name not in ("elapsed_s", "worlds_per_minute")})
    assert values[0] == values[1]


def test_worlds_played_by_several_processes_are_the_same_worlds() -> None:
    values = []
    for processes in ("1", "3"):
        words = ["--nodes", "3", "--tasks", "4", "--seeds", "9", "--seed", "7", "--faults", "all", "--json"]
        result = RUNNER.invoke(APP, [*words, "--processes", processes])
        assert result.exit_code == 0
        value = json.loads(result.stdout)
        values.append({name: value[name] for name in value if name not in ("elapsed_s", "worlds_per_minute")})
    assert values[0] == values[1]


def test_a_violation_ends_with_status_1_and_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run_worlds", "story"):
        spoiled = functools.partial(getattr(command, name), flaw=Flaw.CLAIM_UNCHANGED)
        monkeypatch.setattr(command, name, spoiled)
    result = RUNNER.invoke(APP, ["--nodes", "3", "--tasks", "5", "--seed", "9", "--json"])
    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert value["violations"][0]["seed"] == 9
    assert value["violations"][0]["checker"] == "fence"
    lines = result.stderr.splitlines()
    assert lines[0] == "first seed 9"
    assert lines[1].startswith("seed 9: fence does not hold")
    assert lines[2] == "repeat it with: bzzz simulate --nodes 3 --tasks 5 --seed 9 --faults none"
    assert any("DeliverWork" in line for line in lines[3:]), "the story of the task"


def test_faults_are_read_by_name() -> None:
    assert command.parse_faults("none") == ()
    assert command.parse_faults("all") == tuple(FaultKind)
    assert command.parse_faults("pause, crash") == (FaultKind.CRASH, FaultKind.PAUSE)
    with pytest.raises(UsageError, match=r"'crsh' is not known.*asymmetric"):
        command.parse_faults("crash,crsh")


def test_an_unknown_fault_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="--faults: 'meteor' is not known; it is none, all, or of "):
        command.parse_faults("meteor")

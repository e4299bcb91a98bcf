"""Benchmarks: results are checked, merged and kept, and one bad benchmark costs no other its results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as command
from benchmarks import result

ONE = {"name": "claim p50", "value": 15.6, "unit": "ms"}


def test_a_plain_result_is_taken_as_it_is() -> None:
    assert result.check(ONE) == ONE


def test_the_ratio_to_a_peer_is_filled_in() -> None:
    full = result.check(ONE | {"peer": "git push", "peer_value": 62.4})
    assert full["ratio"] == 0.25


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([], "not an object"),
        ({"name": "a"}, "lacks value, unit"),
        (ONE | {"value": "15"}, "value = '15' is not a finite number"),
        (ONE | {"value": math.nan}, "not a finite number"),
        (ONE | {"value": True}, "not a finite number"),
        (ONE | {"unit": ""}, "unit = '' is not a text"),
        (ONE | {"peer": "git"}, "go together"),
        (ONE | {"ratio": 2}, "go together"),
        (ONE | {"peer": "git", "peer_value": 0}, "has to be said"),
        (ONE | {"samples": {1, 2}}, "does not go into JSON"),
    ],
)
def test_what_is_no_result_is_refused_with_its_reason(bad: object, reason: str) -> None:
    with pytest.raises(result.BadResult, match=reason):
        result.check(bad)


def test_new_results_replace_those_of_the_same_benchmark_alone() -> None:
    old = [ONE | {"benchmark": "mesh"}, ONE | {"benchmark": "ledger", "value": 1}]
    new = [ONE | {"benchmark": "ledger", "value": 2}]
    assert [(one["benchmark"], one["value"]) for one in result.merge(old, "ledger", new)] == [
        ("ledger", 2),
        ("mesh", 15.6),
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three benchmarks, of which one gives nonsense and one raises."""
    name = f"measured_{tmp_path.name.replace('-', '_')}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "ledger.py").write_text(f'"""One."""\n\n\ndef run():\n    return [{ONE!r}]\n')
    (package / "faulty.py").write_text("\ndef run():\n    return [{'name': 'x'}]\n")
    (package / "raising.py").write_text("\ndef run():\n    raise RuntimeError('no server')\n")
    (package / "support.py").write_text("def walk():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(result, "machine", lambda: "two cores")
    return package


def _names(output: Path) -> list[Any]:
    return [(one["benchmark"], one["name"], one["machine"]) for one in json.loads(output.read_text())]


def test_only_modules_with_a_run_function_are_benchmarks(folder: Path) -> None:
    assert list(command.available(folder)) == ["faulty", "ledger", "raising"]


def test_a_failing_benchmark_is_said_and_costs_no_other_its_results(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench" / "results.json"
    assert command.main([], folder, output) == 1
    assert _names(output) == [("ledger", "claim p50", "two cores")]
    assert "failed: faulty, raising" in capsys.readouterr().err


def test_a_named_benchmark_runs_alone_and_keeps_what_others_measured(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    output.write_text(json.dumps([ONE | {"benchmark": "mesh", "machine": "one core"}]))
    assert command.main(["ledger"], folder, output) == 0
    assert _names(output) == [("ledger", "claim p50", "two cores"), ("mesh", "claim p50", "one core")]


def test_an_unknown_name_is_refused_with_those_there_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["ledgr"], folder, tmp_path / "results.json") == 2
    assert "ledgr is not among faulty, ledger, raising" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": "a"}]'])
def test_results_that_cannot_be_read_are_never_overwritten(folder: Path, tmp_path: Path, text: str) -> None:
    output = tmp_path / "results.json"
    output.write_text(text)
    assert command.main(["ledger"], folder, output) == 2
    assert output.read_text() == text


def test_the_machine_is_told_in_one_line() -> None:
    assert "cores" in result.machine()
    assert "\n" not in result.machine()

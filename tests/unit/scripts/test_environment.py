"""Setting up: the lock is split rightly, an environment that fits is known, and failures say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import environment

ROOT = Path(__file__).resolve().parents[3]
SETUP = ROOT / "scripts" / "setup.sh"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two requirements, with an environment that was made from it."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "bzzz").touch()
    (tmp_path / "requirements" / "lock.txt").write_text("a==1 \\\n    --hash=sha256:00\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "STAMP", tmp_path / ".venv" / "stamp.json")
    monkeypatch.setattr(environment, "LOG", tmp_path / ".venv" / "setup.log")
    monkeypatch.setattr(environment, "LOCK", tmp_path / "requirements" / "lock.txt")
    environment.STAMP.write_text(json.dumps(environment.wanted(".".join(map(str, sys.version_info[:3])))))
    return tmp_path


def test_the_build_tool_is_found_in_the_real_lock_with_its_hashes() -> None:
    blocks = environment.requirements(environment.LOCK.read_text())
    assert blocks[environment.BUILD_TOOL].startswith("setuptools==")
    assert "--hash=sha256:" in blocks[environment.BUILD_TOOL]
    assert len(blocks) == environment.LOCK.read_text().count("==") - environment.LOCK.read_text().count(" == ")


def test_markers_and_hashes_stay_with_their_requirement() -> None:
    first = "a==1 ; python_version < '4' \\\n    --hash=sha256:00\n"
    second = "B-c==2 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n"
    assert environment.requirements(first + second) == {"a": first, "b-c": second}


def test_an_environment_that_fits_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = environment.STAMP.stat().st_mtime_ns
    assert environment.main(["--check"]) == 0
    assert environment.main([]) == 0
    assert environment.STAMP.stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["requirements/lock.txt", "pyproject.toml", ".venv/stamp.json"])
def test_an_environment_of_something_else_does_not_fit(place: Path, changed: str) -> None:
    (place / changed).write_text("{}")
    assert environment.main(["--check"]) == 1


def test_an_environment_without_the_project_in_it_does_not_fit(place: Path) -> None:
    (place / ".venv" / "bin" / "bzzz").unlink()
    assert environment.main(["--check"]) == 1


@pytest.mark.parametrize(
    ("said", "advised"),
    [
        (
            "WARNING: Retrying after NewConnectionError: refused\nERROR: No matching distribution",
            "check the network",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "do not use it"),
        ("error: command 'gcc' failed: No such file or directory", "install a C compiler"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: something new\nhint: none", "ERROR: something new"),
        ("", "without saying why"),
    ],
)
def test_what_pip_said_becomes_what_to_do(said: str, advised: str) -> None:
    assert advised in environment.advice(said)


def test_a_program_that_fails_is_logged_and_said_in_one_line(place: Path) -> None:
    shout = [sys.executable, "-c", "print('ERROR: no luck'); raise SystemExit(3)"]
    with pytest.raises(environment.SetupError, match=r"^ERROR: no luck$"):
        environment.run(shout, environment.Progress())
    assert "ERROR: no luck" in environment.LOG.read_text()


def test_a_users_pip_settings_do_not_lead_packages_astray(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.MISLEADING:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_TIMEOUT", "7")
    environment.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], environment.Progress())
    log = environment.LOG.read_text()
    assert "PIP_TARGET" not in log
    assert "PIP_TIMEOUT" in log


def _setup(path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run setup.sh from a copy of the project's scripts, with the programs of ``path`` alone."""
    copy = path / "project"
    (copy / "scripts").mkdir(parents=True)
    for script in (SETUP, ROOT / "scripts" / "environment.py"):
        (copy / "scripts" / script.name).write_bytes(script.read_bytes())
    for program in ("sh", "dirname"):
        (path / program).symlink_to(f"/usr/bin/{program}")
    return subprocess.run(
        ["/bin/sh", str(copy / "scripts" / "setup.sh")],
        env={"PATH": str(path), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def _fake_python(path: Path, name: str, said: str) -> None:
    """A Python that answers every question with ``said``."""
    (path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
    (path / name).chmod(0o755)


def test_a_machine_without_python_is_told_to_install_one(tmp_path: Path) -> None:
    done = _setup(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no Python was found; install Python 3.11 or newer" in done.stderr


def test_each_python_that_cannot_be_used_is_named_with_its_reason(tmp_path: Path) -> None:
    _fake_python(tmp_path, "python3", "is Python 3.9; 3.11 or newer is needed")
    _fake_python(tmp_path, "python3.12", "lacks venv or ensurepip")
    done = _setup(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "python3 is Python 3.9" in done.stderr
    assert "python3.12 lacks venv" in done.stderr


@pytest.mark.parametrize("name", ["python9", "python3"])
def test_a_python_asked_for_by_name_is_used_or_refused_but_never_replaced(tmp_path: Path, name: str) -> None:
    _fake_python(tmp_path, "python3", "is Python 3.9; 3.11 or newer is needed")
    (tmp_path / "python3.12").symlink_to(sys.executable)
    done = _setup(tmp_path, PYTHON=name)
    assert done.returncode == 1
    assert f"PYTHON={name} is" in done.stderr

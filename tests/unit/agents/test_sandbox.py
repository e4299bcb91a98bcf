"""Sandboxes: which is chosen, and what can and cannot be done from inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent_fixture import SANDBOXES

from bzzz.agents.sandbox import Box, Bubblewrap, NoSandbox, Sandbox, choose, environment
from bzzz.agents.setting import AgentSettings
from bzzz.errors import AgentError

# What confines here. Where nothing does, the tests of confinement see the refusal to run without it instead.
BOXES = [name for name in SANDBOXES if name != "none"] or ["refused"]


def _settings(tmp_path: Path, **changed: str) -> AgentSettings:
    return AgentSettings(tmp_path, "node", **changed)  # type: ignore[arg-type]


def _sandboxes(tmp_path: Path) -> list[Sandbox]:
    return [choose(_settings(tmp_path, sandbox=name)) for name in SANDBOXES]


def _run(sandbox: Sandbox, tmp_path: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    for name in ("tree", "home"):
        (tmp_path / name).mkdir(exist_ok=True)
    marks = environment(_settings(tmp_path), {"BZZZ_ATTEMPT": "a1"})
    box = Box(tmp_path / "tree", tmp_path / "home", (), {**marks, **env})
    launch = sandbox.wrap(box, ("sh", "-c", script))
    return subprocess.run(
        launch.argv, env=dict(launch.environment), cwd=launch.folder, capture_output=True, text=True, check=False
    )


def test_without_bubblewrap_nothing_is_run_and_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("auto", "bubblewrap"):
        with pytest.raises(AgentError, match=r"bubblewrap is not installed: install .* agent.sandbox = \"none\""):
            choose(_settings(tmp_path, sandbox=name))
    assert choose(_settings(tmp_path, sandbox="none")).name == "none"


def test_a_bubblewrap_that_does_not_work_is_refused_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho no namespaces for you >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AgentError, match="no namespaces for you"):
        choose(_settings(tmp_path))


def test_an_unknown_sandbox_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="'docker' is not one of auto, bubblewrap, none"):
        choose(_settings(tmp_path, sandbox="docker"))


def test_no_sandbox_warns_and_a_closed_one_does_not(tmp_path: Path) -> None:
    assert NoSandbox().warning.startswith("NO SANDBOX")
    assert Bubblewrap("bwrap", paths=(), network=False).warning == ""
    assert "network" in Bubblewrap("bwrap", paths=(), network=True).warning


def test_tree_and_home_are_writable_and_the_environment_is_what_was_given(tmp_path: Path) -> None:
    for sandbox in _sandboxes(tmp_path):
        done = _run(
            sandbox, tmp_path, 'echo tree > here; echo home > "$HOME/there"; echo "$COLOUR"; env', COLOUR="blue"
        )
        assert done.stdout.startswith("blue\n"), done.stderr
        assert (tmp_path / "tree/here").read_text() == "tree\n"
        assert (tmp_path / "home/there").read_text() == "home\n"
        given = {"PATH", "LANG", "TERM", "CI", "HOME", "COLOUR", "BZZZ_ATTEMPT", "PWD", "OLDPWD", "_", "SHLVL"}
        assert {line.split("=")[0] for line in done.stdout.splitlines()[1:]} - given <= {
            "USER",
            "LOGNAME",
            "TMPDIR",
        }


@pytest.mark.parametrize("name", BOXES)
def test_nothing_else_of_the_machine_can_be_seen_or_changed(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    if name == "refused":
        with pytest.raises(AgentError):
            choose(_settings(tmp_path))
        return
    sandbox = choose(_settings(tmp_path, sandbox=name))
    for script in (
        f"cat {secret}",
        "cat /etc/shadow",
        "ls /home/somebody/.ssh",
        f"cat /proc/{os.getpid()}/environ",
        f"kill -0 {os.getpid()}",
        "touch /usr/x",
        "touch /etc/x",
        "mount -t tmpfs none /mnt",
        "ls /var/log/*",
    ):
        done = _run(sandbox, tmp_path, script)
        assert done.returncode != 0, script
        assert "hunter2" not in done.stdout
    connect = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = _run(sandbox, tmp_path, f'"{sys.executable}" -c "{connect}"')
    assert "Connection refused" in done.stderr or "unreachable" in done.stderr
    assert _run(sandbox, tmp_path, "ls /sys/class/net").stdout == ""
    assert _run(sandbox, tmp_path, "id -u; hostname; echo x > /tmp/x; pwd").stdout == "1000\nbzzz\n/bzzz/work\n"


@pytest.mark.parametrize("name", BOXES)
def test_a_python_that_is_a_link_in_a_folder_of_its_user_runs_in_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As of one that a virtual environment was made with: its own leads there, and from there to the real one."""
    real = Path(sys.executable).resolve()
    own, users = tmp_path / "venv/bin/python", tmp_path / "users/python3"
    for path in (own, users):
        path.parent.mkdir(parents=True)
    (tmp_path / "users/secret").write_text("hunter2")
    users.symlink_to(real)
    own.symlink_to("../../users/python3")
    monkeypatch.setattr(sys, "executable", str(own))
    if name == "refused":
        assert Bubblewrap("bwrap", paths=(), network=False).shows(own)
        return
    sandbox = choose(_settings(tmp_path, sandbox=name))
    assert sandbox.shows(own)
    done = _run(sandbox, tmp_path, f"{own} -S -c 'print(6 * 7)'; ls {users.parent}")
    assert done.stdout == "42\npython3\n", done.stderr


def test_no_value_of_the_environment_is_in_the_argument_list(tmp_path: Path) -> None:
    launch = Bubblewrap("bwrap", paths=(), network=False).wrap(
        Box(tmp_path, tmp_path, (), {"KEY": "hunter2"}), ("true",)
    )
    assert not any("hunter2" in word for word in launch.argv)
    assert launch.environment["KEY"] == "hunter2"


def test_only_programs_that_are_bound_can_be_seen(tmp_path: Path) -> None:
    program = tmp_path / "agent"
    program.touch()
    assert not Bubblewrap("bwrap", paths=(), network=False).shows(program)
    assert Bubblewrap("bwrap", paths=(tmp_path,), network=False).shows(program)
    assert Bubblewrap("bwrap", paths=(), network=False).shows(Path("/bin/sh"))
    hidden, shown = tmp_path / "hidden/agent", tmp_path / "shown/agent"
    for path, target in ((hidden, Path("/bin/sh")), (shown, hidden)):
        path.parent.mkdir()
        path.symlink_to(target)
    assert not Bubblewrap("bwrap", paths=(shown.parent,), network=False).shows(shown)
    assert Bubblewrap("bwrap", paths=(shown.parent, hidden.parent), network=False).shows(shown)
    assert NoSandbox().shows(program)

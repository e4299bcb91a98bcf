"""A holder that is cut off in the middle of a delivery and joined again: one delivery, the loser's work saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.gated_program import content
from tests.support.mesh_namespace import POSSIBLE

ROOT = Path(__file__).parents[2]


def play(folder: Path, kind: str, timeout_s: float) -> dict[str, dict[str, object]]:
    """What was true in the end of a scene in networks of its own; needs no privilege where users may have those."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    done = subprocess.run(
        ["unshare", *user, "--net", sys.executable, "-m", "tests.support.cut_network", str(folder), kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found: dict[str, dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, dict[str, object]]) -> None:
    sent, stands = found["sent"], found["stands"]
    assert sent["deliveries"] == [[2, "acacia"]], "its own delivery, arriving late, was refused"
    assert sent["rescued"] == [content(1)], "and what it had made was saved"
    assert stands["deliveries"] == [[1, "walnut"]], "its delivery had arrived, and the answer had not"
    assert stands["rescued"] == []
    for each in (sent, stands):
        assert (each["pulls"], each["branches"]) == (1, 1)


@pytest.mark.chaos
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["refused"] if POSSIBLE else ())
def test_a_holder_whose_host_seemed_gone_delivers_nothing_a_second_time(tmp_path: Path, kind: str) -> None:
    """Field notes 1, 3 and 6: for a while another host had its address, and refused connections there."""
    check(play(tmp_path, kind, 110))


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_holder_that_nobody_hears_for_its_claims_life_delivers_nothing_a_second_time(tmp_path: Path) -> None:
    """Field notes 1, 3 and 6: its cable is out for longer than its claim lives, which is the weakest evidence."""
    check(play(tmp_path, "silent", 280))

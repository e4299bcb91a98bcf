"""One program under bounds, and the ends of processes, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bzzz.agents import process

# These run in a process of their own: what is tested ends every descendant of the caller.
PRELUDE = """
import os, sys, time
from pathlib import Path
from bzzz.agents import process
from bzzz.agents.child import Bounds, Launch, run
process.become_subreaper()
reader, writer = os.pipe()
class Control:
    reason = None
    def fileno(self): return reader
    def stop_reason(self): return self.reason
def go(script, **more):
    bounds = Bounds(**{"wall_s_max": 20.0, "end_grace_s": 0.2, **more.pop("bounds", {})})
    launch = Launch(("sh", "-c", script), {"PATH": os.environ["PATH"]}, Path("/"))
    return run(launch, bounds=bounds, control=more.pop("control", Control()), **more)
"""


def _python(code: str) -> str:
    root = Path(__file__).resolve().parents[3] / "src"
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_output_and_status_are_told() -> None:
    assert (
        _python("e = go('echo out; echo err >&2; exit 3'); print(e.end, e.status, e.tail)")
        == "exited 3 b'out\\nerr\\n'"
    )


def test_a_signal_is_a_negative_status() -> None:
    assert _python("print(go('kill -9 $$').status)") == "-9"


def test_a_large_input_and_a_program_that_does_not_read_it() -> None:
    assert _python("print(go('wc -c', given=b'x' * 1000000).tail.strip())") == "b'1000000'"
    assert _python("print(go('exit 0', given=b'x' * 1000000).status)") == "0"
    assert _python("print(go('exec <&-; sleep 0.1; echo on', given=b'x' * 1000000).tail)") == "b'on\\n'"


def test_a_left_over_process_that_holds_the_pipe_is_not_waited_for() -> None:
    code = "s = time.monotonic(); e = go('sleep 1000 & echo done'); print(e.end, time.monotonic() - s < 5)"
    assert _python(code + "; print(process.descendants(os.getpid()))") == "exited True\n[]"


def test_a_secret_is_in_neither_log_nor_tail() -> None:
    code = "log = []; e = go('printf sek; sleep 0.1; echo ret-123', secrets=('sekret-123',), log=log.append)"
    assert _python(code + "; print(b''.join(log), e.tail)") == "b'***\\n' b'***\\n'"


def test_what_is_logged_stays_within_the_bound() -> None:
    code = "log = []; e = go('yes', bounds={'output_bytes_max': 1000}, log=log.append)"
    assert (
        _python(code + "; print(e.end, len(b''.join(log)), 'output_bytes_max' in e.detail)")
        == "output size 1000 True"
    )


def test_a_full_disk_bound_is_told() -> None:
    code = """
import tempfile
from bzzz.agents import child
child.DISK_PROBE_S = 0.05
with tempfile.TemporaryDirectory() as d:
    e = go(f'head -c 500000 /dev/zero > {d}/x; sleep 1000', bounds={'disk_bytes_max': 400000, 'tree': Path(d)})
print(e.end, 'disk_bytes_max' in e.detail)
"""
    assert _python(code) == "disk use True"


def test_many_dead_orphans_are_collected_while_the_program_runs() -> None:
    code = """
script = 'for i in 1 2 3 4 5; do (true &); done; sleep 1.2; grep -l ") Z %d " /proc/[0-9]*/stat 2>/dev/null | wc -l'
print(go(script % os.getpid()).tail.strip())
"""
    assert _python(code) == "b'0'"


def test_a_process_is_named_by_its_start_too() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        found = process.identify(child.pid)
        assert found is not None
        other = process.ProcessId(found.pid, found.started_ticks + 1)
        assert not process.send(other, signal.SIGKILL)
        assert process.identify(child.pid) == found
        assert process.end([found]) == 1
    assert process.identify(child.pid) is None


@pytest.mark.parametrize(
    ("node", "attempt", "count"),
    [("n1", "a1", 1), ("n1", None, 1), ("n1", "a", 0), ("n", "a1", 0), ("n2", None, 0)],
)
def test_marks_are_compared_whole(node: str, attempt: str | None, count: int) -> None:
    mine = f"{os.getpid()}-"
    environment = {process.MARK_NODE: mine + "n1", process.MARK_ATTEMPT: "a1", "PATH": os.environ["PATH"]}
    with subprocess.Popen(["sleep", "1000"], env=environment) as child:
        found = process.marked(mine + node, attempt)
        assert len(found) == count
        assert process.end_marked(mine + node, attempt) == count
        child.kill()

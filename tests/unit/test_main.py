"""``bzzz.__main__``: Ctrl-C while the command line is being imported ends it, without a word of where it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import ModuleType

import pytest

from bzzz import __main__ as entry


def test_ctrl_c_ends_the_process_at_once_while_modules_are_imported_and_is_python_s_own_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = []

    class Importing(ModuleType):
        def __getattr__(self, name: str) -> object:
            handlers.append(signal.getsignal(signal.SIGINT))
            return lambda: handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setitem(sys.modules, "bzzz.cli.main", Importing("bzzz.cli.main"))
    entry.main()
    assert handlers[0] == signal.SIG_DFL
    assert handlers[-1] == before == signal.getsignal(signal.SIGINT)


PARTS = """
import runpy, sys
sys.argv = ["bzzz", "up", "--help"]
try:
    runpy.run_module("bzzz", run_name="__main__")
except SystemExit:
    pass
import bzzz.cli.compose
from bzzz.mesh.libp2p_import import leave_out
leave_out()
import bzzz.mesh.libp2p_engine
print(*(name for name in ("httpx._main", "yaml", "prometheus_client.exposition") if sys.modules.get(name)))
"""


def test_a_node_s_start_imports_no_parser_of_yaml_no_metrics_and_no_other_command_line() -> None:
    """They took a quarter of it."""
    ran = subprocess.run([sys.executable, "-c", PARTS], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == ""

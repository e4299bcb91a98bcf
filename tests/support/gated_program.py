"""An agent and a check that stop where a test wants them to: programs for real attempts.

``python gated_program.py agent GATES NUMBER`` does the work of issue NUMBER: it writes ``done-NUMBER.txt``. On its
way it passes two gates, ``agent`` (nothing done yet) and ``worked`` (all done, not ended yet).
``python gated_program.py check GATES NUMBER`` passes the gate ``check`` and succeeds where that file is right.
TASK is the repository's name, as its README has it, a dash and the number. A gate is shut while
``GATES/shut-GATE-TASK`` exists; ``GATES/at-GATE-TASK`` gets a line with the process id each time that somebody
comes to it; ``GATES/fail-GATE-TASK`` makes who passes fail, and ``GATES/fill-GATE-TASK`` makes it fill the disk.
The standard library alone is imported.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

LOOK_S = 0.02


def content(number: int) -> str:
    """What the file of a resolved issue holds."""
    return f"issue {number} is resolved\n"


def file_name(number: int) -> str:
    """The file that resolves an issue."""
    return f"done-{number}.txt"


def pass_gate(gates: Path, gate: str, task: str) -> None:
    with (gates / f"at-{gate}-{task}").open("a") as at:
        at.write(f"{os.getpid()}\n")
    while (gates / f"shut-{gate}-{task}").exists():
        time.sleep(LOOK_S)
    if (gates / f"fail-{gate}-{task}").exists():
        sys.exit(f"{gate} {task} was told to fail")
    if (gates / f"fill-{gate}-{task}").exists():
        fill_disk(Path("filling.bin"))


def fill_disk(place: Path) -> None:
    """Write until there is no space left, and leave it so."""
    with place.open("wb", buffering=0) as file:
        for piece in (b"x" * 64 * 1024, b"x"):
            try:
                while file.write(piece):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def main(role: str, gates: Path, number: int) -> None:
    place = Path(file_name(number))
    task = f"{Path('README.md').read_text().split()[1]}-{number}"
    if role == "agent":
        pass_gate(gates, "agent", task)
        place.write_text(content(number))
        pass_gate(gates, "worked", task)
    else:
        pass_gate(gates, "check", task)
        sys.exit(0 if place.is_file() and place.read_text() == content(number) else f"{place} is not right")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

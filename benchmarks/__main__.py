"""Run benchmarks and keep what they measured: ``python -m benchmarks [NAME ...]``.

A benchmark is a module in this folder with ``run() -> list[dict]``. Its results, checked and marked with benchmark,
machine and commit, take the place of its earlier ones in ``bench/results.json``; those of others stay. The file is
written after each benchmark, so one that fails loses nothing of the others; the status is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import result

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"

Run = Callable[[], list[dict[str, Any]]]


def available(folder: Path) -> dict[str, str]:
    """Names of the benchmarks in ``folder`` with their module names: modules that define ``run`` at top level."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_") and "\ndef run(" in path.read_text():
            found[path.stem] = f"{folder.name}.{path.stem}"
    return found


def measure(name: str, run: Run, output: Path, marks: dict[str, str]) -> list[result.Result]:
    """Run one benchmark and merge what it measured into ``output``.

    Raises:
        BadResult: it gave something else than results, or ``output`` holds something else.
    """
    measured = run()
    if not isinstance(measured, list) or not measured:
        raise result.BadResult(f"run() gave {measured!r}, which is not a list of results")
    fresh = [{**result.check(one), "benchmark": name, **marks} for one in measured]
    result.write(output, result.merge(result.read(output), name, fresh))
    return fresh


def show(one: result.Result) -> None:
    """Print one result as a line for people."""
    peer = f"   {one['peer']}: {one['peer_value']:g} {one['unit']}, ratio {one['ratio']:g}" if "peer" in one else ""
    print(f"  {one['name']:<44} {one['value']:>12g} {one['unit']}{peer}", flush=True)


def main(arguments: list[str], folder: Path = ROOT / "benchmarks", output: Path = RESULTS) -> int:
    """Run the benchmarks named, all where none is; returns the exit status."""
    known = available(folder)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, and keep what was measured."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(known) or 'none yet'}")
    parser.add_argument("--output", type=Path, default=output, help="the file that keeps the results")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in known]:
        print(f"benchmarks: {', '.join(unknown)} is not among {', '.join(known) or 'none yet'}", file=sys.stderr)
        return 2
    try:
        result.read(options.output)
    except result.BadResult as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    marks = {"machine": result.machine(), "commit": result.commit(ROOT)}
    failed = []
    for name in options.names or known:
        started = time.monotonic()
        print(f"{name}:", flush=True)
        try:
            module = importlib.import_module(known[name])
            for one in measure(name, module.run, options.output, marks):
                show(one)
        except Exception as error:  # whatever a benchmark does wrong, the others are still run
            if not isinstance(error, result.BadResult):
                traceback.print_exc()
            print(f"  {name} failed: {error}", file=sys.stderr, flush=True)
            failed.append(name)
        print(f"  ({time.monotonic() - started:.1f} s)", flush=True)
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

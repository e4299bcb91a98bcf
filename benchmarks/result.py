"""What a benchmark measured: the form of one result, and the file that keeps the newest of each.

A benchmark module gives plain dicts, so that it needs nothing from here; this module checks them, and refuses a
whole file that it cannot read rather than losing what was measured before.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]

REQUIRED = ("name", "value", "unit")
PEER = ("peer", "peer_value", "ratio")
ADDED = ("benchmark", "machine", "commit")


class BadResult(ValueError):
    """A benchmark gave something else than a result, or the file holds something else."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check(result: object) -> Result:
    """Return ``result`` if it is one.

    ``name`` and ``unit`` are texts and ``value`` is a number; where something real was measured beside it in the
    same run, ``peer`` names it, ``peer_value`` is its number in the same unit, and ``ratio`` (own to peer) is
    filled in where it is left out. Other keys are the benchmark's own, as long as JSON can hold them.

    Raises:
        BadResult: it is none; says what is wrong.
    """
    if not isinstance(result, Mapping):
        raise BadResult(f"{result!r} is not an object")
    shown = result.get("name", result)
    if absent := [key for key in REQUIRED if key not in result]:
        raise BadResult(f"{shown!r} lacks {', '.join(absent)}")
    for key in ("name", "unit", "peer"):
        if key in result and not (isinstance(result[key], str) and result[key]):
            raise BadResult(f"{shown!r}: {key} = {result[key]!r} is not a text")
    for key in ("value", "peer_value", "ratio"):
        if key in result and not _number(result[key]):
            raise BadResult(f"{shown!r}: {key} = {result[key]!r} is not a finite number")
    if any(key in result for key in PEER) and not ("peer" in result and "peer_value" in result):
        raise BadResult(f"{shown!r}: peer and peer_value go together")
    full = dict(result)
    if "peer" in full and "ratio" not in full:
        if not full["peer_value"]:
            raise BadResult(f"{shown!r}: the ratio to a peer_value of 0 has to be said")
        full["ratio"] = round(full["value"] / full["peer_value"], 3)
    try:
        json.dumps(full, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadResult(f"{shown!r} does not go into JSON: {error}") from None
    return full


def machine() -> str:
    """The machine in words: processor, cores, system, Python. Nothing that names its owner."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def commit(root: Path) -> str:
    """The commit that was measured, with ``+`` where files differ from it; empty outside a repository."""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def merge(old: Sequence[Result], benchmark: str, new: Iterable[Result]) -> list[Result]:
    """Put the results of ``benchmark`` in place of its earlier ones; ordered by benchmark, then as measured."""
    kept = [result for result in old if result.get("benchmark") != benchmark]
    return sorted([*kept, *new], key=lambda result: str(result.get("benchmark", "")))


def read(path: Path) -> list[Result]:
    """The results in ``path``; none where it is not there.

    Raises:
        BadResult: it holds something else.
    """
    if not path.exists():
        return []
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise BadResult(f"{path} is not JSON ({error}); move it away or mend it") from None
    if not isinstance(value, list):
        raise BadResult(f"{path} is not an array; move it away or mend it")
    return [check(result) for result in value]


def write(path: Path, results: Sequence[Result]) -> None:
    """Write all results, one to a few lines each, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    draft.replace(path)

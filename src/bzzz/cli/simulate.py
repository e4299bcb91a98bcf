"""``bzzz simulate``: seeded worlds of many nodes, with faults, and what the checkers found.

The first seed is printed first, always, so that any failure can be repeated with ``--seed``. It ends with
status 1 if an invariant did not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bzzz.errors import UsageError
from bzzz.simulation.fault import FaultKind
from bzzz.simulation.report import Summary, run_worlds, story
from bzzz.simulation.world import Scale

NODES_MAX = 5_000
TASKS_MAX = 100_000
PROCESSES_MAX = 256
WORLDS_A_PROCESS = 16
STORIES_MAX = 3
FRESH_SEEDS = 2**31


def parse_faults(text: str) -> tuple[FaultKind, ...]:
    """Read ``none``, ``all`` or names with commas between, in the order of ``FaultKind``.

    Raises:
        UsageError: a name is not known; the message lists those that are.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    if words == ["none"] or not words:
        return ()
    if words == ["all"]:
        return tuple(FaultKind)
    known = {kind.value for kind in FaultKind}
    for word in words:
        if word not in known:
            raise UsageError(f"--faults: {word!r} is not known; it is none, all, or of {', '.join(sorted(known))}")
    return tuple(kind for kind in FaultKind if kind.value in words)


@contextlib.contextmanager
def _progress(worlds: int) -> Iterator[Callable[[int], None]]:
    """A line for who watches a terminal, gone at the end; gives what is called after each world."""
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("worlds, {task.fields[violations]} violations,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        line = progress.add_task("", total=worlds, violations=0)
        yield lambda violations: progress.update(line, advance=1, violations=violations)


app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    *,
    nodes: Annotated[int, typer.Option(min=1, max=NODES_MAX, help="Nodes in each world.")] = 5,
    tasks: Annotated[int, typer.Option(min=1, max=TASKS_MAX, help="Tasks in each world.")] = 20,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many worlds; 100, or 1 with --seed.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The first world's seed; a fresh one if left out.")
    ] = None,
    faults: Annotated[
        str, typer.Option(help=f"none, all, or of {', '.join(FaultKind)}; with commas between.")
    ] = "none",
    processes: Annotated[
        int | None, typer.Option(min=1, max=PROCESSES_MAX, help="How many at once; one for each core if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play the claim protocol in seeded worlds with faults, and check that it holds.

    Example:  bzzz simulate --nodes 5 --tasks 20 --seeds 1000 --faults all
    """
    kinds = parse_faults(faults)
    scale = Scale(nodes, tasks)
    first = secrets.randbelow(FRESH_SEEDS) if seed is None else seed
    count = seeds if seeds is not None else (1 if seed is not None else 100)
    typer.echo(f"first seed {first}", err=as_json)
    summary = Summary(scale, tuple(kind.value for kind in kinds))
    # For few worlds a process costs more than it brings.
    at_once = processes or max(1, min(len(os.sched_getaffinity(0)), count // WORLDS_A_PROCESS))
    with _progress(count) as played:
        for result, elapsed_s in run_worlds(first, count, scale, kinds, processes=at_once):
            summary.add(result, elapsed_s)
            played(len(summary.violations))
    for violation in summary.violations[:STORIES_MAX]:
        typer.echo(f"seed {violation.seed}: {violation.checker} does not hold: {violation.detail}", err=True)
        again = f"bzzz simulate --nodes {nodes} --tasks {tasks} --seed {violation.seed} --faults {faults}"
        typer.echo(f"repeat it with: {again}", err=True)
        for line in story(violation, scale, kinds):
            typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(summary.to_object()))
    else:
        for line in summary.lines():
            typer.echo(line)
    if summary.violations:
        raise typer.Exit(1)

"""``bzzz scenario``: the scenarios there are, and calls played against a running Hive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bzzz.cli.hive_place import DEFAULT_URL, JsonOption, KeyOption, SystemClock, UrlOption, api_key
from bzzz.cli.table import show, show_json
from bzzz.hive.link import HiveLink
from bzzz.hive.scenario.plan import (
    FaultBegins,
    Happening,
    ProjectArrives,
    ProjectLeaves,
    ProjectReturns,
    TaskArrives,
    timetable,
)
from bzzz.hive.scenario.script import FAULT_KINDS, load_scenario, shipped
from bzzz.hive.scenario.trigger import Outcome, Trigger, Wish

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Scenarios: fake projects with real repositories, for trying nodes.\n\n"
    "Play one: bzzz hive --scenario calm\n\n"
    "Example:  bzzz scenario show storm",
)

NameArgument = Annotated[str, typer.Argument(help="A scenario's name, or a .toml file.")]


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the scenarios that come with Bzzz.

    Example: bzzz scenario list
    """
    rows = []
    for name in shipped():
        scenario = load_scenario(name)
        rows.append({"name": name, "about": scenario.about, "projects": len(scenario.projects)})
    if as_json:
        show_json(rows)
    else:
        show([("name", "name"), ("projects", "projects"), ("about", "about")], rows, "none")


@app.command("show")
def show_command(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a scenario's timetable: what happens when. The same seed gives the same one.

    Example: bzzz scenario show storm
    """
    scenario = load_scenario(name)
    rows = [{"at": f"{one.at_s:.0f} s", "what": _tell(one)} for one in timetable(scenario)]
    if as_json:
        show_json(rows)
    else:
        typer.echo(f"{scenario.name}: {scenario.about} ({scenario.duration_s:.0f} s, seed {scenario.seed})")
        show([("at", "at"), ("what", "what")], rows, "nothing happens")


@app.command("trigger")
def trigger(
    *,
    claims: Annotated[int, typer.Option(min=0, max=100, help="Tasks to claim, with a rival for each.")] = 2,
    updates: Annotated[int, typer.Option(min=0, max=100, help="Claims to report on and give back.")] = 2,
    urgent: Annotated[int, typer.Option(min=0, max=100, help="Urgent tasks to open, in a scenario.")] = 1,
    fault: Annotated[str, typer.Option(help="A fault to begin, in a scenario: slow, error, limited, away.")] = "",
    fault_s: Annotated[float, typer.Option(min=0.1, max=3600, help="How long it lasts.")] = 10.0,
    wait_s: Annotated[float, typer.Option(min=0, max=3600, help="How long to watch the nodes.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Which tasks are chosen.")] = 1,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play claims, updates and urgent tasks against a running Hive, and report what its nodes did.

    The status is 1 where Hive answered something that it must not, such as one task given to two.

    Example: bzzz scenario trigger --claims 3 --urgent 2 --wait-s 60
    """
    if fault and fault not in FAULT_KINDS:
        raise typer.BadParameter(f"{fault!r} is none of {', '.join(FAULT_KINDS)}", param_hint="--fault")
    wish = Wish(claims, updates, urgent, wait_s, fault, fault_s, seed)
    outcome = asyncio.run(_play(url, key_file, wish))
    if as_json:
        show_json(outcome.to_object())
    else:
        _report(outcome)
    if not outcome.fine:
        raise typer.Exit(1)


async def _play(url: str, key_file: Path | None, wish: Wish) -> Outcome:
    clock = SystemClock()
    link = HiveLink(url, api_key(key_file), clock)
    try:
        return await Trigger(link, clock).play(wish)
    finally:
        await link.close()


def _report(outcome: Outcome) -> None:
    value = outcome.to_object()
    played = [{**one, "fine": "yes" if one["fine"] else "NO"} for one in value["played"]]
    columns: Sequence[tuple[str, str]] = (
        ("what", "what"),
        ("task", "task"),
        ("fine", "fine"),
        ("answer", "answer"),
    )
    show(columns, played, "nothing was played")
    rows = []
    for one in value["watched"]:
        seconds = {key: "" if one[key] is None else f"{one[key]} s" for key in ("taken_s", "delivered_s")}
        rows.append({**one, **seconds})
    columns = (
        ("task", "task"),
        ("state", "state"),
        ("holder", "holder"),
        ("taken_s", "taken"),
        ("delivered_s", "delivered"),
        ("pull_request", "pull request"),
    )
    show(columns, rows, "no task was watched")
    taken = [one for one in outcome.watched if one.taken_s is not None]
    delivered = [one for one in outcome.watched if one.delivered_s is not None]
    typer.echo(f"{len(taken)} of {len(outcome.watched)} tasks taken by nodes, {len(delivered)} delivered")
    for note in outcome.notes:
        typer.echo(f"note: {note}")


def _tell(happening: Happening) -> str:
    if isinstance(happening, ProjectArrives):
        return f"project {happening.project.name} is there"
    if isinstance(happening, ProjectLeaves):
        return f"project {happening.name} is withdrawn"
    if isinstance(happening, ProjectReturns):
        return f"project {happening.name} is back"
    if isinstance(happening, FaultBegins):
        fault = happening.fault
        return f"fault {fault.kind} of the {fault.target} for {fault.for_s:.0f} s, {fault.share:.0%} of the calls"
    assert isinstance(happening, TaskArrives)  # noqa: S101 - the last of the union
    waits = "" if happening.after is None else f", after task {happening.after + 1}"
    return f"task {happening.index + 1} in {happening.project}: {happening.title} ({happening.kind.value}{waits})"

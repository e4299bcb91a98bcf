"""``bzzz demo``: the main job, to be watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bzzz.cli.interruption import Interruption
from bzzz.errors import UsageError

if TYPE_CHECKING:
    from bzzz.demo.run import Demo, Result

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object as the last line, and no live view."),
    keep: bool = typer.Option(False, "--keep", help="Leave everything running until Ctrl-C, to be explored."),
    folder: Path | None = typer.Option(None, help="An empty folder to work in; else a temporary one."),
) -> None:
    """Three nodes find each other, and do nine issues in two repositories; one of them is killed on the way.

    Everything is real: git repositories, issues, claims, checks, pull requests, processes. Nothing leaves
    this machine, and no model is asked: the agents apply diffs that the maintainers put into the issues.

    Example:  bzzz demo --keep
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--folder {folder}: an empty folder is needed")
    with Interruption() as interruption:
        work = folder or Path(tempfile.mkdtemp(prefix="bzzz-demo-"))
        try:
            work.mkdir(parents=True, exist_ok=True)
            good = asyncio.run(_play(work, interruption, as_json=as_json, keep=keep))
        except asyncio.CancelledError:
            raise typer.Exit(interruption.exit_status) from None
        finally:
            if folder is None:
                shutil.rmtree(work, ignore_errors=True)
    raise typer.Exit(0 if good else 1)


async def _play(work: Path, interruption: Interruption, *, as_json: bool, keep: bool) -> bool:
    from bzzz.agents.sandbox import probe
    from bzzz.demo.run import Demo
    from bzzz.ledger.git_ref import GitRefLedger

    bwrap = shutil.which("bwrap")
    contained = bwrap is not None and not await asyncio.to_thread(probe, bwrap)
    ledger = GitRefLedger(lambda _: None)
    demo = Demo(work, ledger, sandbox="bubblewrap" if contained else "none", quiet=as_json)
    task = asyncio.current_task()

    def end() -> None:
        if task is not None:
            task.cancel()

    try:
        with interruption.handed_over(end):
            return await _show(demo, contained=contained, as_json=as_json, keep=keep)
    finally:
        # Ending is bounded. A signal in its midst is only noted: hurrying would leave processes behind.
        await demo.stage.close()
        await ledger.close()


async def _show(demo: Demo, *, contained: bool, as_json: bool, keep: bool) -> bool:
    with demo.show:
        if not contained:
            demo.show.step("bubblewrap is not here: agents are NOT contained (apt install bubblewrap)")
        result, verdicts = await demo.run()
    demo.show.table(verdicts)
    if as_json:
        print(json.dumps(asdict(result)), flush=True)
    else:
        _tell_end(demo, result, keep=keep)
    if keep:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return result.good


def _tell_end(demo: Demo, result: Result, *, keep: bool) -> None:
    out = demo.show.console
    if result.good:
        out.print(
            f"[green]{result.delivered} of {result.tasks} tasks delivered, each once, each check passed[/] "
            f"in {result.elapsed_s:.0f} s; {result.killed} was killed holding {result.killed_holding}",
            soft_wrap=True,
        )
    else:
        out.print(f"[red]not as it should be:[/] {asdict(result)}", soft_wrap=True)
    if keep:
        out.print(
            f"look around: {demo.stage.forge_url}/  and  {demo.stage.hive_url}/   (Ctrl-C ends it)", soft_wrap=True
        )
        node = next(iter(demo.stage.nodes.values()))
        out.print(f"             bzzz peers --url {node.api}", soft_wrap=True)
    else:
        out.print(
            f"the result was at {demo.stage.forge_url}/ ; 'bzzz demo --keep' leaves it there to look at",
            soft_wrap=True,
        )

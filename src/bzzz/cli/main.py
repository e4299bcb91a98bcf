"""``bzzz``: finds the command, runs it, and turns errors into one line and an exit status.

Exit status: 0 done, 1 it did not work, 2 it was asked wrongly, 130 interrupted.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from bzzz import __version__
from bzzz.errors import BzzzError, UsageError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("bzzz.cli.up", "Run a node on this machine."),
    "status": ("bzzz.cli.status", "Show the node that runs here."),
    "peers": ("bzzz.cli.peers", "Show the nodes that it knows."),
    "mesh": ("bzzz.cli.mesh", "Who may join the mesh: its secret, invitations, revoked peers."),
    "tasks": ("bzzz.cli.tasks", "Show tasks, who holds them, and their pull requests."),
    "claims": ("bzzz.cli.claims", "Show the claim chain of one task."),
    "hive": ("bzzz.cli.hive", "Run a Hive, and say which repositories agents may work on."),
    "forge": ("bzzz.cli.forge", "The embedded forge: repositories, issues, tokens."),
    "scenario": ("bzzz.cli.scenario", "Fake projects with real repositories, to try nodes and a Hive."),
    "demo": ("bzzz.cli.demo", "Watch three nodes do nine issues, with one of them killed on the way."),
    "simulate": ("bzzz.cli.simulate", "Run many cores over virtual time, from a seed."),
    "config": ("bzzz.cli.config", "Show every setting, and what it is here."),
}
"""Command to module and help. A module is imported when its command is used, so that help is quick."""


INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C, as shells tell it."""


class LazyGroup(TyperGroup):
    """A group whose commands are found in ``COMMANDS``."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names in the order of the table, which is that of a user's first day."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import a command's module and take its Typer ``app``."""
        if cmd_name not in COMMANDS:
            return None
        module, text = COMMANDS[cmd_name]
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        command.short_help = text
        _plain(command)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _plain(command: Any) -> None:
    """One look for all help texts: plain, so that they read the same in a pipe and on a terminal."""
    command.rich_markup_mode = None
    command.params = [p for p in command.params if p.name not in ("install_completion", "show_completion")]
    for one in getattr(command, "commands", {}).values():
        _plain(one)


app = typer.Typer(
    cls=LazyGroup,
    name="bzzz",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def bzzz(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    """Coding agents on several machines share one stream of issues, with nobody in the middle.

    Begin with:  bzzz demo
    """
    if version:
        typer.echo(f"bzzz {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; never returns."""
    command = typer.main.get_command(app)
    try:
        command(args=list(arguments) if arguments is not None else None)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except RuntimeError as error:
        # What a class body is left with, before Python 3.12, when Ctrl-C comes while a module is imported.
        if isinstance(error.__cause__, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise
    except BrokenPipeError:
        # The reader has seen enough (``bzzz tasks | head``).
        sys.stderr.close()
        sys.exit(0)
    except BzzzError as error:
        # A part of the text may be a stranger's answer: one line, and nothing that moves the cursor.
        text = "".join(c if c.isprintable() else " " for c in str(error))
        typer.echo(f"bzzz: {' '.join(text.split())}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)

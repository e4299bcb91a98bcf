"""``bzzz mesh``: who may join. Its secret and invitations, and the peers that are kept out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from bzzz.cli.local import Json
from bzzz.cli.table import show_json
from bzzz.config import Config, load
from bzzz.errors import BzzzError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Who may join the mesh: its secret and invitations, and the peers that are kept out.\n\n"
    "Example:  bzzz mesh init",
)

ConfigFile = typer.Option(None, "--config", "-c", help="The settings file.", envvar="BZZZ_CONFIG")
DataDir = typer.Option(None, "--data-dir", help="The node's data folder.")
Replace = typer.Option(False, "--replace", help="Put it in place of the secret that is there.")


@app.command("init")
def init_command(
    name: str | None = typer.Option(None, help="The mesh's name; mesh.name if not given."),
    file: Path | None = ConfigFile,
    data_dir: str | None = DataDir,
    replace: bool = Replace,
) -> None:
    """Make a mesh: a name and a secret, in a file that only you can read.

    Nodes that find the file there use it when they start. To bar whoever has the old secret, make a new one with
    --replace, and hand it to all nodes anew.

    Example:  bzzz mesh init --name home
    """
    from bzzz.mesh.mesh_secret import new_secret

    config = _load(file, data_dir)
    try:
        secret = new_secret(name or config["mesh.name"])
    except ValueError as error:
        raise UsageError(f"--name: {error}") from None
    _save(config, secret, replace=replace)
    typer.echo("To let another machine in:  bzzz mesh invite   here, and   bzzz mesh join   there.")


@app.command("invite")
def invite_command(
    address: list[str] = typer.Option(
        [], help="Where the mesh can be reached; the running node's own if not given."
    ),
    file: Path | None = ConfigFile,
    data_dir: str | None = DataDir,
) -> None:
    """Print the line that lets another machine in. Whoever has it is in: hand it over as you would a password.

    Example:  bzzz mesh invite | ssh other bzzz mesh join
    """
    from bzzz.cli.compose_mesh import secret_path
    from bzzz.mesh.address import parse_wanted
    from bzzz.mesh.mesh_secret import load_secret

    config = _load(file, data_dir)
    secret = load_secret(secret_path(config))
    try:
        told = tuple(str(parse_wanted(text)) for text in address)
    except ValueError as error:
        raise UsageError(f"--address: {error}") from None
    typer.echo(secret.at(told or _own_addresses(config)).line())


@app.command("join")
def join_command(
    line: str | None = typer.Argument(None, help="The invitation; asked for, or read from a pipe, if not given."),
    file: Path | None = ConfigFile,
    data_dir: str | None = DataDir,
    replace: bool = Replace,
) -> None:
    """Join a mesh by the line that 'bzzz mesh invite' printed there.

    Given as an argument, other users of this machine can see it in the list of processes while the command runs;
    without it the command asks.

    Example:  bzzz mesh join
    """
    from bzzz.mesh.mesh_secret import INVITATION_CHARS_MAX, read_line

    if line is None:
        # One more than allowed, so that what is too long is seen to be.
        line = (
            typer.prompt("Invitation", hide_input=True)
            if sys.stdin.isatty()
            else sys.stdin.readline(INVITATION_CHARS_MAX + 1)
        )
    config = _load(file, data_dir)
    try:
        secret = read_line(str(line))
    except ValueError as error:
        raise UsageError(str(error)) from None
    _save(config, secret, replace=replace)
    typer.echo("The node joins when it is started:  bzzz up")


@app.command("revoke")
def revoke_command(
    peer: str = typer.Argument(..., help="The peer id, as 'bzzz peers --json' shows it."),
    undo: bool = typer.Option(False, "--undo", help="Let it in again."),
    file: Path | None = ConfigFile,
    data_dir: str | None = DataDir,
) -> None:
    """Keep a peer out of the mesh, at once and for good: here, and wherever else this is done.

    A running node ends its connection within seconds and takes none of its messages, whoever forwards them. Each
    node has a list of its own, for nothing that is heard on the mesh is authority; run this on every one. The
    peer still knows the secret, and could come with another identity: 'bzzz mesh init --replace' bars it.

    Example:  bzzz mesh revoke 12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1
    """
    from bzzz.cli.compose_mesh import revoked_path
    from bzzz.mesh.address import is_peer_id
    from bzzz.mesh.revocation import write_revoked

    if not is_peer_id(peer):
        raise UsageError(f"{peer[:80]!r} is no peer id; 'bzzz peers --json' shows them")
    path = revoked_path(_load(file, data_dir))
    before = _revoked(path)
    after = before - {peer} if undo else before | {peer}
    if after == before:
        typer.echo(f"{peer} is {'not' if undo else 'already'} revoked here")
        return
    try:
        write_revoked(path, after)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    typer.echo(f"{peer} is {'no longer ' if undo else ''}revoked here ({path})")


@app.command("show")
def show_command(file: Path | None = ConfigFile, data_dir: str | None = DataDir, as_json: bool = Json) -> None:
    """Show who may join this node's mesh. Shows no secret.

    Example:  bzzz mesh show --json
    """
    from bzzz.cli.compose_mesh import mesh_settings, revoked_path

    config = _load(file, data_dir)
    settings = mesh_settings(config)
    found: dict[str, Any] = {
        "name": settings.mesh_name,
        "secret_file": str(settings.secret_file) if settings.secret_file else None,
        "allowed_peers": list(settings.allowed_peers),
        "revoked_peers": sorted(_revoked(revoked_path(config))),
        "peers": list(settings.static_peers),
    }
    if as_json:
        show_json(found)
        return
    who = "whoever knows its secret" if settings.secret_file else "anybody; 'bzzz mesh init' makes a secret"
    if settings.allowed_peers:
        known = ", and knows its secret" if settings.secret_file else ""
        who = f"who is one of {len(settings.allowed_peers)} peers{known}"
    typer.echo(f"mesh {settings.mesh_name}: open to {who}")
    for peer in found["revoked_peers"]:
        typer.echo(f"revoked: {peer}")
    for address in found["peers"]:
        typer.echo(f"dialled: {address}")


def _load(file: Path | None, data_dir: str | None) -> Config:
    return load(file, os.environ, {"node.data_dir": data_dir})


def _save(config: Config, secret: Any, *, replace: bool) -> None:
    from bzzz.cli.compose_mesh import secret_path
    from bzzz.mesh.mesh_secret import save_secret

    path = secret_path(config)
    try:
        written = save_secret(path, secret, replace=replace)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    if not written:
        raise UsageError(f"{path}: this node has a mesh already; --replace puts the new one in its place")
    typer.echo(f"mesh {secret.name}: {path}")


def _revoked(path: Path) -> frozenset[str]:
    from bzzz.mesh.revocation import read_revoked

    try:
        return read_revoked(path)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _own_addresses(config: Config) -> tuple[str, ...]:
    from bzzz.cli.local import get
    from bzzz.mesh.address import parse_address

    try:
        known = [parse_address(text) for text in get(config.data_dir, None, "/status")["addresses"]]
    except (BzzzError, KeyError, TypeError, ValueError):
        # No node runs; the invitation is good where there is multicast.
        typer.echo(
            "no node runs here, so the line tells no address: fine where mDNS works, else --address", err=True
        )
        return ()
    useful = [address for address in known if not address.is_loopback] or known
    return tuple(map(str, useful))

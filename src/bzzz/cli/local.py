"""How commands reach the node that runs here: by the address that it left in its data folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer

from bzzz.errors import ServiceNonsense, ServiceUnavailable, UsageError

ADDRESS_FILE = "api.json"
TIMEOUT_S = 5.0

DataDir = typer.Option(None, "--data-dir", help="The node's data folder.", envvar="BZZZ_DATA_DIR")
Url = typer.Option(None, "--url", help="The node's local API, instead of looking for it.", envvar="BZZZ_API_URL")
Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


def leave_address(data_dir: Path, url: str) -> None:
    """Let commands find a running node."""
    path = data_dir / ADDRESS_FILE
    path.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")


def remove_address(data_dir: Path) -> None:
    """The node is gone."""
    (data_dir / ADDRESS_FILE).unlink(missing_ok=True)


def api_url(data_dir: Path | None, url: str | None) -> str:
    """Where the local API is.

    Raises:
        UsageError: no node has left its address there.
    """
    if url:
        return url.rstrip("/")
    folder = data_dir or Path("~/.local/share/bzzz")
    path = folder.expanduser() / ADDRESS_FILE
    try:
        return str(json.loads(path.read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{path}: no node runs here; start one with 'bzzz up', or name its --data-dir") from None


def get(data_dir: Path | None, url: str | None, path: str) -> Any:
    """One answer of the local API.

    Raises:
        UsageError: no node runs here.
        ServiceUnavailable: it does not answer.
        ServiceNonsense: something else answers there.
    """
    import httpx

    base = api_url(data_dir, url)
    try:
        answer = httpx.get(base + path, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()
    except httpx.HTTPStatusError as error:
        raise ServiceNonsense(f"node {base}", f"GET {path}", status=error.response.status_code) from None
    except httpx.HTTPError:
        detail = "it was not ended in order, or is still starting"
        raise ServiceUnavailable(f"node {base}", f"GET {path}", detail) from None
    except ValueError:
        raise ServiceNonsense(f"node {base}", f"GET {path}") from None

"""How commands reach the node that runs here: by the address that it left in its data folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from bzzz.errors import ServiceNonsense, ServiceUnavailable, UsageError

ADDRESS_FILE = "api.json"
TIMEOUT_S = 5.0

DataDir = typer.Option(None, "--data-dir", help="The node's data folder.", envvar="BZZZ_DATA_DIR")
Settings = typer.Option(
    None, "--config", "-c", help="The node's settings, which name that folder.", envvar="BZZZ_CONFIG"
)
Url = typer.Option(None, "--url", help="The node's local API, instead of looking for it.", envvar="BZZZ_API_URL")
Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


def leave_address(data_dir: Path, url: str) -> None:
    """Let commands find a running node."""
    path = data_dir / ADDRESS_FILE
    # Whoever looks meanwhile finds the whole of it, or nothing.
    fresh = path.with_name(f"{ADDRESS_FILE}.{secrets.token_hex(4)}")
    fresh.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    fresh.replace(path)


def remove_address(data_dir: Path) -> None:
    """The node is gone."""
    (data_dir / ADDRESS_FILE).unlink(missing_ok=True)


def node_folder(data_dir: Path | None, file: Path | None) -> Path | None:
    """The data folder that was named: itself, or by the settings of the node; ``None`` where neither was.

    Raises:
        SettingError: the settings are wrong.
    """
    if data_dir is not None or file is None:
        return data_dir
    from bzzz.config import load

    return load(file, os.environ, {}).data_dir


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
        raise UsageError(
            f"{path}: no node runs here; start one with 'bzzz up', or name its --config or --data-dir"
        ) from None


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
        # Not through a proxy that the environment names: this is for loopback.
        answer = httpx.get(base + path, timeout=TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        return answer.json()
    except httpx.InvalidURL as error:
        raise UsageError(f"--url {base}: {error}") from None
    except httpx.UnsupportedProtocol:
        raise UsageError(f"--url {base}: an address such as http://127.0.0.1:8080 is needed") from None
    except httpx.HTTPStatusError as error:
        raise ServiceNonsense(f"node {base}", f"GET {path}", status=error.response.status_code) from None
    except httpx.HTTPError:
        detail = "it was not ended in order, or is still starting"
        raise ServiceUnavailable(f"node {base}", f"GET {path}", detail) from None
    except ValueError:
        raise ServiceNonsense(f"node {base}", f"GET {path}") from None


@contextlib.contextmanager
def answer(data_dir: Path | None, url: str | None, path: str, file: Path | None = None) -> Iterator[Any]:
    """One answer of the local API, to be read within; what it lacks is an error of whoever gave it.

    Args:
        data_dir: the node's folder, where its address is; else the usual one.
        url: its address itself, with which nothing is looked for.
        path: what to ask for.
        file: the node's settings, which name its folder where ``data_dir`` does not.

    Raises:
        UsageError, ServiceUnavailable, ServiceNonsense: as ``get``.
        SettingError: ``file`` is wrong.
    """
    if not url:
        data_dir = node_folder(data_dir, file)
    found = get(data_dir, url, path)
    try:
        yield found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"it does not answer as a node does: {type(error).__name__} {error}"
        raise ServiceNonsense(f"node {api_url(data_dir, url)}", f"GET {path}", detail) from None

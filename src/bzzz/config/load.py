"""Putting settings together: defaults, then the file, then the environment, then flags.

What is wrong is told with its file, key, value and what is allowed, and never with a secret.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bzzz.config.secret import one_line, read_secret, shown
from bzzz.config.setting import SETTINGS
from bzzz.errors import SettingError, UsageError

FILE_BYTES_MAX = 1024 * 1024
SECTIONS_DEEP_MAX = 4

_BY_KEY = {setting.key: setting for setting in SETTINGS}
HIVE_KEY_VARIABLE = "BZZZ_HIVE_API_KEY"
CREDENTIALS = {"hive.key_file": "hive-api-key", "forge.token_file": "github-token"}
"""Secrets that systemd may hand over (``LoadCredential=``), by the setting they stand for where it is empty."""
_ALIASES = {"GITHUB_TOKEN_FILE": "forge.token_file"}
"""Variables that the predecessor's deployments set; the ones of ``SETTINGS`` win over them."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one node, checked.

    ``sources`` tells where each value came from. ``hive_key`` is the one secret that the predecessor's
    deployments pass by a variable; a file is better, for a process's environment can be read by its owner.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    hive_key: str = field(default="", repr=False)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def name(self) -> str:
        """The node's name, the host's if none is set."""
        return str(self.values["node.name"]) or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "node"

    @property
    def data_dir(self) -> Path:
        """The node's folder."""
        return Path(self.values["node.data_dir"]).expanduser()


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Config:
    """Read settings: defaults, then the file, then the environment, then flags.

    Args:
        path: a ``.toml``, ``.yaml`` or ``.yml`` file, or ``None``.
        environment: usually ``os.environ``.
        flags: values by key; ``None`` values are as if not given.

    Raises:
        SettingError: a value is wrong or a key unknown; it names file or variable, key, value and what is allowed.
        UsageError: the file cannot be read.
    """
    values: dict[str, Any] = {setting.key: setting.read(setting.default) for setting in SETTINGS}
    sources = dict.fromkeys(values, "default")

    def take(key: str, value: Any, where: str) -> None:
        setting = _BY_KEY.get(key)
        if setting is None:
            raise SettingError(where, key, shown(key, value), f"there is no such setting{_nearest(key)}")
        try:
            values[key] = setting.read(value)
        except ValueError as error:
            raise SettingError(where, key, shown(key, value), str(error)) from None
        sources[key] = where

    if path is not None:
        for key, value in _flatten(_read_file(path)).items():
            take(key, value, str(path))
    for name, key in _ALIASES.items():
        if environment.get(name):
            take(key, environment[name], f"environment variable {name}")
    for setting in SETTINGS:
        if setting.env and environment.get(setting.env):
            take(setting.key, environment[setting.env], f"environment variable {setting.env}")
    for key, value in (flags or {}).items():
        if value is not None:
            take(key, value, f"flag for {key}")
    for key, name in CREDENTIALS.items():
        folder = environment.get("CREDENTIALS_DIRECTORY", "")
        if folder and not values[key] and (Path(folder) / name).is_file():
            take(key, str(Path(folder) / name), f"systemd credential {name}")
    hive_key = one_line(environment.get(HIVE_KEY_VARIABLE, ""))
    if hive_key is None:
        raise UsageError(f"environment variable {HIVE_KEY_VARIABLE}: Hive's API key must be one line of text")
    # The environment goes before the file here too, as everywhere.
    if values["hive.key_file"] and not (hive_key and sources["hive.key_file"] == str(path)):
        hive_key = read_secret(values["hive.key_file"], "Hive's API key")
    config = Config(values, sources, hive_key)
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    if config["agent.kind"] == "command" and not config["agent.command"]:
        where = config.sources["agent.kind"]
        raise SettingError(where, "agent.command", [], 'agent.kind = "command" needs the program to run')
    _check_readable(config)
    _check_mesh(config)


SECRET_FILES = ("hive.key_file", "forge.token_file", "mesh.secret_file", "mesh.tls_key")
SECRET_TABLES = ("forge.token_files", "agent.environment_files")


def _check_readable(config: Config) -> None:
    # An agent that may read these could join the mesh, or write to the forge, as this node.
    named = [config[key] for key in SECRET_FILES]
    for key in SECRET_TABLES:
        named += config[key].values()
    kept = [config.data_dir, *(Path(name).expanduser() for name in named if name)]
    for folder in config["agent.readable"]:
        for path in kept:
            if path.resolve().is_relative_to(Path(folder).resolve()):
                allowed = f"{path} lies in it, which no agent may read; name the programs' own folders"
                raise SettingError(config.sources["agent.readable"], "agent.readable", folder, allowed)


ZENOH_ALONE = ("mesh.tls_certificate", "mesh.tls_key", "mesh.tls_ca", "mesh.routers")
LIBP2P_ALONE = ("mesh.secret_file", "mesh.allowed_peers", "mesh.revoked_file")


def _check_mesh(config: Config) -> None:
    # What would go unheeded must not look as if it protected anything.
    for keys, engine in ((ZENOH_ALONE, "zenoh"), (LIBP2P_ALONE, "libp2p")):
        for key in keys:
            if config[key] and config["mesh.engine"] != engine:
                raise SettingError(config.sources[key], key, config[key], f'it needs mesh.engine = "{engine}"')
    files = ZENOH_ALONE[:3]
    given = [key for key in files if config[key]]
    for key in files:
        if given and not config[key]:
            allowed = f"{given[0]} is set, so all of {', '.join(files)} are needed"
            raise SettingError(config.sources[given[0]], key, "", allowed)


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path}: larger than {FILE_BYTES_MAX} bytes; is this the right file?")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: the settings cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the settings are not UTF-8 text") from None
    if path.suffix not in (".toml", ".yaml", ".yml"):
        raise UsageError(f"{path}: the name of the settings must end in .toml, .yaml or .yml")
    try:
        value = tomllib.loads(text) if path.suffix == ".toml" else _read_yaml(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: the settings are not a table of sections such as [node]")
    return value


def _read_yaml(text: str) -> Any:
    # A node without such a file does without the parser, which takes a twentieth of its start.
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The text around the fault, which the parser shows, may hold anything.
        mark = getattr(error, "problem_mark", None)
        reason = str(error) if mark is None else f"{getattr(error, 'problem', '')}, line {mark.line + 1}"
        raise ValueError(reason) from None


def _flatten(value: Mapping[str, Any], prefix: str = "", depth: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and name not in _BY_KEY and depth < SECTIONS_DEEP_MAX:
            found.update(_flatten(item, f"{name}.", depth + 1))
        elif item is not None or not any(known.startswith(f"{name}.") for known in _BY_KEY):
            # An empty section of YAML is ``None``.
            found[name] = item
    return found


def _nearest(key: str) -> str:
    near = get_close_matches(key, _BY_KEY, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""

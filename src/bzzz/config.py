"""The only reader of settings: a TOML or YAML file, then the environment, then flags.

Every setting stands once, in ``SETTINGS``, with its type, default, environment variable and meaning; the
parser, the error messages, ``bzzz config`` and the README's table are all made from that table. Secrets are
never settings themselves: a setting names the file that holds one.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from bzzz.errors import SettingError, UsageError

FILE_BYTES_MAX = 1024 * 1024
SECRET_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    ``read`` turns what was found into the value, or raises ``ValueError`` saying what is allowed.
    ``env`` is the variable that overrides the file; text from there is split at commas for lists.
    """

    key: str
    default: Any
    read: Callable[[Any], Any]
    meaning: str
    env: str = ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is needed")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise ValueError("letters, digits, '.', '_' and '-' are allowed, 63 at most, a letter or digit first")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts is needed")
    return tuple(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "1", "on", "false", "no", "0", "off"):
        return value.lower() in ("true", "yes", "1", "on")
    raise ValueError("true or false is needed")


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,12}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high} is needed")
        return value

    return read


def _choice(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)} is needed")
        return str(value)

    return read


def _url(value: Any) -> str:
    if value != "" and (not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", value)):
        raise ValueError("an address such as http://host:8080 is needed, without a user name in it")
    return str(value).rstrip("/")


def _path(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a file name is needed")
    return os.path.expanduser(value)  # noqa: PTH111


def _paths(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError("a table of host name = file name is needed")
    return {str(host).lower(): os.path.expanduser(name) for host, name in value.items()}  # noqa: PTH111


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError("a table of NAME = text is needed")
    return dict(value)


def _addresses(value: Any) -> tuple[str, ...]:
    found = _texts(value)
    for address in found:
        if not re.fullmatch(r"/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d{1,5}(/p2p/[A-Za-z0-9]+)?", address):
            raise ValueError(f"{address[:60]!r} is no address such as /ip4/192.0.2.7/tcp/4001")
    return found


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "node.name",
        "",
        lambda v: v and _name(v),
        "the name people know this node by; the host's name if empty",
        "BZZZ_AGENT_ID",
    ),
    Setting(
        "node.data_dir", "~/.local/share/bzzz", _path, "identity, journal, mirrors and attempts", "BZZZ_DATA_DIR"
    ),
    Setting(
        "node.capabilities", (), _texts, "what this node can do, such as code-generation", "BZZZ_AGENT_CAPABILITIES"
    ),
    Setting(
        "node.specialization",
        "",
        _text,
        "what it does best; matching tasks come to it first",
        "BZZZ_AGENT_SPECIALIZATION",
    ),
    Setting("node.models", (), _texts, "models it runs, as tasks may ask for by a label model-NAME"),
    Setting("node.max_tasks", 1, _whole(1, 64), "attempts at the same time"),
    Setting(
        "node.log_level", "info", _choice("debug", "info", "warning", "error"), "what is printed", "BZZZ_LOG_LEVEL"
    ),
    Setting("hive.url", "", _url, "where repositories are discovered and work is reported", "BZZZ_HIVE_API_URL"),
    Setting("hive.key_file", "", _path, "file with Hive's API key", "BZZZ_HIVE_API_KEY_FILE"),
    Setting(
        "mesh.engine",
        "libp2p",
        _choice("libp2p", "zenoh"),
        "what carries the mesh: libp2p for 3 to 20 nodes, zenoh for more; the same on all of them",
        "BZZZ_MESH_ENGINE",
    ),
    Setting("mesh.name", "bzzz", _name, "only nodes with the same mesh name meet", "BZZZ_MESH_NAME"),
    Setting(
        "mesh.listen",
        ("/ip4/0.0.0.0/tcp/4001",),
        _addresses,
        "where the node listens for peers",
        "BZZZ_MESH_LISTEN",
    ),
    Setting("mesh.mdns", True, _flag, "find peers on the local network by multicast DNS", "BZZZ_MESH_MDNS"),
    Setting(
        "mesh.peers", (), _addresses, "peers to keep connected, each ending in /p2p/PEER_ID", "BZZZ_MESH_PEERS"
    ),
    Setting("mesh.routers", (), _addresses, "zenoh alone: routers for nodes that have no way to each other"),
    Setting(
        "mesh.tls_certificate", "", _path, "zenoh alone: this node's certificate; only its authority's are admitted"
    ),
    Setting("mesh.tls_key", "", _path, "zenoh alone: the certificate's private key"),
    Setting("mesh.tls_ca", "", _path, "zenoh alone: the certificate of the authority"),
    Setting(
        "forge.token_file",
        "",
        _path,
        "file with the token for github.com",
        "BZZZ_GITHUB_TOKEN_FILE",
    ),
    Setting("forge.token_files", {}, _paths, "files with tokens for other forges, by host name or host:port"),
    Setting(
        "forge.associations",
        ("OWNER", "MEMBER", "COLLABORATOR"),
        _texts,
        "whose issues and diffs are taken, by GitHub's word for them",
    ),
    Setting(
        "agent.kind",
        "patch",
        _choice("patch", "command"),
        "patch applies a maintainer's diff; command runs a program",
        "BZZZ_AGENT_KIND",
    ),
    Setting("agent.command", (), _texts, "the program and its arguments; {prompt} and {prompt_file} are filled in"),
    Setting("agent.prompt", "stdin", _choice("stdin", "argument", "file"), "how the program gets its prompt"),
    Setting("agent.environment", {}, _environment, "variables that the program sees, none of them secret"),
    Setting(
        "agent.environment_files",
        {},
        _environment,
        "variables whose values are read from files, such as a model's key",
    ),
    Setting(
        "agent.sandbox",
        "auto",
        _choice("auto", "bubblewrap", "none"),
        "how agent and checks are contained; none contains nothing",
        "BZZZ_AGENT_SANDBOX",
    ),
    Setting("agent.wall_s_max", 3600, _whole(1, 86_400), "seconds an attempt may take"),
    Setting("agent.idle_s_max", 600, _whole(1, 86_400), "seconds it may show no sign of life"),
    Setting("agent.check_required", True, _flag, "no delivery where the repository names no check"),
    Setting("tasks.label", "bzzz-task", _text, "the label that makes an issue a task"),
    Setting(
        "tasks.claim_ttl_s",
        900,
        _whole(60, 86_400),
        "silence after which a claim may be taken over, at the weakest evidence",
    ),
    Setting("tasks.strikes_max", 3, _whole(1, 100), "failed attempts before a person is asked"),
    Setting(
        "tasks.watch_interval_s",
        10,
        _whole(1, 300),
        "seconds between two readings of a repository, at the quickest",
    ),
    Setting(
        "api.host",
        "127.0.0.1",
        _choice("127.0.0.1", "::1", "localhost"),
        "where the local API listens: loopback only",
    ),
    Setting(
        "api.port", 0, _whole(0, 65_535), "its port; 0 takes a free one, which bzzz status finds", "BZZZ_API_PORT"
    ),
    Setting("hooks.escalation_url", "", _url, "is told of every escalation by a POST", "BZZZ_ESCALATION_WEBHOOK"),
    Setting(
        "hooks.model_selection_url",
        "",
        _url,
        "kept for the predecessor's settings; no agent here asks it",
        "BZZZ_MODEL_SELECTION_WEBHOOK",
    ),
)

_BY_KEY = {setting.key: setting for setting in SETTINGS}
HIVE_KEY_VARIABLE = "BZZZ_HIVE_API_KEY"
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
            raise SettingError(where, key, value, f"there is no such setting{_nearest(key)}")
        try:
            values[key] = setting.read(value)
        except ValueError as error:
            raise SettingError(where, key, value, str(error)) from None
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
    hive_key = environment.get(HIVE_KEY_VARIABLE, "")
    if values["hive.key_file"]:
        hive_key = read_secret(values["hive.key_file"], "Hive's API key")
    config = Config(values, sources, hive_key)
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    if config["agent.kind"] == "command" and not config["agent.command"]:
        where = config.sources["agent.kind"]
        raise SettingError(where, "agent.command", [], 'agent.kind = "command" needs the program to run')
    _check_mesh(config)


def _check_mesh(config: Config) -> None:
    files = ("mesh.tls_certificate", "mesh.tls_key", "mesh.tls_ca")
    for key in (*files, "mesh.routers"):
        # What would go unheeded must not look as if it protected anything.
        if config[key] and config["mesh.engine"] != "zenoh":
            raise SettingError(config.sources[key], key, config[key], 'it needs mesh.engine = "zenoh"')
    given = [key for key in files if config[key]]
    for key in files:
        if given and not config[key]:
            raise SettingError(
                config.sources[given[0]], key, "", f"{given[0]} is set, so all of {', '.join(files)} are needed"
            )


def read_secret(path: str, what: str) -> str:
    """The secret in a file, without the line end.

    Raises:
        UsageError: it cannot be read, is empty, or is too large to be a secret; its content is never shown.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {what} cannot be read: {error.strerror}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise UsageError(f"{path}: {what} is larger than {SECRET_BYTES_MAX} bytes; is this the right file?")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: {what} is not text; is this the right file?") from None
    if not text or "\n" in text or not text.isprintable():
        raise UsageError(f"{path}: {what} must be one line of text")
    return text


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path}: larger than {FILE_BYTES_MAX} bytes; is this the right file?")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: the settings cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the settings are not UTF-8 text") from None
    try:
        value = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: the settings are not a table of sections such as [node]")
    return value


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and name not in _BY_KEY:
            found.update(_flatten(item, f"{name}."))
        else:
            found[name] = item
    return found


def _nearest(key: str) -> str:
    near = get_close_matches(key, _BY_KEY, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def describe() -> Sequence[Mapping[str, str]]:
    """Every setting as text, for help and documentation."""
    rows = []
    for setting in SETTINGS:
        default = setting.default
        shown = (
            ", ".join(default)
            if isinstance(default, tuple)
            else str(default).lower()
            if isinstance(default, bool)
            else str(default)
        )
        rows.append(
            {
                "key": setting.key,
                "default": "" if default in ((), {}, "") else shown,
                "env": setting.env,
                "meaning": setting.meaning,
            }
        )
    return rows

"""Settings: from where they come, and what is said when one is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bzzz.config import SETTINGS, describe, load, read_secret
from bzzz.config import value as form
from bzzz.errors import BzzzError, SettingError, UsageError

SECRET = "s3cret-Kq81-never-shown"
PEER = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWPeer"


def toml(folder: Path, text: str) -> Path:
    path = folder / "bzzz.toml"
    path.write_text(text)
    return path


def wrong(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


# --- where values come from -----------------------------------------------------------------------------


def test_without_anything_all_is_at_its_default() -> None:
    config = load(None, {})
    assert set(config.sources.values()) == {"default"}
    assert config["node.max_tasks"] == 1
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,63}", config.name)
    assert config.hive_key == ""


def test_the_environment_goes_before_the_file_and_flags_before_both(tmp_path: Path) -> None:
    path = toml(tmp_path, '[node]\nname = "file"\nspecialization = "file"\n[mesh]\nname = "file"\n')
    environment = {"BZZZ_AGENT_ID": "variable", "BZZZ_AGENT_SPECIALIZATION": "variable"}
    config = load(path, environment, {"node.name": "flag", "mesh.name": None})
    assert (config["node.name"], config["node.specialization"], config["mesh.name"]) == ("flag", "variable", "file")
    assert config.sources["node.name"] == "flag for node.name"
    assert config.sources["node.specialization"] == "environment variable BZZZ_AGENT_SPECIALIZATION"
    assert config.sources["mesh.name"] == str(path)


def test_an_empty_variable_is_as_none() -> None:
    assert load(None, {"BZZZ_AGENT_ID": ""}).sources["node.name"] == "default"


@pytest.mark.parametrize("key", ["hive.key_file", "mesh.secret_file", "forge.token_files", "node.data_dir"])
def test_no_agent_may_read_where_the_node_keeps_its_secrets(tmp_path: Path, key: str) -> None:
    """A link to the folder is the folder."""
    home, link = tmp_path / "home", tmp_path / "link"
    (home / "tools").mkdir(parents=True)
    link.symlink_to(home)
    secret = home / "kept" / "secret"
    secret.parent.mkdir()
    secret.write_text(SECRET)
    place: Any = {"git.example": str(secret)} if key == "forge.token_files" else str(secret)
    flags = {"node.data_dir": str(tmp_path / "data"), key: place}
    for folder in (home, link):
        assert "no agent may read" in wrong(None, {}, {**flags, "agent.readable": str(folder)})
    assert load(None, {}, {**flags, "agent.readable": str(home / "tools")})["agent.readable"]


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_yaml_and_toml_say_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bzzz{suffix}"
    path.write_text("node:\n  name: walnut\n  capabilities: [go, rust]\nmesh:\n  mdns: false\nhive:\n")
    other = toml(tmp_path, '[node]\nname = "walnut"\ncapabilities = ["go", "rust"]\n[mesh]\nmdns = false\n')
    assert load(path, {}).values == load(other, {}).values


def test_an_empty_file_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.toml"):
        (tmp_path / name).write_text("")
        assert load(tmp_path / name, {}).values == load(None, {}).values
    (tmp_path / "bom.toml").write_bytes(b'\xef\xbb\xbf[node]\nname = "walnut"\n')
    assert load(tmp_path / "bom.toml", {}).name == "walnut"


def test_the_predecessors_variables_work(tmp_path: Path) -> None:
    token = tmp_path / "token"
    environment = {
        "BZZZ_HIVE_API_URL": "http://hive.example:5000/",
        "BZZZ_HIVE_API_KEY": f" {SECRET}\n",
        "BZZZ_AGENT_ID": "walnut",
        "BZZZ_AGENT_CAPABILITIES": "code-generation, reasoning,",
        "BZZZ_AGENT_SPECIALIZATION": "code generation",
        "BZZZ_GITHUB_TOKEN_FILE": str(token),
        "BZZZ_MODEL_SELECTION_WEBHOOK": "http://n8n.example/webhook/models",
        "BZZZ_ESCALATION_WEBHOOK": "https://n8n.example/webhook/help?sig=1",
        "BZZZ_LOG_LEVEL": "WARN",
    }
    config = load(None, environment)
    assert config["hive.url"] == "http://hive.example:5000"
    assert config.hive_key == SECRET
    assert config.name == "walnut"
    assert config["node.capabilities"] == ("code-generation", "reasoning")
    assert config["node.specialization"] == "code generation"
    assert config["forge.token_file"] == str(token)
    assert config["hooks.model_selection_url"] == "http://n8n.example/webhook/models"
    assert config["hooks.escalation_url"] == "https://n8n.example/webhook/help?sig=1"
    assert config["node.log_level"] == "warning"
    assert SECRET not in repr(config)


def test_the_token_file_of_the_swarm_deployment_works_and_ours_goes_before_it() -> None:
    assert load(None, {"GITHUB_TOKEN_FILE": "/run/secrets/a"})["forge.token_file"] == "/run/secrets/a"
    both = {"GITHUB_TOKEN_FILE": "/run/secrets/a", "BZZZ_GITHUB_TOKEN_FILE": "/run/secrets/b"}
    assert load(None, both)["forge.token_file"] == "/run/secrets/b"


# --- what is wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("nod.name", "node.name"),
        ("node.max_task", "node.max_tasks"),
        ("hive.adress", None),
        ("mesh.peer", "mesh.peers"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(tmp_path: Path, key: str, near: str | None) -> None:
    section, _, name = key.partition(".")
    path = toml(tmp_path, f"[{section}]\n{name} = 1\n")
    text = wrong(path, {})
    assert text.startswith(f"{path}: {key} = 1 is not allowed; there is no such setting")
    if near is not None:
        assert text.endswith(f"did you mean {near}?")


WRONG_KINDS: list[Any] = [
    3.5,
    -1,
    10**30,
    True,
    "",
    "\x00",
    "a\nb",
    "x" * 5_000,
    [],
    [1],
    [[]],
    ["a\x00"],
    {},
    {"a": 1},
    {"a": {}},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_wrong_kind_of_value_names_file_key_value_and_what_is_allowed(tmp_path: Path, setting: Any) -> None:
    section, _, name = setting.key.partition(".")
    refused: list[SettingError] = []
    for value in WRONG_KINDS:
        path = tmp_path / "bzzz.yaml"
        path.write_text(json.dumps({section: {name: value}}))
        try:
            found = load(path, {})
        except SettingError as error:
            refused.append(error)
        else:
            assert type(found[setting.key]) is type(setting.default)
    assert len(refused) >= 8
    for told in refused:
        assert str(told).startswith(f"{path}: {setting.key} = ")
        assert told.allowed
        assert "\n" not in str(told)
        assert len(str(told)) < 500


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("node.name", "-x", "a letter or digit first"),
        ("node.max_tasks", 0, "from 1 to 64"),
        ("node.max_tasks", "many", "from 1 to 64"),
        ("node.log_level", "loud", "debug, info, warning, error"),
        ("node.data_dir", "", "a folder is needed"),
        ("hive.url", "hive.example", "http://host:8080"),
        ("hive.url", "http://:80", "http://host:8080"),
        ("hive.url", "http://hive:99999", "http://host:8080"),
        ("hive.url", "ftp://hive", "http://host:8080"),
        ("mesh.listen", [], "at least one"),
        ("mesh.listen", ["/dns/host/tcp/1"], "an IP"),
        ("mesh.listen", ["/ip4/1.2.3.4/tcp/99999"], "no address"),
        ("mesh.listen", ["/ip4/1.2.3/tcp/1"], "no address"),
        ("mesh.listen", ["/ip4/::1/tcp/1"], "no address"),
        ("mesh.peers", ["/dnsaddr/"], "/dnsaddr/mesh.example"),
        ("mesh.mdns", "perhaps", "true or false"),
        ("forge.token_files", {"https://git.example": "f"}, "git.example.org:3000"),
        ("forge.associations", ["FRIEND"], "COLLABORATOR"),
        ("forge.associations", [], "COLLABORATOR"),
        ("agent.kind", "model", "patch, command"),
        ("agent.network", "open", "none, host"),
        ("agent.readable", "relative/folder", "begin with / or ~"),
        ("agent.readable", "/", "not / itself"),
        ("agent.path", "bin:/usr/bin", "begin with / or ~"),
        ("agent.author_email", "nobody", "agents@example.org"),
        ("agent.environment", {"A B": "x"}, "NAME = text"),
        ("tasks.label", " ", "a label's name"),
        ("tasks.label", "a,b", "without a comma"),
        ("api.host", "0.0.0.0", "127.0.0.1"),
        ("api.port", 65_536, "from 0 to 65535"),
    ],
)
def test_what_is_allowed_is_said(key: str, value: Any, allowed: str) -> None:
    assert allowed in wrong(None, {}, {key: value})


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("node.max_tasks", "3", 3),
        ("mesh.mdns", "off", False),
        ("mesh.peers", f"{PEER}, {PEER}", (PEER, PEER)),
        ("mesh.listen", ["/ip6/::/tcp/0"], ("/ip6/::/tcp/0",)),
        (
            "forge.token_files",
            {"Git.Example:3000": "/f", "[::1]:80": "/g"},
            {"git.example:3000": "/f", "[::1]:80": "/g"},
        ),
        ("forge.associations", ["owner"], ("OWNER",)),
        ("node.name", "", ""),
    ],
)
def test_what_is_right_is_read(key: str, value: Any, read: Any) -> None:
    assert load(None, {}, {key: value})[key] == read


def test_a_home_folder_is_expanded_everywhere() -> None:
    home = os.path.expanduser("~")  # noqa: PTH111
    flags = {
        "hive.key_file": None,
        "forge.token_file": "~/t",
        "forge.token_files": {"a": "~/t"},
        "agent.environment_files": {"KEY": "~/t"},
    }
    config = load(None, {}, flags)
    assert config["forge.token_file"] == f"{home}/t"
    assert config["forge.token_files"] == {"a": f"{home}/t"}
    assert config["agent.environment_files"] == {"KEY": f"{home}/t"}
    assert config.data_dir == Path(home) / ".local/share/bzzz"


def test_a_command_agent_needs_its_command() -> None:
    assert "agent.command" in wrong(None, {"BZZZ_AGENT_KIND": "command"})


def test_a_wrong_variable_is_named() -> None:
    assert wrong(None, {"BZZZ_API_PORT": "x"}).startswith("environment variable BZZZ_API_PORT: api.port = 'x'")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", b"[node"),
        ("a.toml", b"node = 1\n[node]\n"),
        ("a.toml", b"\xff\xfe"),
        ("a.yaml", b"a: [1"),
        ("a.yaml", b"a: 2024-99-99"),
        ("a.yaml", b"[1, 2]"),
        ("a.yaml", b"just text"),
        ("a.yaml", b"!!python/object/apply:os.system [id]"),
        ("a.yaml", b"node: &a\n  x: *a\n"),
        ("a.yaml", b"? [1]\n: 2\n"),
        ("a.yaml", b"[" * 100_000),
        ("a.ini", b"[node]\n"),
        ("a.toml", b" " * 2_000_000),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert wrong(path, {}).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "No such file" in wrong(tmp_path / "none.toml", {})
    assert "cannot be read" in wrong(tmp_path, {})


# --- secrets --------------------------------------------------------------------------------------------


def test_a_secret_is_read_without_the_end_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\r\n")
    assert read_secret(str(path), "the token") == SECRET


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        f"{SECRET}\n{SECRET}\n".encode(),
        SECRET.encode() + b"\x00",
        b"\xff" + SECRET.encode(),
        SECRET.encode() * 10_000,
    ],
    ids=["empty", "blank", "two lines", "control", "binary", "large"],
)
def test_a_secret_file_that_is_wrong_is_named_and_never_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_secret(str(path), "the token")
    assert str(caught.value).startswith(f"{path}: the token ")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["missing", "folder", "endless"])
def test_a_secret_file_that_is_no_file_is_named(tmp_path: Path, place: str) -> None:
    path = {"missing": tmp_path / "none", "folder": tmp_path, "endless": Path("/dev/zero")}[place]
    with pytest.raises(UsageError, match=re.escape(str(path))):
        read_secret(str(path), "the token")


def test_a_token_in_the_place_of_its_file_is_not_shown() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ012345"  # an invented one
    with pytest.raises(UsageError) as caught:
        read_secret(token, "the token")
    assert token not in str(caught.value)
    assert "a file's name is needed" in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"hive.key": SECRET},
        {"forge.token": SECRET},
        {"forge.token_files": SECRET},
        {"agent.environment": [SECRET]},
        {"hive.url": f"http://user:{SECRET}@hive.example"},
        {"forge.tokens": {"github.com": SECRET}},
    ],
    ids=repr,
)
def test_a_secret_in_a_wrong_place_is_not_shown(flags: Mapping[str, Any]) -> None:
    wrong(None, {}, flags)


def test_a_parsers_error_does_not_show_what_stands_around_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {SECRET}\n  other: {SECRET}: x\n")
    assert "line 2" in wrong(path, {})


def test_hives_key_comes_from_the_nearest_of_its_places(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    path = toml(tmp_path, f'[hive]\nkey_file = "{tmp_path / "key"}"\n')
    assert load(path, {}).hive_key == "from-file"
    assert load(path, {"BZZZ_HIVE_API_KEY": "from-variable"}).hive_key == "from-variable"
    both = {"BZZZ_HIVE_API_KEY": "from-variable", "BZZZ_HIVE_API_KEY_FILE": str(tmp_path / "key")}
    assert load(None, both).hive_key == "from-file"


def test_hives_key_is_one_line(tmp_path: Path) -> None:
    assert "one line" in wrong(None, {"BZZZ_HIVE_API_KEY": f"{SECRET}\r\nX-Evil: {SECRET}"})
    assert "cannot be read" in wrong(None, {"BZZZ_HIVE_API_KEY_FILE": str(tmp_path / "none")})


# --- the table ------------------------------------------------------------------------------------------


def test_every_setting_has_one_name_one_variable_and_a_meaning() -> None:
    keys = [setting.key for setting in SETTINGS]
    variables = [setting.env for setting in SETTINGS if setting.env]
    assert len(set(keys)) == len(keys)
    assert len(set(variables)) == len(variables)
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", key) for key in keys)
    assert all(len(setting.meaning) > 10 and setting.meaning[-1] not in ".;" for setting in SETTINGS)


def test_every_setting_is_described_in_words() -> None:
    rows = describe()
    assert [row["key"] for row in rows] == [setting.key for setting in SETTINGS]
    assert all(isinstance(text, str) for row in rows for text in row.values())
    assert {row["key"]: row["default"] for row in rows}["forge.associations"] == "OWNER, MEMBER, COLLABORATOR"


def test_every_default_is_itself_allowed() -> None:
    for setting in SETTINGS:
        assert load(None, {}, {setting.key: setting.default}) is not None


def test_a_variable_in_a_files_name_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    assert form.path("${CREDENTIALS_DIRECTORY}/key") == "/run/credentials/key"


def test_all_errors_are_ours() -> None:
    assert issubclass(SettingError, BzzzError)

"""``bzzz mesh``: make a mesh, hand it over in one line, revoke a peer; and what a node then takes from it.

It speaks for bzzz.cli.mesh.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from bzzz.cli.compose_mesh import mesh_settings
from bzzz.cli.main import main
from bzzz.config import Config, load
from bzzz.errors import SettingError, TransportError

PEER = "12D3KooWFx9NW7SKzZzhKspqSDtKbQPnHwaRxHPwxEhqDEdcSfB1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``bzzz mesh`` for one of several machines; gives status, output and errors."""

    def run(*words: str, machine: str = "here", piped: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(piped))
        with pytest.raises(SystemExit) as ended:
            main(["mesh", *words, "--data-dir", str(tmp_path / machine)])
        out, err = capsys.readouterr()
        status = ended.value.code
        return (status if isinstance(status, int) else 0), out.strip(), err.strip()

    return run


def config(tmp_path: Path, machine: str = "here", **flags: object) -> Config:
    return load(None, {}, {"node.data_dir": str(tmp_path / machine), **flags})


def test_a_mesh_is_made_handed_over_in_a_line_and_joined(run: Run, tmp_path: Path) -> None:
    assert run("init", "--name", "home")[0] == 0
    status, line, _ = run("invite", "--address", "/dns4/seed.example/tcp/4001")
    assert status == 0
    assert run("join", machine="there", piped=line + "\n")[0] == 0
    here, there = mesh_settings(config(tmp_path)), mesh_settings(config(tmp_path, "there"))
    assert here.mesh_name == there.mesh_name == "home"
    assert here.secret_file == tmp_path / "here" / "mesh.secret"
    assert there.static_peers == ("/dns4/seed.example/tcp/4001",)
    assert (tmp_path / "there" / "mesh.secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "there" / "mesh.secret").read_text() == line + "\n"


def test_a_line_given_as_an_argument_is_taken_too(run: Run) -> None:
    run("init")
    _, line, told = run("invite")
    assert "no node runs here" in told
    assert "@" not in line
    assert run("join", line, machine="there")[0] == 0
    assert run("show", machine="there")[1] == "mesh bzzz: open to whoever knows its secret"


def test_a_secret_that_is_there_is_replaced_only_if_that_is_said(run: Run, tmp_path: Path) -> None:
    run("init")
    before = (tmp_path / "here" / "mesh.secret").read_text()
    status, _, told = run("init")
    assert status == 2
    assert "this node has a mesh already; --replace" in told
    assert (tmp_path / "here" / "mesh.secret").read_text() == before
    assert run("init", "--replace")[0] == 0
    assert (tmp_path / "here" / "mesh.secret").read_text() != before


@pytest.mark.parametrize("line", ["", "hello", "bzzz-mesh:1:home:" + "A" * 43 + ":00000000", "x" * 10_000])
def test_what_is_no_invitation_is_one_clear_line(run: Run, tmp_path: Path, line: str) -> None:
    status, out, told = run("join", piped=line + "\n")
    assert (status, out) == (2, "")
    assert "invitation" in told
    assert "\n" not in told
    assert not (tmp_path / "here" / "mesh.secret").exists()


def test_a_peer_is_revoked_shown_and_let_in_again(run: Run, tmp_path: Path) -> None:
    assert run("revoke", PEER)[0] == 0
    assert "already revoked" in run("revoke", PEER)[1]
    assert f"revoked: {PEER}" in run("show")[1]
    assert mesh_settings(config(tmp_path)).revoked_file == tmp_path / "here" / "revoked_peers"
    assert "no longer revoked" in run("revoke", PEER, "--undo")[1]
    assert PEER not in run("show", "--json")[1]
    status, _, told = run("revoke", "somebody")
    assert status == 2
    assert "'somebody' is no peer id" in told


def test_an_open_mesh_is_said_to_be_one(run: Run) -> None:
    assert run("show")[1].startswith("mesh bzzz: open to anybody")


def test_a_named_secret_must_be_there_and_agree_with_a_named_mesh(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="bzzz mesh init"):
        mesh_settings(config(tmp_path, **{"mesh.secret_file": str(tmp_path / "none")}))
    run("init", "--name", "home")
    # It is the transport that refuses: a name set by hand is never overruled in silence.
    assert mesh_settings(config(tmp_path, **{"mesh.name": "away"})).mesh_name == "away"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mesh.peers", "/ip4/192.0.2.7"),
        ("mesh.peers", "/dnsaddr/a/tcp/1"),
        ("mesh.listen", "/dns/name/tcp/1"),
        ("mesh.allowed_peers", "somebody"),
        ("mesh.dns", "perhaps"),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: str) -> None:
    with pytest.raises(SettingError, match=key):
        load(None, {}, {key: value})


def test_peers_are_set_by_address_name_or_record(tmp_path: Path) -> None:
    peers = f"/ip4/192.0.2.7/tcp/1,/dns/seed.example/tcp/1/p2p/{PEER},/dnsaddr/mesh.example"
    found = mesh_settings(config(tmp_path, **{"mesh.peers": peers, "mesh.allowed_peers": PEER, "mesh.dns": "off"}))
    assert found.static_peers == tuple(peers.split(","))
    assert found.allowed_peers == (PEER,)
    assert not found.dns

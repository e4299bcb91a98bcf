"""Which engine carries the mesh: the settings for it, and what they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bzzz.cli.compose import compose_node
from bzzz.config import load
from bzzz.errors import SettingError
from bzzz.mesh.libp2p_transport import Libp2pTransport
from bzzz.mesh.zenoh_transport import ZenohTransport
from bzzz.ports import Transport

TLS = {"mesh.tls_certificate": "own.pem", "mesh.tls_key": "own.key", "mesh.tls_ca": "ca.pem"}


def composed(folder: Path, **flags: object) -> Transport:
    config = load(None, {}, {"node.data_dir": str(folder), "mesh.listen": "/ip4/127.0.0.1/tcp/0", **flags})
    made = compose_node(config, lambda _: None)
    made.journal.close()
    return made.transport


def test_libp2p_is_the_engine_unless_another_is_chosen(tmp_path: Path) -> None:
    assert isinstance(composed(tmp_path), Libp2pTransport)


def test_one_setting_chooses_zenoh_and_keeps_the_node_who_it_is(tmp_path: Path) -> None:
    before = composed(tmp_path).peer_id
    after = composed(tmp_path, **{"mesh.engine": "zenoh", "mesh.routers": "/ip4/192.0.2.1/tcp/7447", **TLS})
    assert isinstance(after, ZenohTransport)
    assert after.peer_id == before


def test_an_engine_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"mesh\.engine = 'carrier pigeon' .*libp2p, zenoh"):
        load(None, {}, {"mesh.engine": "carrier pigeon"})


@pytest.mark.parametrize(("key", "value"), [*TLS.items(), ("mesh.routers", "/ip4/192.0.2.1/tcp/7447")])
def test_a_setting_of_zenoh_is_refused_where_libp2p_would_not_heed_it(key: str, value: str) -> None:
    with pytest.raises(SettingError, match=f'{key}.*mesh.engine = "zenoh"'):
        load(None, {}, {key: value})


@pytest.mark.parametrize("left_out", TLS)
def test_certificate_key_and_authority_are_set_together_or_not_at_all(left_out: str) -> None:
    given = {key: value for key, value in TLS.items() if key != left_out}
    with pytest.raises(SettingError, match=f"{left_out} = ''.*all of"):
        load(None, {}, {"mesh.engine": "zenoh", **given})

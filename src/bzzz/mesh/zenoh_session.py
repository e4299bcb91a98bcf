# mypy: disallow-untyped-calls=false
"""Opening sessions of Zenoh: its errors as this program's, and ports that are known before they are listened on."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import zenoh

from bzzz.errors import TransportError
from bzzz.mesh.address import Address, expand_wildcard, parse_address
from bzzz.mesh.interface import read_own_ips
from bzzz.mesh.zenoh_endpoint import address_of_endpoint
from bzzz.mesh.zenoh_settings import TlsFiles


def open_session(entries: Mapping[str, Any]) -> zenoh.Session:
    """Open a session with these entries of Zenoh's configuration.

    Raises:
        TransportError: an entry is wrong, or the session cannot be opened.
    """
    config = zenoh.Config()
    try:
        for key, value in entries.items():
            config.insert_json5(key, json.dumps(value))
        return zenoh.open(config)
    except zenoh.ZError as error:
        raise TransportError(f"the mesh engine did not start: {one_line(error)}") from None


def check_readable(files: TlsFiles) -> None:
    """See that certificate files are there, which Zenoh would complain of without naming the one.

    Raises:
        TransportError: one cannot be read.
    """
    for path in (files.certificate, files.key, files.authority):
        try:
            path.open("rb").close()
        except OSError as error:
            raise TransportError(f"mesh certificate file {path}: {error.strerror or error}") from None


def remote_ip_of(session: zenoh.Session, zid: str) -> str | None:
    """The IP at the other end of a session's connection to another session, where it has one."""
    with contextlib.suppress(zenoh.ZError):
        for link in session.info.links():
            if str(link.zid) == zid and (address := address_of_endpoint(link.dst)) is not None:
                return address.host
    return None


def reserve(listen: Sequence[str], reserved: contextlib.ExitStack) -> tuple[Address, ...]:
    """Concrete addresses with ports that are ours until ``reserved`` ends.

    Zenoh does not tell which free port it took. A socket that is bound and does not listen keeps all others away
    but lets Zenoh in, as both allow the address to be used again.

    Raises:
        TransportError: a port is taken, or an address is none of this host's or no IP.
    """
    found = []
    for text in listen:
        for address in expand_wildcard(parse_address(text).bare(), read_own_ips()):
            if not address.is_ip:
                raise TransportError(f"cannot listen on {address}: an IP address is needed, not a name")
            family = socket.AF_INET if address.kind == "ip4" else socket.AF_INET6
            holder = reserved.enter_context(socket.socket(family))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind((address.host, address.port))
            except OSError as error:
                raise TransportError(f"cannot listen on {address}: {error.strerror}; set mesh.listen") from None
            found.append(Address(address.kind, address.host, holder.getsockname()[1]))
    if not found:
        raise TransportError(f"cannot listen on {', '.join(listen) or 'no address'}; set mesh.listen")
    return tuple(found)


def one_line(error: Exception) -> str:
    """What an error says, fit for a line."""
    return " ".join(str(error).split())[:300]

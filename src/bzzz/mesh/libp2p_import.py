"""Leaves parts of the library out of a node: importing all of libp2p 0.8.1 takes a node half of its start.

``import libp2p`` brings in QUIC, WebSocket, TLS with its certificates by ACME, secio, relays, the DHT, its own
discovery and peer stores on disk: half a thousand modules that a node of this mesh never calls. Each name below
stands for such a part: whoever imports it finds an empty module, each name of which is a class without instances.
To be called before anything of the library is imported; what was imported already stays as it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from bzzz.mesh.libp2p_version import require_libp2p

LEFT_OUT = (
    # Other transports: the mesh is TCP alone. QUIC brings in aioquic and OpenSSL.
    "libp2p.transport.quic",
    "libp2p.transport.websocket",
    # Other encryption: Noise alone. TLS brings in requests and a client of certificate authorities.
    "libp2p.security.tls",
    "libp2p.security.secio",
    # Ways to find and reach peers that the mesh has its own of.
    "libp2p.relay",
    "libp2p.kad_dht",
    "libp2p.discovery",
    # Peer stores on disk.
    "libp2p.peer.persistent",
    # Metrics on a port of their own, which brings in a web server; this node's are told by its local API.
    "prometheus_client",
    # Looks names up; the mesh does that itself, in ``name_resolver``. Brings in all of dnspython.
    "multiaddr.resolvers",
)


def leave_out() -> None:
    """Make the parts above empty for the whole program; a second call does nothing.

    Raises:
        TransportError: another version of libp2p is installed than the one whose parts these are.
    """
    require_libp2p()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for each name that is left out, and for all below it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """The empty module's specification, or ``None`` for every other name."""
        if any(fullname == name or fullname.startswith(f"{name}.") for name in LEFT_OUT):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one."""
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


class _Empty(ModuleType):
    """A module that has every name: a class to derive from, to catch and to compare with, that nothing is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (Exception,), {"__module__": self.__name__})
        setattr(self, name, found)
        return found

"""The one version of libp2p that this mesh is made for; checked before anything of it is imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from bzzz.errors import TransportError

LIBP2P_VERSION = "0.8.1"


def require_libp2p() -> None:
    """Make sure of the version, for what is changed in the library rests on its inner names.

    Raises:
        TransportError: libp2p is not installed, or another version of it.
    """
    try:
        found = version("libp2p")
    except PackageNotFoundError:
        found = None
    if found != LIBP2P_VERSION:
        what = f"libp2p {found} is installed" if found else "libp2p is not installed"
        raise TransportError(f"{what}, but the mesh needs version {LIBP2P_VERSION}; install from the lock file")

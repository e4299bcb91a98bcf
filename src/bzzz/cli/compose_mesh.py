"""From settings to a mesh: which secret, which files, which of the mesh's own settings."""

from __future__ import annotations

from pathlib import Path

from bzzz.config import Config
from bzzz.mesh.mesh_secret import load_secret
from bzzz.mesh.settings import MeshSettings

SECRET_FILE = "mesh.secret"  # noqa: S105 - the name of a file
REVOKED_FILE = "revoked_peers"
IDENTITY_FILE = "identity.key"


def secret_path(config: Config) -> Path:
    """Where the mesh's secret is, or would be."""
    return Path(config["mesh.secret_file"] or config.data_dir / SECRET_FILE)


def revoked_path(config: Config) -> Path:
    """Where the revoked peers are, or would be."""
    return Path(config["mesh.revoked_file"] or config.data_dir / REVOKED_FILE)


def mesh_settings(config: Config) -> MeshSettings:
    """The settings of this node's mesh.

    The mesh's name and the addresses of an invitation come from the secret's file, where there is one; a name
    that was set by hand must agree with it.

    Raises:
        TransportError: the secret cannot be read, others may read it, or it is none.
    """
    path = secret_path(config)
    # One that is named must be there; without one the mesh is open, which must not happen by a slip.
    secret = load_secret(path) if config["mesh.secret_file"] or path.exists() else None
    name = config["mesh.name"]
    peers = config["mesh.peers"]
    if secret is not None:
        name = secret.name if config.sources["mesh.name"] == "default" else name
        peers = (*peers, *(address for address in secret.addresses if address not in peers))
    return MeshSettings(
        identity_file=config.data_dir / IDENTITY_FILE,
        listen=config["mesh.listen"],
        static_peers=peers,
        mesh_name=name,
        secret_file=path if secret is not None else None,
        allowed_peers=config["mesh.allowed_peers"],
        revoked_file=revoked_path(config),
        mdns=config["mesh.mdns"],
        dns=config["mesh.dns"],
        gossip_addresses=config["mesh.gossip_addresses"],
    )

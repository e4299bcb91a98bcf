"""The secret that the nodes of one mesh share, as a file holds it and as one line hands it over.

``bzzz-mesh:1:NAME:SECRET:CHECK``, then perhaps ``@`` and addresses with commas between: the mesh's name, 32 random
bytes in URL-safe base64, and eight hex digits that find a slip of the hand. The addresses tell whoever is invited
where the mesh is. Whoever has the line is in; it is made by nobody but ``new_secret``, for a secret that a person
thought up could be guessed from one listened-to proof.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from bzzz.errors import TransportError
from bzzz.mesh.address import PEER_ADDRESSES_MAX, parse_wanted
from bzzz.mesh.private_file import read_private, write_private

SECRET_BYTES = 32
INVITATION_CHARS_MAX = 4_096
MESH_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_FORM = re.compile(rf"bzzz-mesh:1:({MESH_NAME_PATTERN}):([A-Za-z0-9_-]{{43}}):([0-9a-f]{{8}})(?:@(\S+))?\Z")


@dataclass(frozen=True, slots=True)
class MeshSecret:
    """A mesh's name and secret, and addresses of nodes that are in it."""

    name: str
    secret: bytes = field(repr=False)
    addresses: tuple[str, ...] = ()

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; from one of them neither the secret nor another key can be told."""
        return hmac.digest(self.secret, b"bzzz mesh 1\0" + purpose.encode() + b"\0" + self.name.encode(), "sha256")

    def line(self) -> str:
        """The invitation."""
        told = f"@{','.join(self.addresses)}" if self.addresses else ""
        return f"bzzz-mesh:1:{self.name}:{_encoded(self.secret)}:{_check(self.name, self.secret)}{told}"

    def at(self, addresses: tuple[str, ...]) -> MeshSecret:
        """The same, telling these addresses."""
        return replace(self, addresses=addresses[:PEER_ADDRESSES_MAX])


def new_secret(name: str) -> MeshSecret:
    """A new mesh.

    Raises:
        ValueError: ``name`` is none.
    """
    if not re.fullmatch(MESH_NAME_PATTERN, name):
        raise ValueError("letters, digits, '.', '_' and '-' are allowed, 63 at most, a letter or digit first")
    return MeshSecret(name, secrets.token_bytes(SECRET_BYTES))


def read_line(line: str) -> MeshSecret:
    """Read an invitation.

    Raises:
        ValueError: it is none; the message does not repeat it.
    """
    text = line.strip()
    found = _FORM.match(text) if len(text) <= INVITATION_CHARS_MAX else None
    if found is None:
        raise ValueError("this is no invitation to a mesh; one begins with bzzz-mesh:1: and is one line")
    name, encoded, check, told = found.groups()
    try:
        secret = base64.urlsafe_b64decode(encoded + "=")
    except binascii.Error:
        secret = b""
    # Two texts could stand for the same bytes: the last character has bits to spare.
    if _encoded(secret) != encoded or not hmac.compare_digest(_check(name, secret), check):
        raise ValueError("this invitation was changed on its way: a character is wrong; hand it over again")
    addresses = tuple(told.split(",")) if told else ()
    for address in addresses:
        parse_wanted(address)
    return MeshSecret(name, secret).at(addresses)


def load_secret(path: Path) -> MeshSecret:
    """Read the file that ``bzzz mesh init`` or ``bzzz mesh join`` wrote.

    Raises:
        TransportError: it is not there, others may read it, or it holds something else.
    """
    try:
        text = read_private(path, "mesh secret").decode("ascii", "replace")
        return read_line(text)
    except OSError as error:
        raise TransportError(
            f"mesh secret {path}: {error.strerror or error}; make one with 'bzzz mesh init', "
            "or join a mesh with 'bzzz mesh join'"
        ) from None
    except ValueError as error:
        raise TransportError(f"mesh secret {path}: {error}") from None


def save_secret(path: Path, secret: MeshSecret, *, replace: bool = False) -> bool:
    """Write the file; without ``replace`` one that is there stays, and the answer is ``False``.

    Raises:
        OSError: it cannot be written.
    """
    return write_private(path, secret.line().encode() + b"\n", replace=replace)


def _encoded(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).decode().rstrip("=")


def _check(name: str, secret: bytes) -> str:
    return hashlib.sha256(b"bzzz mesh check\0" + name.encode() + b"\0" + secret).hexdigest()[:8]

"""Asks the system's resolver for the addresses and the texts of a name.

Addresses are asked of the system (``getaddrinfo``), so that a hosts file, Docker's own server and search domains
count as they do for every other program; texts of the servers that the system is set to use, which it has no
call for. Whoever uses this bounds the time and the number of what comes back.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


class Resolver(Protocol):
    """What knows the addresses and texts of names."""

    async def addresses(self, kind: str, name: str) -> list[str]:
        """IP addresses of ``name``: IPv4 for the kind ``dns4``, IPv6 for ``dns6``, all for ``dns``.

        Raises:
            OSError: there is no such name, or nobody answers.
        """
        ...

    async def texts(self, name: str) -> list[str]:
        """Texts (TXT records) of ``name``, each put together.

        Raises:
            OSError: there is no such name, or nobody answers.
        """
        ...


class SystemResolver:
    """The resolver of this machine."""

    async def addresses(self, kind: str, name: str) -> list[str]:
        """IP addresses of ``name``, each once."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                name, None, family=_FAMILIES[kind], type=socket.SOCK_STREAM
            )
        except UnicodeError:
            raise OSError("this cannot be a name: a part of it is too long") from None
        # A link-local address has a zone that means something here alone.
        return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))

    async def texts(self, name: str) -> list[str]:
        """Texts of ``name``."""
        # Here, as it takes a third of a second to import, and most nodes never need it.
        import dns.asyncresolver  # noqa: PLC0415
        import dns.exception  # noqa: PLC0415

        try:
            answer = await dns.asyncresolver.resolve(name, "TXT", search=True)
        except dns.exception.DNSException as error:
            raise OSError(" ".join(str(error).split())[:200] or type(error).__name__) from None
        return [b"".join(record.strings).decode("ascii", "replace") for record in answer]

"""Check a peer by connecting to where it listens, apart from any connection there is.

The kernel answers for a process, so a stopped (not dead) process answers: that is wanted, for a paused
holder's work must not be taken away. It keeps answering until its accept queue, of 128 places, is full of probes.
"""

from __future__ import annotations

import asyncio
import socket

from bzzz.errors import TransportError
from bzzz.mesh.address import Address, parse_address
from bzzz.ports import Probe

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


async def probe_address(text: str, timeout_s: float) -> Probe:
    """One plain TCP connection to a multiaddress, closed at once.

    Returns:
        ``ANSWERED`` if it was made; ``REFUSED`` if the host says nobody listens there (where a name has
        several addresses, all must refuse); ``SILENT`` if there was no answer or no way.

    Raises:
        TransportError: ``text`` is not a multiaddress.
    """
    try:
        address = parse_address(text)
    except ValueError as error:
        raise TransportError(f"cannot probe: {error}") from None
    refused = False
    try:
        async with asyncio.timeout(timeout_s):
            for host in await _hosts(address):
                try:
                    _, writer = await asyncio.open_connection(host, address.port)
                except ConnectionRefusedError:
                    refused = True
                    continue
                except OSError:
                    return Probe.SILENT
                writer.transport.abort()
                return Probe.ANSWERED
    except (TimeoutError, OSError):
        return Probe.SILENT
    return Probe.REFUSED if refused else Probe.SILENT


async def _hosts(address: Address) -> list[str]:
    if address.is_ip:
        return [address.host]
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, family=_FAMILIES[address.kind], type=socket.SOCK_STREAM
    )
    return [str(entry[4][0]) for entry in found]

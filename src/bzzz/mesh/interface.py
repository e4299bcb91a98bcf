"""This host's IP addresses, read from the system."""

from __future__ import annotations

import ipaddress
import socket

import psutil


def read_own_ips() -> frozenset[str]:
    """The IPv4 and IPv6 addresses of all interfaces, loopback included, without IPv6 zones."""
    found = set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in {socket.AF_INET, socket.AF_INET6}:
                found.add(str(ipaddress.ip_address(address.address.partition("%")[0])))
    return frozenset(found)

"""Hosts of a routed network, each a network namespace: they reach each other, and no multicast passes between them.

As in an overlay or a cloud network. One namespace routes; each host is joined to it by a link and a network of its
own. Made with iproute2 by root; nothing of the machine's own network is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

HOSTS_FILES = Path("/etc/netns")
POSSIBLE = shutil.which("ip") is not None and os.geteuid() == 0
"""Whether namespaces can be made here. Tests that need them are parametrized over what is possible: elsewhere over
nothing, and CI runs them as root."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class RoutedNetwork:
    """Hosts with the addresses 10.83.<number>.2, number from 0; names are added to each one's hosts file.

    Args:
        label: makes the namespaces' names unique.
        hosts: how many.
        names: host names with the addresses they stand for.
    """

    def __init__(self, label: str, hosts: int, names: Mapping[str, list[str]]) -> None:
        self._router = f"bz{label}r"
        self._hosts = [f"bz{label}{number}" for number in range(hosts)]
        self._names = names
        self._made: list[str] = []

    def address(self, number: int) -> str:
        return f"10.83.{number}.2"

    def prefix(self, number: int) -> tuple[str, ...]:
        """What to put before a command to run it on a host."""
        return ("ip", "netns", "exec", self._hosts[number])

    def __enter__(self) -> RoutedNetwork:
        try:
            self._make(self._router)
            for number, host in enumerate(self._hosts):
                self._make(host)
                self._join(number, host)
            subprocess.run(
                ["ip", "netns", "exec", self._router, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            shutil.rmtree(HOSTS_FILES / name, ignore_errors=True)
        self._made.clear()

    def _make(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        lines = ["127.0.0.1 localhost", *(f"{ip} {known}" for known, ips in self._names.items() for ip in ips)]
        folder = HOSTS_FILES / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text("\n".join(lines) + "\n")

    def _join(self, number: int, host: str) -> None:
        near, far = f"{host}a", f"{host}b"
        _ip("link", "add", near, "netns", host, "type", "veth", "peer", "name", far, "netns", self._router)
        for namespace, link, address in ((host, near, "2"), (self._router, far, "1")):
            _ip("-n", namespace, "addr", "add", f"10.83.{number}.{address}/24", "dev", link)
            _ip("-n", namespace, "link", "set", link, "up")
        _ip("-n", host, "route", "add", "default", "via", f"10.83.{number}.1")

    def cut(self, number: int) -> None:
        """Take a host off the network; nobody is told. What is sent to it is lost, as with a pulled cable."""
        _ip("-n", self._router, "link", "set", f"{self._hosts[number]}b", "down")

    def mend(self, number: int) -> None:
        """Put it back."""
        _ip("-n", self._router, "link", "set", f"{self._hosts[number]}b", "up")

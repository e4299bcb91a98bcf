"""The box an agent and a check run in. The box is the boundary; an agent's own permissions are not.

``bubblewrap`` gives a process its own user, process, network, ipc and host-name namespaces, a read-only
system, fresh ``/tmp`` and ``/run``, HOME at ``/home/agent``, the work tree at ``/bzzz/work``, and nothing else
of this machine: no node folder, no other work tree, no host git directory. ``none`` is no box at all: the
agent can do whatever this user can; it is used only where a person wrote that word, and every attempt says so.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bzzz.agents.child import Launch
from bzzz.agents.setting import AgentSettings
from bzzz.errors import AgentError

PROBE_S_MAX = 10.0
LINKS_MAX = 40
"""As many as Linux follows of one name: path_resolution(7)."""
PATH_DEFAULT = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

_SYSTEM = ("/usr", "/opt", "/nix/store")
_LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "fonts", "hosts", "java", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "resolv.conf",
    "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
_ADVICE = (
    'install bubblewrap (Debian: apt-get install bubblewrap), or set agent.sandbox = "none" to run without a box'
)


@dataclass(frozen=True, slots=True)
class Box:
    """What is inside: ``tree`` and ``home`` writable, ``read_only`` readable under their own names."""

    tree: Path
    home: Path
    read_only: tuple[Path, ...]
    environment: Mapping[str, str]


class Sandbox(Protocol):
    """Turns a program into one that is confined to a box."""

    @property
    def name(self) -> str:
        """The word that chooses it."""
        ...

    @property
    def warning(self) -> str:
        """What an attempt in it has to say aloud; empty where there is nothing."""
        ...

    def wrap(self, box: Box, argv: tuple[str, ...]) -> Launch:
        """What to execute so that ``argv`` runs in the box, at the top of the tree."""
        ...

    def shows(self, path: Path) -> bool:
        """Whether a program of this machine can be seen from inside."""
        ...


class NoSandbox:
    """No box."""

    name = "none"
    warning = "NO SANDBOX: the agent can read and change everything that this user can (agent.sandbox = none)"

    def wrap(self, box: Box, argv: tuple[str, ...]) -> Launch:
        """As it is, with its cleared environment and a HOME of its own."""
        return Launch(argv, {**box.environment, "HOME": str(box.home)}, box.tree)

    def shows(self, path: Path) -> bool:
        """Everything."""
        return path.exists()


class Bubblewrap:
    """A box by bubblewrap(1)."""

    name = "bubblewrap"
    HOME = "/home/agent"
    WORK = "/bzzz/work"  # a name that no folder of this machine is likely to have

    def __init__(self, program: str, *, paths: tuple[Path, ...], network: bool) -> None:
        self._program = program
        self._network = network
        # The worker runs without site, so that sys.prefix does not tell of a virtual environment there.
        own = Path(sys.executable).parent.parent
        self._paths = tuple(dict.fromkeys([*paths, Path(sys.base_prefix), own]))
        # A virtual environment's Python may lead to the real one by way of a folder that is not in the box, such as
        # one for a user's programs.
        self._links = tuple(link for link in _links(Path(sys.executable)) if not self._is_bound(link))

    @property
    def warning(self) -> str:
        """An open network is worth saying."""
        return "the sandbox has this machine's network (agent.network = host)" if self._network else ""

    def wrap(self, box: Box, argv: tuple[str, ...]) -> Launch:
        """The bubblewrap command; the environment is inherited from it, so no value is in its arguments."""
        command = [
            self._program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
            "--unshare-cgroup-try", "--hostname", "bzzz", "--uid", "1000", "--gid", "1000",
            "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/home",  # noqa: S108
            "--tmpfs", "/var/tmp",  # noqa: S108 - all of these are inside the box
        ]  # fmt: skip
        if not self._network:
            command.append("--unshare-net")
        for name in _LINKED:
            path = Path(name)
            if path.is_symlink():
                command += ["--symlink", str(path.readlink()), name]
            elif path.exists():
                command += ["--ro-bind", name, name]
        for path in self._visible():
            command += ["--ro-bind-try", str(path), str(path)]
        for path in self._links:
            command += ["--symlink", str(path.readlink()), str(path)]
        for path in box.read_only:
            command += ["--ro-bind", str(path), str(path)]
        command += ["--bind", str(box.home), self.HOME, "--bind", str(box.tree), self.WORK]
        command += ["--remount-ro", "/", "--chdir", self.WORK]
        environment = {**box.environment, "HOME": self.HOME, "USER": "agent", "LOGNAME": "agent", "TMPDIR": "/tmp"}  # noqa: S108
        return Launch((*command, "--", *argv), environment, box.tree, monitor="bwrap")

    def _visible(self) -> list[Path]:
        etc = [Path("/etc") / name for name in _ETC]
        return [Path(name) for name in _SYSTEM] + etc + [path for path in self._paths if path != Path("/")]

    def shows(self, path: Path) -> bool:
        """Only what lies in a folder that is bound, as does all that it leads to."""
        way = (path, *_links(path), path.resolve())
        return path.exists() and all(each in self._links or self._is_bound(each) for each in way)

    def _is_bound(self, path: Path) -> bool:
        roots = [*self._visible(), *(Path(name) for name in _LINKED)]
        return any(path.is_relative_to(root) for root in roots)


def _links(path: Path) -> list[Path]:
    """The symbolic links that lead from a file to what it is, each at its own place."""
    found: list[Path] = []
    while path.is_symlink() and len(found) < LINKS_MAX:
        found.append(path)
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return found


@functools.cache
def probe(program: str) -> str:
    """Why bubblewrap does not work here; empty where it does. Asked once a process."""
    box = Bubblewrap(program, paths=(), network=False)
    launch = box.wrap(Box(Path("/usr"), Path("/usr"), (), {}), ("true",))
    # The trial needs no writable folder, and must not get one of the system's.
    argv = ["--ro-bind" if word == "--bind" else word for word in launch.argv]
    try:
        done = subprocess.run(
            argv, env={"PATH": PATH_DEFAULT}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=PROBE_S_MAX, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip() or "it failed"


def choose(settings: AgentSettings, *, probed: bool = False) -> Sandbox:
    """The sandbox that the settings name; where ``probed``, somebody has found that it works.

    Raises:
        AgentError: it does not work here; says why and what to do.
    """
    if settings.sandbox == "none":
        return NoSandbox()
    if settings.sandbox not in {"auto", "bubblewrap"}:
        raise AgentError(f"agent.sandbox = {settings.sandbox!r} is not one of auto, bubblewrap, none")
    program = shutil.which("bwrap")
    if program is None:
        raise AgentError(f"no agent is run without a sandbox, and bubblewrap is not installed: {_ADVICE}")
    trouble = "" if probed else probe(program)
    if trouble:
        raise AgentError(
            f"no agent is run without a sandbox, and {program} does not work here ({trouble}): {_ADVICE}"
        )
    return Bubblewrap(program, paths=settings.sandbox_paths, network=settings.network == "host")


def environment(settings: AgentSettings, marks: Mapping[str, str]) -> dict[str, str]:
    """The environment inside, before an agent's own: nothing of the node's but the marks of the attempt."""
    path = settings.path or f"{PATH_DEFAULT}:{Path(sys.executable).parent}"
    return {"PATH": path, "LANG": "C.UTF-8", "TERM": "dumb", "CI": "1", **marks}

"""Make or renew the virtual environment in ``.venv``, from the lock alone.

Called by ``setup.sh`` with a Python that is new enough; uses the standard library only. It promises that every
package is one that the lock names by hash, that nothing is compiled where a wheel exists, and that an
environment that fits is left alone. A failure ends in one line that says what to do; all that pip said is then in
``.venv/setup.log``. Which index packages come from is pip's own setting, and is left to it.

The stamp in ``.venv`` tells what the environment was made from: where it is (an environment cannot be moved), the
Python, the lock, and ``pyproject.toml``. Where only the last differs, only the project itself is installed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "stamp.json"
LOG = VENV / "setup.log"
LOCK = ROOT / "requirements" / "lock.txt"

# The build tool comes first: two packages of the lock exist as pure Python sources only, and the project itself
# is built without isolation, so that nothing outside the lock is ever fetched.
BUILD_TOOL = "setuptools"

# Settings of a user's pip that would put packages elsewhere, or change which are taken.
MISLEADING = (
    "PIP_CONSTRAINT",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PREFIX",
    "PIP_REQUIRE_HASHES",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
)

ADVICE = (
    ("No space left on device", "the disk is full; free about 500 MB"),
    (
        "DO NOT MATCH THE HASHES",
        "a package differs from what the lock names: do not use it, and tell the maintainers",
    ),
    ("Permission denied", "this folder cannot be written; make it yours, or clone elsewhere"),
    ("Failed to establish a new connection", "no package index answers; check the network and `pip config list`"),
    ("NewConnectionError", "no package index answers; check the network and `pip config list`"),
    ("ConnectTimeout", "no package index answers; check the network and `pip config list`"),
    ("SSLError", "the package index's certificate is not trusted; check `pip config list` and PIP_CERT"),
    (
        "No matching distribution",
        "no package index answers, or it lacks a package; check the network and `pip config list`",
    ),
    ("command 'gcc' failed", "no ready-made package fits this machine; install a C compiler"),
    ("command 'cc' failed", "no ready-made package fits this machine; install a C compiler"),
)


class SetupError(Exception):
    """The environment could not be made; the message is one line for a person."""


def requirements(lock: str) -> dict[str, str]:
    """Split a lock into its requirements: the package's name, and its lines as they stand."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return {re.split(r"[=\[; ]", block, maxsplit=1)[0].lower(): block for block in blocks if "==" in block}


def wanted(version: str) -> dict[str, str]:
    """What the stamp says of an environment that fits."""
    return {
        "folder": str(ROOT),
        "python": version,
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
    }


def found() -> dict[str, str]:
    """What the stamp says; empty where there is none that can be read."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and (VENV / "bin" / "bzzz").exists() else {}


def advice(output: str) -> str:
    """Turn what pip printed into what a person should do; the last error itself where no cause is known."""
    for sign, text in ADVICE:
        if sign in output:
            return text
    errors = [line for line in output.splitlines() if line.lower().startswith("error")]
    return (errors[-1] if errors else "pip ended without saying why")[:300]


class Progress:
    """One line that is rewritten on a terminal; elsewhere only its first and last words are printed."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.started = time.monotonic()

    def show(self, text: str, *, last: bool = False) -> None:
        """Print ``text`` in place of what was there; ``last`` ends the line."""
        if self.live:
            print(f"\r\x1b[Ksetup: {text[:100]}", end="\n" if last else "", flush=True)
        elif last:
            print(f"setup: {text}", flush=True)

    def done(self, text: str) -> None:
        """End with ``text`` and the seconds it took."""
        self.show(f"{text} ({time.monotonic() - self.started:.0f} s)", last=True)


def run(command: list[str], progress: Progress, total: int = 0) -> None:
    """Run a program, its output into the log, counting the packages that pip collects.

    Raises:
        SetupError: it could not be started, or ended with another status than 0.
    """
    env = {key: value for key, value in os.environ.items() if key not in MISLEADING}
    env |= {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        collected = 0
        for line in process.stdout:
            said.append(line)
            if total and line.startswith("Collecting "):
                collected += 1
                progress.show(f"package {collected} of {total}: {line.split()[1]}")
            elif line.startswith("Installing collected"):
                progress.show(f"installing {total} packages")
    with contextlib.suppress(OSError), LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n{''.join(said)}\n")
    if process.returncode != 0:
        raise SetupError(advice("".join(said)))


def pip(*arguments: str) -> list[str]:
    """A pip command of the environment itself; the lock is complete, so dependencies are never resolved."""
    return [str(PYTHON), "-I", "-m", "pip", "install", "--no-deps", "--no-build-isolation", *arguments]


def build(version: str, progress: Progress) -> str:
    """Bring ``.venv`` to what the lock and the project ask for; returns what was done."""
    want, have = wanted(version), found()
    if want == have:
        return "nothing to do"
    whole = {**want, "project": ""} != {**have, "project": ""}
    STAMP.unlink(missing_ok=True)
    if whole:
        progress.show(f"an environment with Python {version}")
        run([sys.executable, "-I", "-m", "venv", "--clear", str(VENV)], progress)
        blocks = requirements(LOCK.read_text())
        first = VENV / "first.txt"
        first.write_text(blocks[BUILD_TOOL])
        run(pip("--require-hashes", "-r", str(first)), progress)
        run(pip("--require-hashes", "-r", str(LOCK)), progress, total=len(blocks))
    progress.show("the project itself")
    run(pip("-e", str(ROOT)), progress)
    STAMP.write_text(json.dumps(want, indent=1) + "\n")
    return f"{'everything' if whole else 'the project'} installed in .venv with Python {version}"


def main(arguments: list[str]) -> int:
    """Run; ``--check`` only tells by its status whether the environment of this very Python fits."""
    version = ".".join(map(str, sys.version_info[:3]))
    if arguments == ["--check"]:
        return 0 if wanted(version) == found() else 1
    progress = Progress()
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two `make` at once: the second finds the work done
        progress.done(build(version, progress))
    except SetupError as error:
        log = f" (all of it: {LOG.relative_to(ROOT)})" if LOG.exists() else ""
        progress.show(f"failed: {error}{log}", last=True)
        return 1
    except OSError as error:
        progress.show(f"failed: {error.strerror}: {error.filename}", last=True)
        return 1
    except KeyboardInterrupt:
        progress.show("interrupted; run it again to go on", last=True)
        return 130
    finally:
        os.close(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

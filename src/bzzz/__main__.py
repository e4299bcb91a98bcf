"""``bzzz``, and ``python -m bzzz``: the command line.

Nothing has been started while its modules are being imported, so Ctrl-C then ends the process at once, as it does
for any program. Python's own handler would show where in the imports it came.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Import the command line and run it; never returns."""
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    # httpx imports its own command line with what that draws and colours with, which takes a node a fifth of its
    # start. It goes without where that cannot be imported.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from bzzz.cli.main import main as run  # noqa: PLC0415  after the handler

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()

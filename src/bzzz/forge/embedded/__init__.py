"""A forge in one process: real git hosting, issues, pull requests and webhooks, in GitHub's REST subset.

``create_forge(settings)`` gives an ASGI app to serve alone or to mount; ``EmbeddedForge(settings)`` is the
same thing as a Python object for whoever administers it. State is one SQLite file and bare repositories
under ``data_dir``; nothing else is needed but the git program.
"""

from __future__ import annotations

from bzzz.forge.embedded.app import create_forge
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.setting import EmbeddedForgeSettings

__all__ = ["EmbeddedForge", "EmbeddedForgeSettings", "create_forge"]

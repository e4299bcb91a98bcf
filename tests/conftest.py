"""What holds for all tests: those that take minutes are run only where they are asked for."""

from __future__ import annotations

import pytest

from bzzz.mesh.libp2p_import import leave_out

# Tests import parts of libp2p by themselves, and before the mesh does: they must find it as a node does.
leave_out()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: takes minutes; run by `make chaos`, not by `make test`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "chaos" in config.getoption("markexpr"):
        return
    left = [item for item in items if item.get_closest_marker("chaos")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]

"""The package as it is installed elsewhere has everything that it has in its repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_every_tracked_file_of_the_package_and_no_other(tmp_path: Path) -> None:
    source = tmp_path / "source"
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "src", "pyproject.toml", "README.md"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [name for name in listing.split("\0") if name and (ROOT / name).is_file()]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    # What tests and the demo leave in a work tree does not belong to the package.
    (source / "src/bzzz/__pycache__").mkdir()
    (source / "src/bzzz/__pycache__/errors.pyc").touch()

    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--wheel-dir", str(tmp_path), str(source)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {name.removeprefix("src/") for name in names if name.startswith("src/")}

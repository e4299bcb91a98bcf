"""The tree keeps the house's rules, and each rule is able to find what it is for."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.tidy import rule
from tests.tidy.rule import RULES, Rule

ROOT = Path(__file__).resolve().parents[2]
TEXT_BYTES_MAX = 4 * 1024 * 1024
IDS = [one.__name__ for one in RULES]


@pytest.fixture(scope="module")
def tree() -> Mapping[str, str]:
    """Every text file that is, or is about to be, part of the project."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    )
    files = {}
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.stat().st_size <= TEXT_BYTES_MAX:
            raw = path.read_bytes()
            if b"\0" not in raw:
                files[name] = raw.decode()
    assert "src/bzzz/errors.py" in files
    return files


@pytest.mark.parametrize("one", RULES, ids=IDS)
def test_the_tree_keeps_the_rule(one: Rule, tree: Mapping[str, str]) -> None:
    found = [f"{path}:{wrong}" for path, text in tree.items() for wrong in one(path, text)]
    assert found == [], one.__doc__


def test_every_module_has_a_test_that_speaks_for_it(tree: Mapping[str, str]) -> None:
    assert rule.untested(tree) == []


def test_the_lock_holds_what_the_project_asks_for(tree: Mapping[str, str]) -> None:
    assert rule.unlocked(tree["pyproject.toml"], tree["requirements/lock.txt"]) == []


def test_no_two_test_modules_share_a_name(tree: Mapping[str, str]) -> None:
    assert rule.namesakes(tree) == []


LONG_FUNCTION = "def f() -> None:\n" + "    pass\n" * rule.FUNCTION_LINES_MAX
PINNED = f"a==1 \\\n    --hash=sha256:{'0' * 64}\n"
HOST = "".join(("pypi", ".org"))

BAD = [
    (rule.clear_name, "src/bzzz/mesh/peer_utils.py", ""),
    (rule.clear_name, "src/bzzz/manager.py", ""),
    (rule.clear_name, "src/bzzz/helpers/text.py", ""),
    (rule.docstring, "src/bzzz/a.py", "x = 1\n"),
    (rule.size, "src/bzzz/a.py", LONG_FUNCTION),
    (rule.size, "tests/unit/test_a.py", f"async {LONG_FUNCTION}"),
    (rule.size, "src/bzzz/a.py", "\n" * (rule.MODULE_LINES_MAX + 1)),
    (rule.size, "tests/unit/test_a.py", "\n" * (rule.TEST_MODULE_LINES_MAX + 1)),
    (rule.finished, "src/bzzz/a.py", "# TODO later\n"),
    (rule.finished, "docs/a.md", "FIXME\n"),
    (rule.finished, "tests/unit/test_a.py", "@pytest.mark.xfail\ndef test_a(): ...\n"),
    (rule.finished, "tests/unit/test_a.py", "pytest.skip('not here')\n"),
    (rule.patient_test, "tests/unit/test_a.py", "import time\ntime.sleep(0.1)\n"),
    (rule.patient_test, "tests/unit/test_a.py", "async def f():\n    await asyncio.sleep(2)\n"),
    (rule.patient_test, "tests/system/fleet.py", "from time import sleep\nsleep(1)\n"),
    (rule.quiet, "src/bzzz/mesh/a.py", "print('hello')\n"),
    (rule.at_home_anywhere, "docs/a.md", "see /root/.config\n"),
    (rule.at_home_anywhere, "src/bzzz/a.py", 'HERE = "/work/main/x"\n'),
    (rule.at_home_anywhere, "requirements/lock.txt", f"--index-url https://{HOST}/simple\n"),
    (rule.plain_words, "README.md", "A Seamless experience\n"),
    (rule.plain_words, "docs/a.md", "made at the workplace\n"),
    (rule.locked, "requirements/lock.txt", "a==1\n"),
    (rule.locked, "requirements/lock.txt", f"a>=1 \\\n    --hash=sha256:{'0' * 64}\n"),
    (rule.locked, "requirements/lock.txt", f"--index-url https://example.test/\n{PINNED}"),
    (rule.locked, "requirements/lock.txt", ""),
]

GOOD = [
    (rule.clear_name, "src/bzzz/mesh/peer.py", ""),
    (rule.docstring, "src/bzzz/a.py", '"""What it is."""\n'),
    (rule.size, "src/bzzz/a.py", LONG_FUNCTION.removesuffix("    pass\n")),
    (rule.finished, "src/bzzz/a.py", "# done; toDOs are words too\n"),
    (rule.patient_test, "tests/unit/test_a.py", "time.sleep(0.01)\nclock.sleep(seconds)\n"),
    (rule.patient_test, "src/bzzz/a.py", "time.sleep(1)\n"),
    (rule.quiet, "src/bzzz/cli/a.py", "print('hello')\n"),
    (rule.at_home_anywhere, "docs/a.md", "put it in /etc/bzzz or in /home/agent\n"),
    (rule.plain_words, "README.md", "Each issue is claimed once.\n"),
    (rule.locked, "requirements/lock.txt", PINNED + PINNED),
]


def _name(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("one", "path", "text"), BAD, ids=_name)
def test_the_rule_finds_what_is_wrong(one: Rule, path: str, text: str) -> None:
    assert list(one(path, text))


@pytest.mark.parametrize(("one", "path", "text"), GOOD, ids=_name)
def test_the_rule_bears_what_is_right(one: Rule, path: str, text: str) -> None:
    assert list(one(path, text)) == []


def test_every_rule_is_shown_to_fail_and_to_pass() -> None:
    assert {bad[0] for bad in BAD} == set(RULES)
    assert {good[0] for good in GOOD} == set(RULES)


BEHAVIOUR = "def act() -> int:\n    return 1\n"


def test_a_module_that_no_test_speaks_for_is_found() -> None:
    files = {
        "src/bzzz/mesh/dial.py": BEHAVIOUR,
        "src/bzzz/mesh/deep.py": BEHAVIOUR,
        "tests/unit/mesh/test_dialling.py": '"""Dialling and how deep it goes."""',
    }
    assert [line.split(":")[0] for line in rule.untested(files)] == [
        "src/bzzz/mesh/deep.py",
        "src/bzzz/mesh/dial.py",
    ]


@pytest.mark.parametrize(
    "test",
    [
        {"tests/unit/mesh/test_dial.py": ""},
        {"tests/unit/test_other.py": "import bzzz.mesh.dial"},
        {"tests/unit/test_other.py": "from bzzz.mesh import dial"},
        {"tests/unit/test_other.py": "from bzzz.mesh.dial import act"},
        {"tests/unit/test_other.py": '"""Covers ``bzzz.mesh.dial`` through its command."""'},
    ],
)
def test_a_test_speaks_for_what_it_imports_or_names_and_for_what_that_imports(test: dict[str, str]) -> None:
    files = {
        "src/bzzz/mesh/dial.py": f"from bzzz.mesh import one\n{BEHAVIOUR}",
        "src/bzzz/mesh/one.py": f"from bzzz.mesh.two import act\n{BEHAVIOUR}",
        "src/bzzz/mesh/two.py": BEHAVIOUR,
        "src/bzzz/mesh/name.py": "NAME = 1\n",
        "src/bzzz/mesh/port.py": "def port() -> int: ...\n",
        **test,
    }
    assert [line.split(":")[0] for line in rule.untested(files)] == ["src/bzzz/mesh/two.py"]


PROJECT = '[project]\ndependencies = ["A_b>=2"]\n[dependency-groups]\ndev = ["c"]\n'


def test_a_lock_that_holds_what_the_project_asks_for_is_right() -> None:
    assert rule.unlocked(PROJECT, "a-b==2.1 ; x == 'y'\nc==0.1\n") == []


@pytest.mark.parametrize("lock", ["a-b==2.1\n", "a-b==1.9\nc==1\n", ""])
def test_a_lock_that_lags_behind_the_project_is_found(lock: str) -> None:
    assert rule.unlocked(PROJECT, lock)


def test_two_test_modules_of_one_name_are_found() -> None:
    assert rule.namesakes(["tests/unit/a/test_x.py", "tests/unit/b/test_x.py", "tests/unit/b/test_y.py"])

"""Reading a repository's check: the small grammar of .bzzz.toml and AGENTS.md."""

from __future__ import annotations

import pytest

from bzzz.agents.check import TIMEOUT_S_DEFAULT, Check, fenced_blocks, find_check
from bzzz.errors import AgentError


@pytest.mark.parametrize(
    ("toml", "commands"),
    [
        ('command = ["make", "test"]', (("make", "test"),)),
        ('command = [["make", "lint"], ["check", "{number}"]]', (("make", "lint"), ("check", "7"))),
        ('command = "make test | tee log"', (("sh", "-c", "make test | tee log"),)),
        (
            'commands = ["make lint", "make task-{number}"]',
            (("sh", "-c", "make lint"), ("sh", "-c", "make task-7")),
        ),
    ],
)
def test_a_check_is_a_line_words_or_several_of_them(toml: str, commands: tuple[tuple[str, ...], ...]) -> None:
    check = find_check(f"[check]\n{toml}\n".encode(), None, 7)
    assert check is not None
    assert (check.commands, check.timeout_s, check.source) == (commands, TIMEOUT_S_DEFAULT, ".bzzz.toml")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[check\n", "is not TOML"),
        ("check = 1", "check must be a table"),
        ("[check]\n", "exactly one of command and commands"),
        ('[check]\ncommand = ["a"]\ncommands = ["b"]', "exactly one of command and commands"),
        ("[check]\ncommand = []", "check.command must be"),
        ("[check]\ncommand = [1]", "check.command must be"),
        ('[check]\ncommand = ["a"]\ntimeout_s = "soon"', "check.timeout_s = 'soon' must be"),
        ('[check]\ncommand = ["a"]\npaths = "x"', "check.paths must be"),
        ('[check]\ncommand = ["a\\u0000"]', "a null character"),
        ("[check]\ncommands = [" + '"x",' * 21 + "]", "more than 20 commands"),
    ],
)
def test_a_wrong_check_is_named(toml: str, said: str) -> None:
    with pytest.raises(AgentError, match=r"^\.bzzz\.toml") as caught:
        find_check(toml.encode(), None, 7)
    assert said in str(caught.value)


GUIDE = """\
# Guide
```sh
not this
```
## Running the tests
Some words.
~~~console
$ make test \\
    FAST=1
# a comment

npm test
~~~
## Checks before a commit
```python
print("no shell")
```
```bash
make check TASK={number}
```
"""


def test_the_guide_is_read_where_there_is_no_table() -> None:
    check = find_check(b"[other]\nx = 1\n", GUIDE.encode(), 7)
    assert check is not None
    assert check.show() == ["make check TASK=7"]
    tests = find_check(None, GUIDE.split("## Checks", maxsplit=1)[0].encode(), 7)
    assert tests is not None
    assert tests.show() == ["make test FAST=1", "npm test"]
    assert tests.source == "AGENTS.md"


@pytest.mark.parametrize(
    "guide", ["", "# Tests\nrun make\n", "# Latest\n```\nx\n```\n", "# Contest\n```\nx\n```\n"]
)
def test_a_guide_without_commands_is_no_check(guide: str) -> None:
    assert find_check(None, guide.encode(), 7) is None


def test_a_fence_ends_only_at_one_as_long_and_of_its_kind() -> None:
    text = "````diff\n```\n~~~~\n  x\n````\n```\nrest"
    assert fenced_blocks(text) == [("", "diff", ["```", "~~~~", "  x"]), ("", "", ["rest"])]


def test_paths_that_the_check_names_belong_to_it() -> None:
    check = Check((("sh", "-c", "cd tests && ./run.sh --dir=data/x"),), 1.0, ".bzzz.toml", ("spec/",))
    owned = [
        path for path in ("tests/a.py", "run.sh", "data/x/y", "spec/z", "AGENTS.md", "src/a.py") if check.owns(path)
    ]
    assert owned == ["tests/a.py", "run.sh", "data/x/y", "spec/z", "AGENTS.md"]

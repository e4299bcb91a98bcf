"""A repository's own check: which commands show that the work is done. Pure; the files are given.

``.bzzz.toml`` comes first::

    [check]
    command = ["python3", "-m", "unittest"]     # one program with its arguments, or
    command = [["make", "lint"], ["make", "test", "TASK={number}"]]    # several, or
    commands = ["make lint", "make test"]       # shell lines, each run by sh -c
    timeout_s = 300                             # for all of them together
    paths = ["tests/"]                          # what else belongs to the check

``{number}`` is replaced by the task's number in every word. A project's own ``check_command`` goes before all of
that, with the file's ``timeout_s`` and ``paths``. Without that table, AGENTS.md is read: the first
fenced code block (no language, ``sh``, ``bash``, ``shell`` or ``console``) below a heading that has the word
check or test in it (checks, checking, tests, testing), before the next heading; headings with check come
first. Each line is a shell line: ``$ `` at its start is dropped, ``#`` lines are comments, a backslash at
the end joins lines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bzzz.errors import AgentError

CHECK_FILE = ".bzzz.toml"
GUIDE_FILE = "AGENTS.md"
PROJECT_SOURCE = "the project's settings"
CHECK_FILE_BYTES_MAX = 256 * 1024
COMMANDS_MAX = 20
TIMEOUT_S_DEFAULT = 600.0

_SHELLS = frozenset({"", "sh", "bash", "shell", "console", "shell-session", "zsh"})


@dataclass(frozen=True, slots=True)
class Check:
    """What to run, in order; all must end with status 0 within ``timeout_s`` together.

    ``source`` is the file that says so; ``paths`` are those it names as belonging to the check.
    """

    commands: tuple[tuple[str, ...], ...]
    timeout_s: float
    source: str
    paths: tuple[str, ...] = ()

    def show(self) -> list[str]:
        """Each command as a person would write it."""
        return [command[2] if command[:2] == ("sh", "-c") else " ".join(command) for command in self.commands]

    def owns(self, path: str) -> bool:
        """Whether a path belongs to the check itself, so that changing it changes what is proved."""
        if path in {CHECK_FILE, GUIDE_FILE, "Makefile", "makefile", "GNUmakefile", "conftest.py"}:
            return True
        words = {word.removeprefix("./") for command in self.show() for word in re.split(r"[\s=;&|'\"]+", command)}
        named = {word.rstrip("/") for word in [*words, *self.paths] if word not in {"", "."}}
        return any(path == name or path.startswith(name + "/") for name in named)


def find_check(
    settings: bytes | None, guide: bytes | None, number: int, project: Sequence[str] = ()
) -> Check | None:
    """The check that a project names, or else a repository's files; ``None`` if neither does.

    Args:
        settings: ``.bzzz.toml`` of the base commit.
        guide: ``AGENTS.md`` of the base commit.
        number: the task's number.
        project: the command that the project's settings in Hive name; its bounds and paths are the file's.

    Raises:
        AgentError: ``.bzzz.toml`` is wrong; says where, and what is allowed.
    """
    check = None if settings is None else _from_settings(settings, number)
    if project:
        # Whoever runs the project knows better than what happens to lie in the repository.
        timeout_s, paths = (check.timeout_s, check.paths) if check is not None else (TIMEOUT_S_DEFAULT, ())
        return Check((_number(project, number),), timeout_s, PROJECT_SOURCE, paths)
    if check is not None:
        return check
    if guide is not None:
        lines = _from_guide(guide.decode("utf-8", "replace"))
        if lines:
            commands = tuple(_number(("sh", "-c", line), number) for line in lines[:COMMANDS_MAX])
            return Check(commands, TIMEOUT_S_DEFAULT, GUIDE_FILE)
    return None


def _from_settings(data: bytes, number: int) -> Check | None:
    try:
        table = tomllib.loads(data.decode("utf-8")).get("check")
    except (ValueError, RecursionError) as error:
        raise AgentError(f"{CHECK_FILE} of the base commit is not TOML: {error}") from None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise AgentError(f"{CHECK_FILE}: check must be a table with command or commands")
    commands = _commands(table)
    timeout_s = table.get("timeout_s", TIMEOUT_S_DEFAULT)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < 1e6:
        raise AgentError(f"{CHECK_FILE}: check.timeout_s = {timeout_s!r} must be a number of seconds above 0")
    paths = table.get("paths", [])
    if not _is_words(paths):
        raise AgentError(f"{CHECK_FILE}: check.paths must be a list of strings")
    return Check(tuple(_number(c, number) for c in commands), float(timeout_s), CHECK_FILE, tuple(paths))


def _commands(table: dict[str, Any]) -> list[tuple[str, ...]]:
    one, many = table.get("command"), table.get("commands")
    if (one is None) == (many is None):
        raise AgentError(f"{CHECK_FILE}: check needs exactly one of command and commands")
    found: list[tuple[str, ...]]
    if many is not None:
        if not _is_words(many) or not many:
            raise AgentError(f"{CHECK_FILE}: check.commands must be a list of shell lines")
        found = [("sh", "-c", line) for line in many]
    elif isinstance(one, str) and one.strip():
        found = [("sh", "-c", one)]
    elif _is_words(one) and one:
        found = [tuple(one)]
    elif isinstance(one, list) and one and all(_is_words(words) and words for words in one):
        found = [tuple(words) for words in one]
    else:
        raise AgentError(f"{CHECK_FILE}: check.command must be a line, a list of words, or a list of such lists")
    if len(found) > COMMANDS_MAX or any("\0" in word for command in found for word in command):
        raise AgentError(f"{CHECK_FILE}: check holds more than {COMMANDS_MAX} commands, or a null character")
    return found


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _number(command: Sequence[str], number: int) -> tuple[str, ...]:
    return tuple(word.replace("{number}", str(number)) for word in command)


def _from_guide(text: str) -> list[str]:
    found: dict[str, list[str]] = {}
    for heading, language, lines in fenced_blocks(text):
        if language not in _SHELLS:
            continue
        for word in ("check", "test"):
            if word not in found and re.search(rf"\b{word}(s|ing)?\b", heading, re.IGNORECASE):
                commands = _shell_lines(lines)
                if commands:
                    found[word] = commands
    return found.get("check") or found.get("test") or []


def _shell_lines(lines: Sequence[str]) -> list[str]:
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    plain = [line.strip().removeprefix("$ ").strip() for line in joined.splitlines()]
    return [line for line in plain if line and not line.startswith("#")]


def fenced_blocks(text: str) -> list[tuple[str, str, list[str]]]:
    """The fenced code blocks of a Markdown text: heading above, first word of the info string, lines.

    As CommonMark 0.31 (sections 4.2 and 4.5) has them at the top level: a fence is three or more backticks
    or tildes, indented by at most three spaces, and is closed by one at least as long, or by the end.
    """
    blocks: list[tuple[str, str, list[str]]] = []
    heading = ""
    fence = ""
    indent = 0
    lines: list[str] = []
    language = ""
    for line in text.split("\n"):
        bare = line.rstrip("\r")
        if fence:
            if re.fullmatch(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*", bare):
                blocks.append((heading, language, lines))
                fence = ""
            else:
                cut = min(indent, len(line) - len(line.lstrip(" ")))
                lines.append(line[cut:])
            continue
        opened = re.match(r"( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$", bare)
        if opened:
            indent, fence = len(opened[1]), opened[2]
            words = opened[3].split()
            language, lines = (words[0].lower() if words else ""), []
        elif re.match(r" {0,3}#{1,6}([ \t]|$)", bare):
            heading = bare.strip(" \t#")
    if fence:
        blocks.append((heading, language, lines))
    return blocks

"""A project's own settings, as flags and as a file of many projects."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bzzz.errors import UsageError

FILE_BYTES_MAX = 4 * 1024 * 1024
PROJECTS_MAX = 10_000

LabelOption = Annotated[
    list[str] | None, typer.Option("--label", help="Label that a task must carry here; all of several.")
]
CommandOption = Annotated[str | None, typer.Option(help="A program with its arguments that proves work.")]
AgentOption = Annotated[
    str | None, typer.Option(help="The capability, such as an agent's name, that a node needs.")
]
LimitOption = Annotated[
    list[str] | None, typer.Option("--limit", help="NAME=NUMBER, such as wall_s_max=1800; may be repeated.")
]
ReviewerOption = Annotated[list[str] | None, typer.Option("--reviewer", help="Who is asked to review.")]
NoCheckOption = Annotated[bool, typer.Option("--no-check", help="Do not look whether the repository can be used.")]


def settings_given(
    label: Sequence[str] | None,
    check_command: str | None,
    agent: str | None,
    limit: Sequence[str] | None,
    reviewer: Sequence[str] | None,
) -> dict[str, Any]:
    """Fields of a project from its flags; ``None`` for what was not given, empty for what is taken away.

    Raises:
        UsageError: a limit is not NAME=NUMBER, or the command's quotes do not match.
    """
    try:
        words = None if check_command is None else shlex.split(check_command)
    except ValueError as error:
        raise UsageError(f"--check-command: {error}") from None
    return {
        "labels": None if label is None else [one for one in label if one],
        "check_command": words,
        "agent": agent,
        "limits": None if limit is None else dict(_limit(one) for one in limit if one),
        "reviewers": None if reviewer is None else [one for one in reviewer if one],
    }


def _limit(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        equals = ""
    if not equals:
        raise UsageError(f"--limit {text[:60]!r} is not NAME=NUMBER")
    return name.strip(), int(value) if value.is_integer() else value


def read_projects(path: Path) -> Sequence[dict[str, Any]]:
    """The projects in a TOML, YAML or JSON file, each as the fields of one.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path}: larger than {FILE_BYTES_MAX} bytes; is this the right file?")
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            value: Any = tomllib.loads(text)
        else:
            value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{path}: the projects cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:300]}") from None
    if isinstance(value, dict):
        value = value.get("project", value.get("projects"))
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UsageError(f"{path}: a list of projects is needed: [[project]] in TOML, 'project:' in YAML and JSON")
    if len(value) > PROJECTS_MAX:
        raise UsageError(f"{path}: {len(value)} projects are above {PROJECTS_MAX}")
    return value

"""A scenario's file, read: TOML that a person can write, checked line by line.

Pure but for reading the file. Every key has a bound, and a mistake is one line that names file, key and what is
allowed. The scenarios that ship lie beside this module and are the best description::

    about = "what it shows"
    seed = 7                       # the same seed, the same timetable
    duration_s = 600

    [[project]]
    name = "shop"                  # repository scenario/shop on the embedded forge
    about = "a line for people"
    arrives_s = 0                  # later: it comes while nodes run
    away_s = [[120, 180]]          # withdrawn from Hive in between

    [tasks]
    first = 3                      # open when the scenario begins
    every_s = [20, 40]             # then one after each such pause
    most = 40
    kinds = { bug = 3, feature = 2 }
    urgent = 0.1                   # this share has the highest priority
    depends = 0.2                  # this share waits for an earlier task
    across = 0.5                   # and of these, this share for one of another repository

    [[fault]]
    kind = "slow"                  # slow, error (500), limited (429) or away (the connection is cut)
    target = "forge"               # forge or hive
    at_s = 60
    for_s = 20
    share = 0.5                    # of the calls
    delay_s = 2.0                  # for slow
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from bzzz.core.task import TaskType
from bzzz.errors import SettingError, UsageError

OWNER = "scenario"
FILE_BYTES_MAX = 256 * 1024
PROJECTS_MAX = 50
TASKS_MAX = 2000
FAULTS_MAX = 100
DURATION_S_MAX = 7 * 24 * 3600
DELAY_S_MAX = 60.0
TEXT_CHARACTERS_MAX = 500

FaultKind = Literal["slow", "error", "limited", "away"]
FaultTarget = Literal["forge", "hive"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
FAULT_TARGETS: tuple[FaultTarget, ...] = get_args(FaultTarget)

_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}\Z")


@dataclass(frozen=True, slots=True)
class SceneProject:
    """One fake project. ``away_s`` are spans in which it is withdrawn, in seconds from the beginning."""

    name: str
    about: str = ""
    arrives_s: float = 0.0
    away_s: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskMix:
    """How tasks arrive. ``kinds`` are weights; ``urgent``, ``depends`` and ``across`` are shares from 0 to 1."""

    first: int = 3
    every_s: tuple[float, float] = (20.0, 40.0)
    most: int = 40
    kinds: Mapping[TaskType, float] = field(default_factory=lambda: {TaskType.BUG: 1.0, TaskType.FEATURE: 1.0})
    urgent: float = 0.0
    depends: float = 0.0
    across: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: which calls go wrong, how, and for how long."""

    kind: FaultKind
    target: FaultTarget
    at_s: float
    for_s: float
    share: float = 1.0
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario, checked."""

    name: str
    about: str
    seed: int
    duration_s: float
    projects: tuple[SceneProject, ...]
    tasks: TaskMix
    faults: tuple[Fault, ...]


def shipped() -> Sequence[str]:
    """The names of the scenarios that come with Bzzz."""
    folder = resources.files("bzzz.hive.scenario") / "scenes"
    return sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """A scenario that comes with Bzzz, by its name, or one of the user's, by its path.

    Raises:
        UsageError: there is none of that name, or the file cannot be read.
        SettingError: the file says something that is not allowed.
    """
    if name in shipped():
        text = (resources.files("bzzz.hive.scenario") / "scenes" / f"{name}.toml").read_text(encoding="utf-8")
        return read_scenario(text, name, f"scenario {name}")
    path = Path(name).expanduser()
    if not (name.endswith(".toml") or "/" in name):
        raise UsageError(f"there is no scenario {name!r}; there is {', '.join(shipped())}, or name a .toml file")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(f"{path}: larger than {FILE_BYTES_MAX} bytes; is this the right file?")
        return read_scenario(path.read_text(encoding="utf-8"), path.stem, str(path))
    except OSError as error:
        raise UsageError(f"{path}: the scenario cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the scenario is not UTF-8 text") from None


def read_scenario(text: str, name: str, where: str) -> Scenario:
    """A scenario from TOML.

    Raises:
        UsageError: it is no TOML.
        SettingError: a key is unknown, or a value not allowed.
    """
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: {' '.join(str(error).split())}") from None
    table = _Table(where, "", value)
    table.only("about", "seed", "duration_s", "project", "tasks", "fault")
    duration_s = table.number("duration_s", 600, 1, DURATION_S_MAX)
    projects = tuple(_project(one, duration_s) for one in table.tables("project", PROJECTS_MAX))
    if not projects:
        raise SettingError(where, "project", [], "a scenario needs at least one [[project]]")
    if len({project.name for project in projects}) < len(projects):
        raise SettingError(where, "project", [one.name for one in projects], "each name stands once")
    if all(project.arrives_s > 0 for project in projects):
        raise SettingError(
            where, "project.arrives_s", projects[0].arrives_s, "one project is there from the start: 0"
        )
    return Scenario(
        name=name,
        about=table.text("about"),
        seed=int(table.number("seed", 1, 0, 2**31, whole=True)),
        duration_s=duration_s,
        projects=projects,
        tasks=_mix(table.table("tasks")),
        faults=tuple(_fault(one, duration_s) for one in table.tables("fault", FAULTS_MAX)),
    )


def _project(table: _Table, duration_s: float) -> SceneProject:
    table.only("name", "about", "arrives_s", "away_s")
    name = table.text("name")
    if not _NAME.match(name):
        raise table.wrong("name", name, "1 to 39 lower-case letters, digits and '-', a letter first")
    spans = table.value.get("away_s", [])
    fine = isinstance(spans, list) and len(spans) <= FAULTS_MAX and all(_is_span(one, duration_s) for one in spans)
    if not fine:
        raise table.wrong("away_s", spans, "a list of [from, to] in seconds, each from before its to")
    away = tuple(sorted((float(one[0]), float(one[1])) for one in spans))
    if any(before[1] > after[0] for before, after in itertools.pairwise(away)):
        raise table.wrong("away_s", spans, "spans that do not overlap")
    return SceneProject(name, table.text("about"), table.number("arrives_s", 0, 0, duration_s), away)


def _mix(table: _Table) -> TaskMix:
    table.only("first", "every_s", "most", "kinds", "urgent", "depends", "across")
    default = TaskMix()
    every = table.value.get("every_s", list(default.every_s))
    if not (
        isinstance(every, list) and len(every) == 2 and all(map(_is_number, every)) and 0 < every[0] <= every[1]
    ):
        raise table.wrong("every_s", every, "[least, most] seconds between two tasks, above 0")
    kinds = table.value.get("kinds", {kind.value: weight for kind, weight in default.kinds.items()})
    names = {kind.value: kind for kind in TaskType}
    fine = isinstance(kinds, dict) and all(
        one in names and _is_number(kinds[one]) and kinds[one] >= 0 for one in kinds
    )
    if not (fine and sum(kinds.values()) > 0):
        raise table.wrong("kinds", kinds, f"weights of {', '.join(names)}")
    return TaskMix(
        first=int(table.number("first", default.first, 0, TASKS_MAX, whole=True)),
        every_s=(float(every[0]), float(every[1])),
        most=int(table.number("most", default.most, 0, TASKS_MAX, whole=True)),
        kinds={names[one]: float(weight) for one, weight in kinds.items()},
        urgent=table.number("urgent", 0, 0, 1),
        depends=table.number("depends", 0, 0, 1),
        across=table.number("across", 0, 0, 1),
    )


def _fault(table: _Table, duration_s: float) -> Fault:
    table.only("kind", "target", "at_s", "for_s", "share", "delay_s")
    return Fault(
        kind=table.choice("kind", FAULT_KINDS),
        target=table.choice("target", FAULT_TARGETS),
        at_s=table.number("at_s", 0, 0, duration_s),
        for_s=table.number("for_s", 10, 0, duration_s),
        share=table.number("share", 1, 0, 1),
        delay_s=table.number("delay_s", 1, 0, DELAY_S_MAX),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_span(value: object, duration_s: float) -> bool:
    fine = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return fine and 0 <= value[0] < value[1] <= duration_s  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file, read key by key."""

    where: str
    name: str
    value: Mapping[str, Any]

    def wrong(self, key: str, value: object, allowed: str) -> SettingError:
        return SettingError(self.where, f"{self.name}.{key}".lstrip("."), value, allowed)

    def only(self, *keys: str) -> None:
        for key in self.value:
            if key not in keys:
                raise self.wrong(key, self.value[key], f"there is no such key; known are {', '.join(keys)}")

    def text(self, key: str) -> str:
        found = self.value.get(key, "")
        if not isinstance(found, str) or len(found) > TEXT_CHARACTERS_MAX or not found.isprintable():
            raise self.wrong(key, found, f"a line of text of at most {TEXT_CHARACTERS_MAX} characters")
        return found

    def number(self, key: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
        found = self.value.get(key, default)
        if not _is_number(found) or not low <= found <= high or (whole and found != int(found)):
            raise self.wrong(key, found, f"a {'whole ' if whole else ''}number from {low:g} to {high:g}")
        return float(found)

    def choice(self, key: str, words: tuple[Any, ...]) -> Any:
        found = self.value.get(key)
        if found not in words:
            raise self.wrong(key, found, f"one of {', '.join(words)}")
        return found

    def table(self, key: str) -> _Table:
        found = self.value.get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, found, f"a table [{key}]")
        return _Table(self.where, key, found)

    def tables(self, key: str, most: int) -> list[_Table]:
        found = self.value.get(key, [])
        if not isinstance(found, list) or len(found) > most or not all(isinstance(one, dict) for one in found):
            raise self.wrong(key, "...", f"at most {most} tables [[{key}]]")
        return [_Table(self.where, key, one) for one in found]

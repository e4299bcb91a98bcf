"""A scenario's timetable: what happens when, made from its seed. Pure: the same scenario, the same timetable.

Tasks name earlier tasks by their place in the timetable, since the forge gives numbers only when they are opened.
Each task can really be done: its issue holds the diff that does it, so that a node needs no model for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bzzz.core.task import TaskType
from bzzz.hive.scenario.script import Fault, Scenario, SceneProject, TaskMix

URGENT_PRIORITY = 9
PRIORITIES = (1, 2, 3, 4, 5)

CHECK = '''"""Every note begins with a heading and says something: that is what this project calls done."""

import pathlib
import sys

wrong = []
for path in sorted(pathlib.Path("notes").glob("*.md")):
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) < 3 or not lines[0].startswith("# ") or not lines[-1].strip():
        wrong.append(str(path))
sys.exit(f"not done: {', '.join(wrong)}" if wrong else 0)
'''
SETTINGS = '[check]\ncommand = ["python3", "check.py"]\ntimeout_s = 60\npaths = ["check.py"]\n'

_SUBJECTS: Mapping[TaskType, Sequence[str]] = {
    TaskType.BUG: ("Totals are wrong for {} at midnight", "Crash when {} are empty", "{} are counted twice"),
    TaskType.FEATURE: ("Add an export of {}", "Let users sort {}", "Support {} in several currencies"),
    TaskType.DOCUMENTATION: ("Document how {} are stored", "README says nothing of {}"),
    TaskType.REFACTOR: ("Simplify the code for {}", "Rename the module of {}"),
    TaskType.TESTING: ("Tests for {} are missing", "Cover {} at the edges"),
    TaskType.INFRASTRUCTURE: ("Build {} in CI", "Deploy {} apart"),
    TaskType.SECURITY: ("Injection through {}", "Security of {} behind the login"),
    TaskType.UI_UX: ("Layout of {} on small screens", "Design of {} in the dark"),
    TaskType.GENERAL: ("Look after {}", "Something about {}"),
}
_THINGS = ("orders", "invoices", "refunds", "stock levels", "customers", "price lists", "coupons", "shipments")


@dataclass(frozen=True, slots=True)
class ProjectArrives:
    """A project is made, with its repository."""

    at_s: float
    project: SceneProject


@dataclass(frozen=True, slots=True)
class ProjectLeaves:
    """A project is withdrawn from Hive; its repository stays."""

    at_s: float
    name: str


@dataclass(frozen=True, slots=True)
class ProjectReturns:
    """A withdrawn project is back."""

    at_s: float
    name: str


@dataclass(frozen=True, slots=True)
class TaskArrives:
    """An issue is opened. ``after`` is the place, in the timetable's tasks, of the one that it waits for."""

    at_s: float
    index: int
    project: str
    kind: TaskType
    title: str
    urgent: bool
    priority: int
    after: int | None = None


@dataclass(frozen=True, slots=True)
class FaultBegins:
    """Calls begin to go wrong."""

    at_s: float
    fault: Fault


Happening = ProjectArrives | ProjectLeaves | ProjectReturns | TaskArrives | FaultBegins


def timetable(scenario: Scenario) -> Sequence[Happening]:
    """Everything that happens, in order."""
    happenings: list[Happening] = []
    for project in scenario.projects:
        happenings.append(ProjectArrives(project.arrives_s, project))
        for leaves_s, returns_s in project.away_s:
            happenings += [ProjectLeaves(leaves_s, project.name), ProjectReturns(returns_s, project.name)]
    happenings += [FaultBegins(fault.at_s, fault) for fault in scenario.faults]
    happenings += _tasks(scenario)
    order = (ProjectArrives, ProjectReturns, TaskArrives, ProjectLeaves, FaultBegins)
    return sorted(happenings, key=lambda one: (one.at_s, order.index(type(one))))


def _tasks(scenario: Scenario) -> Sequence[TaskArrives]:
    chance = random.Random(scenario.seed)  # noqa: S311 - a timetable, not a secret
    mix = scenario.tasks
    tasks: list[TaskArrives] = []
    at_s = 0.0
    while len(tasks) < mix.most:
        if len(tasks) >= mix.first:
            at_s += chance.uniform(*mix.every_s)
        if at_s > scenario.duration_s:
            break
        tasks.append(_task(chance, scenario, at_s, tasks))
    return tasks


def _task(chance: random.Random, scenario: Scenario, at_s: float, before: Sequence[TaskArrives]) -> TaskArrives:
    mix: TaskMix = scenario.tasks
    there = [project.name for project in scenario.projects if _is_there(project, at_s)]
    project = chance.choice(there or [scenario.projects[0].name])
    kind = chance.choices(list(mix.kinds), list(mix.kinds.values()))[0]
    title = chance.choice(_SUBJECTS[kind]).format(chance.choice(_THINGS))
    urgent = chance.random() < mix.urgent
    after = None
    if chance.random() < mix.depends:
        across = chance.random() < mix.across
        earlier = [task.index for task in before if (task.project != project) == across]
        after = chance.choice(earlier) if earlier else None
    return TaskArrives(
        at_s=at_s,
        index=len(before),
        project=project,
        kind=kind,
        title=title[0].upper() + title[1:],
        urgent=urgent,
        priority=URGENT_PRIORITY if urgent else chance.choice(PRIORITIES),
        after=after,
    )


def _is_there(project: SceneProject, at_s: float) -> bool:
    return project.arrives_s <= at_s and not any(begin <= at_s < end for begin, end in project.away_s)


def files_of(project: SceneProject) -> Mapping[str, str]:
    """The first commit of a project's repository."""
    about = project.about or "A project of a scenario."
    guide = (
        "# For whoever changes this\n\nA task adds one note below `notes/`.\n\n## Checks\n\n    python3 check.py\n"
    )
    return {
        "README.md": f"# {project.name}\n\n{about}\n",
        "AGENTS.md": guide,
        ".bzzz.toml": SETTINGS,
        "check.py": CHECK,
        "notes/first.md": "# First\n\nNothing has been done yet.\n",
    }


def labels_of(task: TaskArrives, task_label: str) -> Sequence[str]:
    """The labels of a task's issue."""
    kind = f"type-{task.kind.value.replace('/', '-')}"
    return [task_label, kind, f"priority-{task.priority}", *(["urgent"] if task.urgent else [])]


def body_of(task: TaskArrives, waits_for: str) -> str:
    """The text of a task's issue; ``waits_for`` is ``owner/name#number`` or empty."""
    depends = f"\nDepends on {waits_for}.\n" if waits_for else ""
    note = [f"# {task.title}", "", f"Done as task {task.index + 1} of the scenario asked."]
    path = f"notes/task-{task.index + 1}.md"
    added = "\n".join(f"+{line}" for line in note)
    diff = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    diff += f"@@ -0,0 +1,{len(note)} @@\n"
    return (
        f"**Task type**: {task.kind.value}\n**Priority**: {task.priority}\n\n## Description\n\n"
        f"{task.title}. {'It cannot wait.' if task.urgent else 'It can wait its turn.'}\n{depends}\n"
        f"## Requirements\n\n- `{path}` says what was done.\n- `python3 check.py` passes.\n\n"
        f"## Deliverables\n\n- `{path}`\n\n## Proposed patch\n\n```diff\n{diff}{added}\n```\n"
    )

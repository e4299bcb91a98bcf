"""``GET /``: projects and the state of their tasks, for a person with a browser.

What it shows was written by strangers: the template escapes everything, links are only ever http or https,
and the page may run no script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bzzz.errors import BzzzError
from bzzz.hive.board import BoardTask
from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.project import Project

TASKS_SHOWN_MAX = 200
TASKS_WAIT_S = 5.0

router = APIRouter()

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def safe_link(url: str) -> str:
    """The URL if a browser may follow it, else empty."""
    return url if url.startswith(("https://", "http://")) else ""


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_TEMPLATES.filters["link"] = safe_link


@dataclass(frozen=True, slots=True)
class Line:
    """One task as the page shows it."""

    task: BoardTask
    state: str
    holder: str
    reported: str


@dataclass(frozen=True, slots=True)
class Section:
    """One project as the page shows it."""

    project: Project
    lines: Sequence[Line]
    left_out: int
    trouble: str


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index(parts: PartsIn) -> HTMLResponse:
    """The one page."""
    projects = await parts.projects()
    sections = await asyncio.gather(*(_section(parts, project) for project in projects))
    template = _TEMPLATES.get_template("index.html")
    html = template.render(sections=sections, label=parts.settings.task_label, counters=parts.changes.counters())
    return HTMLResponse(html, headers=_HEADERS)


async def _section(parts: HiveParts, project: Project) -> Section:
    if project.problem or not project.bzzz_enabled:
        return Section(project, (), 0, project.problem)
    try:
        async with asyncio.timeout(TASKS_WAIT_S):
            tasks = await parts.board.tasks(project)
    except TimeoutError:
        return Section(project, (), 0, "its forge does not answer just now")
    except BzzzError as error:
        return Section(project, (), 0, str(error))
    reports = await run_in_threadpool(parts.store.reports.newest, project.id)
    lines = []
    for task in tasks[:TASKS_SHOWN_MAX]:
        record = None if task.standing is None else task.standing.record
        report = reports.get(task.issue.number)
        lines.append(
            Line(
                task,
                state="open" if record is None else record.state.value,
                holder=record.holder.agent if record is not None and task.is_claimed else "",
                reported="" if report is None else report.status,
            )
        )
    return Section(project, lines, max(0, len(tasks) - TASKS_SHOWN_MAX), "")

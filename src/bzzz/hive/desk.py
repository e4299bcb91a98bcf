"""Where a person changes projects: on a running Hive over HTTP, or directly in its database.

Both desks have the same few verbs and give the same JSON objects (``ProjectAnswer``), so that the command line
need not know which one it works at. Synchronous: one verb is one short visit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from bzzz.errors import ServiceNonsense, UsageError
from bzzz.hive.failure import describe
from bzzz.hive.link import HiveLink
from bzzz.hive.project import change_from, draft_from
from bzzz.hive.schema import ProjectAnswer, ProjectChange, ProjectDraft
from bzzz.hive.store import HiveStore
from bzzz.ports import Clock

_PROJECTS = "/api/bzzz/projects"


class ProjectDesk(Protocol):
    """What can be done with projects.

    Every verb may raise ``UsageError`` (no such project, a name that is taken, a wrong field) and, over
    HTTP, any ``ServiceError``.
    """

    def list(self) -> Sequence[ProjectAnswer]:
        """All projects."""
        ...

    def add(self, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:
        """Add one from the fields of ``ProjectDraft``; ``check`` looks at its repository where that can be done."""
        ...

    def change(self, name: str, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:
        """Change the given fields of the one with this name or id."""
        ...

    def remove(self, name: str) -> ProjectAnswer:
        """Forget the one with this name or id; gives what it was."""
        ...


def _typed(model: type[ProjectChange], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with the types that they have on the wire.

    Raises:
        ValueError: one has another; names it.
    """
    try:
        return model.model_validate(dict(fields)).model_dump()
    except ValidationError as error:
        raise ValueError(describe([{**one, "loc": ("body", *one["loc"])} for one in error.errors()])) from None


def _query(*, check: bool) -> str:
    return "" if check else "?check=false"


def find(projects: Sequence[ProjectAnswer], name: str) -> ProjectAnswer:
    """The project with this name, or else this ``owner/name``, or else this id.

    Raises:
        UsageError: there is none.
    """
    ways = (
        lambda one: one.name == name,
        lambda one: one.key.lower() == name.lower(),
        lambda one: str(one.id) == name,
    )
    for way in ways:
        for project in projects:
            if way(project):
                return project
    known = ", ".join(project.name for project in projects[:10]) or "none at all"
    raise UsageError(f"there is no project {name!r}; there is {known}")


class StoreDesk:
    """Works in Hive's database; a Hive that runs on it sees the change at its next reading.

    Args:
        url: SQLAlchemy's database URL.
        clock: for the times that people read.
        forge_base_url: where a project named only by ``owner/name`` is looked for.
    """

    def __init__(self, url: str, clock: Clock, forge_base_url: str) -> None:
        self._url = url
        self._clock = clock
        self._forge_base_url = forge_base_url

    def list(self) -> Sequence[ProjectAnswer]:
        """See ``ProjectDesk``."""
        with HiveStore(self._url, self._clock) as store:
            return [ProjectAnswer.of(project) for project in store.projects()]

    def add(self, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:  # noqa: ARG002
        """See ``ProjectDesk``; there is no token here, so the repository is not looked at."""
        try:
            draft = draft_from(_typed(ProjectDraft, fields), self._forge_base_url)
        except ValueError as error:
            raise UsageError(str(error)) from None
        with HiveStore(self._url, self._clock) as store:
            return ProjectAnswer.of(store.add(draft))

    def change(self, name: str, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:  # noqa: ARG002
        """See ``ProjectDesk``."""
        try:
            checked = change_from(_typed(ProjectChange, fields))
        except ValueError as error:
            raise UsageError(str(error)) from None
        with HiveStore(self._url, self._clock) as store:
            changed = store.change(self._find(store, name).id, checked)
            if changed is None:
                raise UsageError(f"project {name!r} was removed just now")
            return ProjectAnswer.of(changed)

    def remove(self, name: str) -> ProjectAnswer:
        """See ``ProjectDesk``."""
        with HiveStore(self._url, self._clock) as store:
            project = self._find(store, name)
            store.remove(project.id)
            return project

    @staticmethod
    def _find(store: HiveStore, name: str) -> ProjectAnswer:
        return find([ProjectAnswer.of(project) for project in store.projects()], name)


class HttpDesk:
    """Works on a running Hive.

    Args:
        url: where it is.
        key: the API key, or ``None``.
        clock: for a ``Retry-After`` that is a date.
    """

    def __init__(self, url: str, key: str | None, clock: Clock) -> None:
        self._url = url
        self._key = key
        self._clock = clock

    def list(self) -> Sequence[ProjectAnswer]:
        """See ``ProjectDesk``."""
        answer = self._ask("GET", _PROJECTS)
        entries = answer.get("projects") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise ServiceNonsense(f"Hive {self._url}", f"GET {_PROJECTS}", "no list 'projects' in it")
        return [self._read(entry) for entry in entries]

    def add(self, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:
        """See ``ProjectDesk``."""
        return self._read(self._ask("POST", _PROJECTS + _query(check=check), fields))

    def change(self, name: str, fields: Mapping[str, Any], *, check: bool = True) -> ProjectAnswer:
        """See ``ProjectDesk``."""
        project = find(self.list(), name)
        return self._read(self._ask("PATCH", f"{_PROJECTS}/{project.id}{_query(check=check)}", fields))

    def remove(self, name: str) -> ProjectAnswer:
        """See ``ProjectDesk``."""
        project = find(self.list(), name)
        self._ask("DELETE", f"{_PROJECTS}/{project.id}")
        return project

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        async def visit() -> Any:
            link = HiveLink(self._url, self._key, self._clock)
            try:
                return await link.ask(method, path, body)
            finally:
                await link.close()

        return asyncio.run(visit())

    def _read(self, value: Any) -> ProjectAnswer:
        try:
            return ProjectAnswer.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise ServiceNonsense(f"Hive {self._url}", "a project", f"{field}: {first['msg']}") from None

"""A project: one repository that a team lets its agents work on, and the rules for its fields.

Pure. ``Project`` is what the store gives out, whatever row (the predecessor's too) it was read from;
``draft_from`` and ``change_from`` check what a client or the CLI wants to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bzzz.core.task import Repository
from bzzz.hive.git_url import check_name, read_git_url
from bzzz.hive.project_setting import SETTING_KEYS, ProjectSettings, check_setting, read_settings

PROJECT_NAME_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 10_000
BRANCH_CHARACTERS_MAX = 200
TAGS_MAX = 100
FORGES = ("github", "gitea")

NO_ADDRESS = "it has no git address"

_FLAGS = ("bzzz_enabled", "private_repo", "github_token_required")


@dataclass(frozen=True, slots=True)
class Project:
    """One project. Times are ISO 8601 in UTC, or empty where the predecessor's row has none.

    ``problem`` says in words why agents cannot work on it (no git address, an unreadable one); empty if
    they can. ``git_url`` never holds credentials.
    """

    id: int
    name: str
    description: str = ""
    status: str = "active"
    git_url: str = ""
    owner: str = ""
    repository: str = ""
    branch: str = "main"
    api_url: str = ""
    web_url: str = ""
    forge: str = "github"
    bzzz_enabled: bool = False
    ready_to_claim: bool = False
    private_repo: bool = False
    github_token_required: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    created_at: str = ""
    updated_at: str = ""
    problem: str = ""

    @property
    def key(self) -> str:
        """``owner/name``, the repository's identity within the mesh."""
        return f"{self.owner}/{self.repository}"

    @property
    def active(self) -> bool:
        """Whether agents may work on it: enabled, and with a git address, readable or not."""
        return self.bzzz_enabled and self.problem != NO_ADDRESS

    @property
    def settings(self) -> ProjectSettings:
        """The project's own settings, from its metadata."""
        return read_settings(self.metadata)

    def labels(self, default: str) -> tuple[str, ...]:
        """The labels that an issue must carry, all of them, to be a task here."""
        return self.settings.labels or (default,)

    def to_repository(self) -> Repository:
        """What the forge and ledger ports take.

        Raises:
            ValueError: ``problem`` is not empty.
        """
        if self.problem:
            raise ValueError(self.problem)
        return Repository(
            project_id=self.id,
            name=self.name,
            owner=self.owner,
            repository=self.repository,
            git_url=self.git_url,
            api_url=self.api_url,
            branch=self.branch,
            forge=self.forge,
            private=self.private_repo,
            token_required=self.github_token_required,
            rules=self.settings.to_rules(),
        )


def draft_from(fields: Mapping[str, Any], forge_base_url: str) -> dict[str, Any]:
    """The checked fields of a new project.

    ``git_url`` is needed, or ``github_repo`` (``owner/name``), which is then looked for at
    ``forge_base_url``. Enabled unless said otherwise: a project is added in order to be worked on.

    Raises:
        ValueError: one line that names the field.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    if not given.get("name"):
        raise ValueError("name: a project needs one")
    if not given.get("git_url"):
        given["git_url"] = _git_url_of(given.get("github_repo"), forge_base_url)
    return {"bzzz_enabled": True, "branch": "main", "status": "active"} | change_from(given)


def change_from(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The checked fields of a change; only those that were given. A new ``git_url`` moves owner and name.

    Raises:
        ValueError: one line that names the field.
    """
    found = {key: value for key, value in fields.items() if value is not None}
    if "metadata" in found:
        # Those that are kept in there are fields like the others, and checked like them.
        inner = dict(found["metadata"])
        found = {key: inner.pop(key) for key in ("api_url", "forge", *SETTING_KEYS) if key in inner} | found
        found["metadata"] = inner
    changed: dict[str, Any] = {key: bool(found[key]) for key in _FLAGS if key in found}
    if "name" in found:
        changed["name"] = _line(found["name"], "name", PROJECT_NAME_CHARACTERS_MAX)
    if "status" in found:
        changed["status"] = _line(found["status"], "status", 50)
    if "description" in found:
        changed["description"] = _text(found["description"], "description")
    if "branch" in found:
        changed["branch"] = _branch(found["branch"])
    if "tags" in found:
        changed["tags"] = _tags(found["tags"])
    if "metadata" in found:
        changed["metadata"] = found["metadata"]
    if "forge" in found:
        if found["forge"] not in FORGES:
            raise ValueError(f"forge: {str(found['forge'])[:40]!r} is none of {', '.join(FORGES)}")
        changed["forge"] = found["forge"]
    if "api_url" in found:
        changed["api_url"] = _api_url(found["api_url"])
    changed |= {key: check_setting(key, found[key]) for key in SETTING_KEYS if key in found}
    if "git_url" in found:
        changed |= _place(str(found["git_url"]))
    return changed


def repository_of(fields: Mapping[str, Any]) -> Repository:
    """The repository that checked fields name, before there is a project of them."""
    address = read_git_url(fields["git_url"])
    return Repository(
        project_id=0,
        name=str(fields.get("name", "")),
        owner=fields["owner"],
        repository=fields["repository"],
        git_url=fields["git_url"],
        api_url=fields.get("api_url") or address.api_url,
        forge=fields.get("forge", "github"),
    )


def _place(git_url: str) -> dict[str, Any]:
    try:
        address = read_git_url(git_url)
    except ValueError as error:
        raise ValueError(f"git_url: {error}") from None
    if address.had_credentials:
        raise ValueError("git_url: leave the user name and password out; tokens are read from files")
    return {"git_url": address.url, "owner": address.owner, "repository": address.repository}


def _git_url_of(repository: object, forge_base_url: str) -> str:
    owner, slash, name = str(repository or "").partition("/")
    if not slash:
        raise ValueError("git_url: give it, or github_repo as owner/name")
    try:
        check_name(owner, "owner")
        check_name(name, "repository")
    except ValueError as error:
        raise ValueError(f"github_repo: {error}") from None
    return f"{forge_base_url.rstrip('/')}/{owner}/{name}.git"


def _line(value: object, key: str, characters_max: int) -> str:
    text = str(value).strip()
    if not text or len(text) > characters_max or not text.isprintable():
        raise ValueError(f"{key}: 1 to {characters_max} printable characters")
    return text


def _text(value: object, key: str) -> str:
    text = str(value)
    if len(text) > TEXT_CHARACTERS_MAX or "\x00" in text:
        raise ValueError(f"{key}: at most {TEXT_CHARACTERS_MAX} characters of text")
    return text


def _branch(value: object) -> str:
    text = _line(value, "branch", BRANCH_CHARACTERS_MAX)
    # git-check-ref-format(1), as far as a name could be taken for an option or a path.
    if text.startswith(("-", "/")) or ".." in text or any(character in text for character in " ~^:?*[\\"):
        raise ValueError(f"branch: {text[:40]!r} is not a branch name")
    return text


def _tags(value: object) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > TAGS_MAX:
        raise ValueError(f"tags: a list of at most {TAGS_MAX} words")
    return [_line(tag, "tags", 100) for tag in value]


def _api_url(value: object) -> str:
    text = str(value).rstrip("/")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc or not text.isprintable():
        raise ValueError("api_url: an http or https URL without user name and password")
    return text

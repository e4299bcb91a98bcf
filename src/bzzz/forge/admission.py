"""The gate between a forge's issues and tasks: who may set agents to work, and on what. Pure.

An issue is admitted when it is open, is no pull request, carries the label (checked here again, for a forge
may ignore the filter), and was written by somebody the repository knows. What is refused has a reason.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from bzzz.core.task import Comment, Issue

LABEL_DEFAULT = "bzzz-task"
ASSOCIATIONS_DEFAULT = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
TITLE_CHARS_MAX = 256
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Reason(enum.StrEnum):
    """Why an issue is no task."""

    PULL_REQUEST = "it is a pull request"
    NOT_OPEN = "it is not open"
    NOT_LABELLED = "it does not carry the label"
    STRANGER = "its author is not among those whose issues are taken"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which issues and comments are taken; ``authors`` are logins taken whatever their association."""

    label: str = LABEL_DEFAULT
    associations: frozenset[str] = ASSOCIATIONS_DEFAULT
    authors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on one issue: admitted when there is no ``reason``."""

    issue: Issue
    reason: Reason | None

    @property
    def admitted(self) -> bool:
        """Whether it is a task."""
        return self.reason is None


def knows(policy: Policy, author: str, association: str) -> bool:
    """Whether what this author writes is taken."""
    return association.upper() in policy.associations or author.lower() in {a.lower() for a in policy.authors}


def admit(issue: Issue, policy: Policy) -> Admission:
    """Decide on one issue."""
    if issue.is_pull:
        return Admission(issue, Reason.PULL_REQUEST)
    if issue.state != "open":
        return Admission(issue, Reason.NOT_OPEN)
    if policy.label.lower() not in {label.lower() for label in issue.labels}:
        return Admission(issue, Reason.NOT_LABELLED)
    if not knows(policy, issue.author, issue.association):
        return Admission(issue, Reason.STRANGER)
    return Admission(issue, None)


def trusted(comments: Iterable[Comment], policy: Policy) -> tuple[Comment, ...]:
    """Those comments that may reach an agent."""
    return tuple(each for each in comments if knows(policy, each.author, each.association))


def shown_title(title: str) -> str:
    """A title as one line for people: no control or direction characters, at most ``TITLE_CHARS_MAX``."""
    line = "".join(
        " " if c.isspace() else c if c.isprintable() and c not in _DIRECTIONS else "\ufffd" for c in title
    )
    line = " ".join(line.split())
    return line if len(line) <= TITLE_CHARS_MAX else line[: TITLE_CHARS_MAX - 1] + "…"

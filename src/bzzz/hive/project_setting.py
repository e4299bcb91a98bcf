"""A project's own settings: what makes an issue a task there, how work is checked, by whom, and within what limits.

Pure. They are kept in the project's ``metadata``, where the predecessor's tools leave what they do not know alone.
Nodes read them with the project and obey them; Hive itself uses ``labels`` and ``strikes_max``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bzzz.core.task import ProjectRules

SETTING_KEYS = ("labels", "check_command", "agent", "limits", "reviewers")
LIMIT_KEYS = ("tasks_max", "wall_s_max", "idle_s_max", "strikes_max")
COUNTS = ("tasks_max", "strikes_max")
LIMIT_MAX = 10**9

LABELS_MAX = 10
REVIEWERS_MAX = 20
WORD_CHARACTERS_MAX = 100
COMMAND_WORDS_MAX = 50
COMMAND_CHARACTERS_MAX = 2000


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """One project's settings; what is empty is left to the node's own.

    ``check_command`` is one program with its arguments. ``limits`` has keys of ``LIMIT_KEYS``.
    """

    labels: tuple[str, ...] = ()
    check_command: tuple[str, ...] = ()
    agent: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    reviewers: tuple[str, ...] = ()

    def to_object(self) -> dict[str, Any]:
        """As JSON; what is empty is left out."""
        value = {
            "labels": list(self.labels),
            "check_command": list(self.check_command),
            "agent": self.agent,
            "limits": dict(self.limits),
            "reviewers": list(self.reviewers),
        }
        return {key: item for key, item in value.items() if item}

    def to_rules(self) -> ProjectRules:
        """As nodes take them."""
        counts = {key: int(number) for key, number in self.limits.items() if key in COUNTS}
        return ProjectRules(
            labels=self.labels,
            check_command=self.check_command,
            agent=self.agent,
            reviewers=self.reviewers,
            **{**self.limits, **counts},  # type: ignore[arg-type]
        )


def read_settings(metadata: Mapping[str, Any]) -> ProjectSettings:
    """Settings from metadata that anybody may have written; a wrong one is as if it were not there."""
    found: dict[str, Any] = {}
    for key in SETTING_KEYS:
        if metadata.get(key):
            try:
                found[key] = check_setting(key, metadata[key])
            except ValueError:
                continue
    for key in ("labels", "check_command", "reviewers"):
        if key in found:
            found[key] = tuple(found[key])
    return ProjectSettings(**found)


def check_setting(key: str, value: Any) -> Any:
    """One setting as it is stored; an empty one takes it away.

    Raises:
        ValueError: one line that names it.
    """
    if key == "agent":
        return _word(value, key) if value else ""
    if key == "limits":
        return _limits(value)
    if key == "check_command":
        words = _texts(value, key, COMMAND_WORDS_MAX)
        if sum(map(len, words)) > COMMAND_CHARACTERS_MAX or any("\x00" in word for word in words):
            raise ValueError(f"{key}: at most {COMMAND_CHARACTERS_MAX} characters")
        return words
    most = LABELS_MAX if key == "labels" else REVIEWERS_MAX
    return [_word(word, key) for word in _texts(value, key, most)]


def _texts(value: Any, key: str, most: int) -> list[str]:
    if not isinstance(value, list | tuple) or len(value) > most or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{key}: a list of at most {most} texts")
    return list(value)


def _word(value: Any, key: str) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > WORD_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"{key}: 1 to {WORD_CHARACTERS_MAX} printable characters")
    return text


def _limits(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"limits: an object with {', '.join(LIMIT_KEYS)}")
    found = {}
    for key, number in value.items():
        if key not in LIMIT_KEYS:
            raise ValueError(f"limits: {str(key)[:40]!r} is none of {', '.join(LIMIT_KEYS)}")
        fine = isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= LIMIT_MAX
        if not fine or (key in COUNTS and number != int(number)):
            what = "a whole number" if key in COUNTS else "a number of seconds"
            raise ValueError(f"limits: {key} is {what} above 0, at most {LIMIT_MAX}")
        found[key] = number
    return found

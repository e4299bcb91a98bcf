"""Which node suits which task, computed from public words alone, so that every node computes the same.

The predecessor's task types come from labels, then the title, then the body. A node's match is a small
whole number: 0 means that it must not try, more means that it should try sooner.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable

from bzzz.core.task import Task, TaskType

KEYWORDS_MAX = 48
MATCHES_MAX = 16_384
"""How many answers of ``match`` are kept; it is asked the same for every task and node again and again."""
BODY_READ_CHARS_MAX = 20_000

_WORD = re.compile(r"[a-z][a-z0-9_+#./-]{1,38}[a-z0-9+#]")
_STOPWORDS = frozenset(
    "the and for with that this from are was were will would should could must has have had not but its into than "
    "then when where which while who what why how all any can our your their there here also each been being does "
    "did done use used using make makes made one two new now out over under more most some such only same other "
    "task type priority description requirements deliverables".split()
)

# Words that name a type when they stand in a label (whole) or in a title or body (as a word).
_TYPE_WORDS: tuple[tuple[TaskType, frozenset[str]], ...] = (
    (TaskType.SECURITY, frozenset({"security", "vulnerability", "cve", "xss", "injection", "exploit"})),
    (
        TaskType.BUG,
        frozenset({"bug", "bugfix", "fix", "fixes", "crash", "error", "broken", "defect", "regression"}),
    ),
    (TaskType.DOCUMENTATION, frozenset({"documentation", "docs", "doc", "readme", "docstring", "docstrings"})),
    (TaskType.TESTING, frozenset({"testing", "test", "tests", "coverage"})),
    (TaskType.REFACTOR, frozenset({"refactor", "refactoring", "cleanup", "simplify", "rename"})),
    (
        TaskType.INFRASTRUCTURE,
        frozenset({"infrastructure", "infra", "ci", "build", "deploy", "deployment", "docker", "packaging"}),
    ),
    (TaskType.UI_UX, frozenset({"ui/ux", "ui", "ux", "frontend", "css", "design", "layout"})),
    (TaskType.FEATURE, frozenset({"feature", "enhancement", "add", "adds", "implement", "support", "introduce"})),
)

# What kinds of node suit which type: words looked for in capabilities and specialization.
_AFFINITY: dict[TaskType, frozenset[str]] = {
    TaskType.BUG: frozenset({"bug", "debugging", "code-generation", "coding"}),
    TaskType.FEATURE: frozenset({"feature", "code-generation", "coding"}),
    TaskType.DOCUMENTATION: frozenset({"documentation", "docs", "writing", "reasoning"}),
    TaskType.REFACTOR: frozenset({"refactor", "refactoring", "code-analysis", "code-generation"}),
    TaskType.TESTING: frozenset({"testing", "test", "code-analysis"}),
    TaskType.INFRASTRUCTURE: frozenset({"infrastructure", "devops", "deployment", "reasoning"}),
    TaskType.SECURITY: frozenset({"security", "code-analysis", "reasoning"}),
    TaskType.UI_UX: frozenset({"ui/ux", "ui", "frontend", "design"}),
    TaskType.GENERAL: frozenset({"general", "task-coordination", "reasoning"}),
}


def task_type(labels: Iterable[str], title: str, body: str) -> TaskType:
    """The predecessor's rule: labels decide, then the title, then the body; else ``GENERAL``."""
    named = {label.strip().lower().removeprefix("type-").removeprefix("type:").strip() for label in labels}
    for kind, words in _TYPE_WORDS:
        if named & words:
            return kind
    if named & {"general"}:
        return TaskType.GENERAL
    for text in (title, body[:BODY_READ_CHARS_MAX]):
        found = set(re.findall(r"[a-z/]+", text.lower()))
        for kind, words in _TYPE_WORDS:
            if found & words:
                return kind
    return TaskType.GENERAL


def priority(labels: Iterable[str]) -> int:
    """The number of the highest ``priority-N`` label, 0 to 100; 0 without one. Higher goes first."""
    found = [0]
    for label in labels:
        number = label.strip().lower().removeprefix("priority-")
        if number.isascii() and number.isdigit() and len(number) <= 4:
            found.append(min(100, int(number)))
    return max(found)


def keywords(title: str, body: str) -> tuple[str, ...]:
    """At most ``KEYWORDS_MAX`` telling words of title and body, sorted; a title's word counts three times."""
    counted: Counter[str] = Counter()
    for text, weight in ((title, 3), (body[:BODY_READ_CHARS_MAX], 1)):
        for word in _WORD.findall(text.lower()):
            if word not in _STOPWORDS:
                counted[word] += weight
    best = sorted(counted, key=lambda word: (-counted[word], word))[:KEYWORDS_MAX]
    return tuple(sorted(best))


def match(task: Task, capabilities: Iterable[str], specialization: str, models: Iterable[str]) -> int:
    """How well a node suits a task: 0 must not try; 1 may; more is better, at most 15.

    A label ``needs-X`` demands capability ``X``, a label ``model-X`` a model whose name contains ``X``;
    everything else only orders the nodes.
    """
    wanted = (task.labels, task.task_type, task.keywords)
    return _match(wanted, (tuple(capabilities), specialization, tuple(models)))


@functools.lru_cache(maxsize=MATCHES_MAX)
def _match(
    wanted: tuple[tuple[str, ...], TaskType, tuple[str, ...]],
    offered: tuple[tuple[str, ...], str, tuple[str, ...]],
) -> int:
    labels, kind, words = wanted
    capabilities, specialization, models = offered
    able = {_plain(word) for word in capabilities if word.strip()}
    special = _plain(specialization)
    owned = able | {special} if special else able
    known_models = [model.lower() for model in models]
    for label in labels:
        lowered = label.strip().lower()
        if lowered.startswith("needs-") and _plain(lowered[6:]) not in owned:
            return 0
        if lowered.startswith("model-") and not any(lowered[6:] in model for model in known_models):
            return 0
    score = 1
    affinity = _AFFINITY[kind]
    if special in affinity:
        score += 4
    if able & affinity:
        score += 3
    if able & {_plain(label) for label in labels}:
        score += 3
    parts = {part for word in owned for part in word.split("-") if len(part) > 2}
    score += min(4, len((parts | owned) & set(words)))
    return score


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", "-").replace(" ", "-")

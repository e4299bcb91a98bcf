"""Captured items as files, in the predecessor's layout: one JSON file an item and one JSONL a day.

Its three folders are ``agent_work``, ``pull_requests`` and ``agent_prompts``; what it kept nowhere (discussions,
coordination, chats) goes into a fourth, ``coordination``. Exporting again writes the same files: each is written
beside its place and moved there, so a reader never sees half of one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bzzz.errors import UsageError
from bzzz.hive.capture import CaptureKind
from bzzz.hive.capture_schema import CaptureAnswer

FOLDERS: Mapping[CaptureKind, str] = {
    "submit-work": "agent_work",
    "create-pr": "pull_requests",
    "log-prompt": "agent_prompts",
    "coordination-discussion": "coordination",
    "coordination-log": "coordination",
    "chat-log": "coordination",
    "antennae-log": "coordination",
}

_PART = ".part"


def export(items: Iterable[CaptureAnswer], folder: Path) -> Mapping[str, int]:
    """Write items, oldest first, below ``folder``.

    Returns:
        the number of items by folder.

    Raises:
        UsageError: a file cannot be written.
    """
    counts: Counter[str] = Counter()
    days: set[Path] = set()
    try:
        for name in sorted(set(FOLDERS.values())):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for left in (folder / name).glob(f"*.jsonl{_PART}"):
                left.unlink()
        for item in items:
            name = FOLDERS[item.kind]
            value = shape(item)
            _write(folder / name / file_name(item), json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            day = folder / name / f"{name}_{item.captured_at[:10].replace('-', '')}.jsonl"
            with day.with_name(day.name + _PART).open("a", encoding="utf-8", errors="replace") as file:
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
            days.add(day)
            counts[name] += 1
        for day in days:
            day.with_name(day.name + _PART).replace(day)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: the export cannot be written: {error.strerror}") from None
    return counts


def shape(item: CaptureAnswer) -> dict[str, Any]:
    """One item as it stands in a file: what was sent, and beside it what Hive knows of it."""
    known = item.model_dump(exclude={"body"})
    if isinstance(item.body, dict):
        return {**item.body, "timestamp": item.captured_at, "capture": known}
    return {"content": item.body, "timestamp": item.captured_at, "capture": known}


def file_name(item: CaptureAnswer) -> str:
    """A name that sorts by time, tells what it is, and is the same at each export."""
    moment = re.sub(r"[^0-9]", "", item.captured_at)
    about = "" if item.project_id is None else f"_{item.project_id}"
    about += "" if item.task_number is None else f"_{item.task_number}"
    return f"{item.kind.replace('-', '_')}{about}_{moment}_{item.id}.json"


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + _PART)
    part.write_text(text, encoding="utf-8", errors="replace")
    part.replace(path)

"""The command agent: any program, run in the work tree with the prompt.

Its configuration, with what is taken where a key is left out::

    {"kind": "command",
     "command": ["prog", "{prompt_file}"],       # words; {prompt_file}, {prompt}, {number} are replaced
     "prompt": "stdin",                          # or "argument" (appended unless {prompt} is there), or "file"
     "env": {}, "env_files": {},                 # values; files whose content is the value (secrets)
     "read_only": [],                            # further folders it may read
     "rate_limited": {"exit_codes": [], "patterns": [...], "retry_after_s": 600}}

The environment is cleared. The exit status proves nothing: 0 leaves the judgement to the proof, anything
else is ``CRASHED`` unless it says that a limit was reached. Patterns are plain words, looked for without
regard to letter case in the end of the output of a program that failed. An agent that needs a person leaves
``.bzzz/help.md`` in the tree.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from bzzz.agents import child, prompt
from bzzz.agents.agent import AgentContext, AgentEnd
from bzzz.agents.sandbox import Box, environment
from bzzz.agents.text import last_line, neutral
from bzzz.errors import AgentError
from bzzz.ports import Outcome

PROMPT_WAYS = ("stdin", "argument", "file")
RETRY_AFTER_S_DEFAULT = 600.0
SECRET_FILE_BYTES_MAX = 64 * 1024
PROGRESS_EVERY_S = 1.0
PATTERN_TAIL_BYTES = 16 * 1024
PATTERNS_DEFAULT = (
    "rate limit", "rate_limit", "ratelimit", "too many requests", "quota exceeded", "insufficient_quota",
    "usage limit", "overloaded_error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CommandConfig:
    """The configuration above, checked."""

    command: tuple[str, ...]
    prompt: str = "stdin"
    env: Mapping[str, str] = field(default_factory=dict)
    env_files: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    exit_codes: frozenset[int] = frozenset()
    patterns: tuple[str, ...] = PATTERNS_DEFAULT
    retry_after_s: float = RETRY_AFTER_S_DEFAULT

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> CommandConfig:
        """Check an agent's configuration.

        Raises:
            AgentError: names the key, what stands there and what is allowed.
        """
        known = {"kind", "command", "prompt", "env", "env_files", "read_only", "rate_limited"}
        for key in value:
            _demand(key in known, key, value[key], f"the keys are {', '.join(sorted(known))}")
        command = value.get("command")
        if not _is_words(command) or not command:
            raise _wrong("command", command, "a list of words, the program first")
        way = value.get("prompt", "stdin")
        _demand(way in PROMPT_WAYS, "prompt", way, f"one of {', '.join(PROMPT_WAYS)}")
        for key in ("env", "env_files"):
            table = value.get(key, {})
            plain = isinstance(table, Mapping) and all(
                isinstance(word, str) for pair in table.items() for word in pair
            )
            _demand(plain, key, "(hidden)", "a table of strings")
        read_only = value.get("read_only", ())
        _demand(_is_words(read_only), "read_only", read_only, "a list of folders")
        limits = value.get("rate_limited", {})
        _demand(isinstance(limits, Mapping), "rate_limited", limits, "a table")
        codes = limits.get("exit_codes", ())
        _demand(isinstance(codes, list | tuple) and all(isinstance(code, int) for code in codes),
                "rate_limited.exit_codes", codes, "a list of numbers")  # fmt: skip
        patterns = limits.get("patterns", PATTERNS_DEFAULT)
        _demand(_is_words(patterns), "rate_limited.patterns", patterns, "a list of words")
        retry = limits.get("retry_after_s", RETRY_AFTER_S_DEFAULT)
        _demand(isinstance(retry, int | float) and retry >= 0, "rate_limited.retry_after_s", retry, "seconds")
        return cls(
            command=tuple(command),
            prompt=way,
            env=dict(value.get("env", {})),
            env_files=dict(value.get("env_files", {})),
            read_only=tuple(read_only),
            exit_codes=frozenset(codes),
            patterns=tuple(pattern.lower() for pattern in patterns if pattern),
            retry_after_s=float(retry),
        )


def _demand(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise _wrong(key, value, allowed)


def _wrong(key: str, value: object, allowed: str) -> AgentError:
    return AgentError(f"agent configuration: {key} = {repr(value)[:80]} is not allowed; {allowed}")


def _is_words(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)


def run_command(context: AgentContext) -> AgentEnd:
    """Run the configured program to its end.

    Raises:
        AgentError: the configuration is wrong, or a secret's file cannot be read.
    """
    config = CommandConfig.read(context.spec.agent)
    text = prompt.compose(
        context.spec, context.check, nonce=context.nonce, trusted=context.settings.trusted_associations
    )
    prompt_file = context.workspace.folder / "prompt.md"
    prompt_file.write_text(text, encoding="utf-8", errors="replace")
    secrets = {name: _read_secret(name, path) for name, path in config.env_files.items()}
    env = {**environment(context.settings, context.marks), **config.env, **secrets, **context.marks}
    missing = _missing(context, config.command[0], env["PATH"])
    if missing:
        return AgentEnd(Outcome.AGENT_MISSING, missing)
    argv = _arguments(config, context, prompt_file, text)
    launch = context.sandbox.wrap(_box(context, config, prompt_file, env), argv)
    bounds = child.Bounds(
        wall_s_max=context.spec.wall_s_max,
        idle_s_max=context.spec.idle_s_max,
        output_bytes_max=context.spec.output_bytes_max,
        disk_bytes_max=context.settings.disk_bytes_max,
        end_grace_s=context.settings.end_grace_s,
        tree=context.workspace.tree,
    )
    try:
        with context.log.open("wb") as log:
            end = child.run(
                launch,
                bounds=bounds,
                control=context.control,
                given=text.encode("utf-8", "replace") if config.prompt == "stdin" else b"",
                secrets=tuple(secrets.values()),
                log=_teller(log.write, context.progress),
                on_started=context.started,
            )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        return AgentEnd(Outcome.AGENT_MISSING, f"{config.command[0]} could not be started: {error.strerror}")
    return judge(config, end)


def judge(config: CommandConfig, end: child.ChildEnd) -> AgentEnd:
    """What the end of the program means, before any proof."""
    usage = {"seconds": round(end.seconds, 3), "output_bytes": end.output_bytes, "status": end.status}
    program = config.command[0]
    if end.end is child.End.STOPPED:
        return AgentEnd(Outcome.STOPPED, end.detail, usage=usage)
    if end.end is not child.End.EXITED:
        return AgentEnd(Outcome.OUT_OF_BUDGET, f"{end.end.value}: {end.detail}", usage=usage)
    said = last_line(end.tail)
    if end.status in config.exit_codes or (end.status != 0 and _says_limit(config, end.tail)):
        summary = f"{program} reached a limit: {said or f'status {end.status}'}"
        return AgentEnd(Outcome.RATE_LIMITED, summary, retry_after_s=config.retry_after_s, usage=usage)
    if end.status == 127 or (end.status == 1 and said.startswith("bwrap: execvp")):
        return AgentEnd(Outcome.AGENT_MISSING, f"{program} could not be started: {said}", usage=usage)
    if end.status != 0:
        how = f"was ended by signal {-end.status}" if end.status < 0 else f"ended with status {end.status}"
        return AgentEnd(Outcome.CRASHED, f"{program} {how}" + (f": {said}" if said else ""), usage=usage)
    return AgentEnd(None, said or f"{program} ended", usage=usage)


def _says_limit(config: CommandConfig, tail: bytes) -> bool:
    text = tail[-PATTERN_TAIL_BYTES:].decode("utf-8", "replace").lower()
    return any(pattern in text for pattern in config.patterns)


def _read_secret(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_FILE_BYTES_MAX)
    except OSError as error:
        raise AgentError(
            f"agent configuration: env_files.{name} = {path} cannot be read: {error.strerror}"
        ) from None
    return data.decode("utf-8", "replace").strip()


def _missing(context: AgentContext, program: str, path: str) -> str:
    """Why the program cannot be run; empty where it can, as far as can be seen from outside."""
    if "/" in program and not program.startswith("/"):
        return "" if (context.workspace.tree / program).exists() else f"the repository has no program {program}"
    found = shutil.which(program, path=path)
    if found is None:
        return (
            f"the program {program} is not installed here (looked in {path}); install it or correct agent.command"
        )
    if not context.sandbox.shows(Path(found)):
        return f"the program {found} cannot be seen in the sandbox; add its folder to agents.sandbox_paths"
    return ""


def _arguments(config: CommandConfig, context: AgentContext, prompt_file: Path, text: str) -> tuple[str, ...]:
    # One pass a word: what a stranger wrote into the prompt is not replaced again.
    values = {
        "{prompt_file}": str(prompt_file),
        "{prompt}": text.replace("\0", ""),
        "{number}": str(context.spec.task.number),
    }
    words = [values.get(word, word) for word in config.command]
    if config.prompt == "argument" and "{prompt}" not in config.command:
        words.append(values["{prompt}"])
    if config.prompt == "file" and "{prompt_file}" not in config.command:
        words.append(values["{prompt_file}"])
    return tuple(words)


def _box(context: AgentContext, config: CommandConfig, prompt_file: Path, env: Mapping[str, str]) -> Box:
    name = neutral(context.spec.agent_name, chars_max=60, lines=False)
    home = context.settings.homes / ("".join(c if c.isalnum() or c in "-_" else "-" for c in name) or "agent")
    home.mkdir(parents=True, exist_ok=True)
    read_only = (context.workspace.mirror / "objects", prompt_file, *(Path(path) for path in config.read_only))
    return Box(context.workspace.tree, home, read_only, env)


def _teller(write: Callable[[bytes], object], progress: Callable[[str, str], None]) -> Callable[[bytes], None]:
    """Keep the output, and tell its last line now and then."""
    told_s = 0.0

    def tell(data: bytes) -> None:
        nonlocal told_s
        write(data)
        now = time.monotonic()
        line = last_line(data)
        if line and now - told_s >= PROGRESS_EVERY_S:
            told_s = now
            progress("agent", line)

    return tell

"""The worker: one process, one attempt, from the work tree to the verdict.

Started by the node as ``python -m bzzz.agents.worker <folder>``. It writes events to standard output, one
JSON object a line, and reads orders from standard input: ``{"base": .., "mirror": ..}`` once the repository
is fetched, ``{"failed": ..}`` if that went wrong, ``{"stop": reason}``. The end of that input means that the
node died. Whatever happens, it ends the agent's processes, commits what the agent made and writes
``finished.json`` before it goes. It imports the standard library alone, since its start is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bzzz.agents import process
from bzzz.agents.agent import Agent, AgentContext, AgentEnd
from bzzz.agents.check import Check
from bzzz.agents.command import run_command
from bzzz.agents.patch import apply_diff, find_diff
from bzzz.agents.proof import Verdict, help_question, message, prove, read_check
from bzzz.agents.sandbox import NoSandbox, Sandbox, choose
from bzzz.agents.setting import AgentSettings
from bzzz.agents.shown import show
from bzzz.agents.spec import event_to_line, read_object, settings_from_object, spec_from_object, write_whole
from bzzz.agents.text import neutral
from bzzz.agents.workspace import HELP_FILE, Saved, Signature, Workspace
from bzzz.errors import AgentError
from bzzz.ports import AttemptEvent, AttemptFinished, AttemptProgressed, AttemptSpec, AttemptStarted, Outcome, Work

ORDER_BYTES_MAX = 64 * 1024
NODE_GONE = "the node that ran this attempt is gone"


class Stopped(Exception):
    """The order to stop came; never leaves this module."""


class Orders:
    """What the node says on standard input, read without ever waiting longer than asked.

    A signal to terminate counts as an order to stop.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._data = b""
        self._orders: list[dict[str, Any]] = []
        self._reason: str | None = None
        os.set_blocking(handle, False)
        signal.signal(signal.SIGTERM, self._terminated)
        self._waker, self._wakened = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._wakened, False)

    def fileno(self) -> int:
        """Standard input."""
        return self._handle

    def _terminated(self, _number: int, _frame: object) -> None:
        self._reason = self._reason or "the worker was told to terminate"
        with contextlib.suppress(OSError):
            os.write(self._wakened, b".")

    def stop_reason(self) -> str | None:
        """Why to stop, once that was said."""
        self._read()
        return self._reason

    def base(self) -> dict[str, Any]:
        """Wait for the base commit.

        Raises:
            Stopped: the order to stop, or the node's end, came first.
        """
        while True:
            if self.stop_reason() is not None:
                raise Stopped(self._reason)
            if self._orders:
                return self._orders.pop(0)
            select.select([self._handle, self._waker], [], [])

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._handle, ORDER_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data or len(self._data) > ORDER_BYTES_MAX:
                self._reason = self._reason or NODE_GONE
                return
            *lines, self._data = (self._data + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "stop" in order:
                    self._reason = self._reason or str(order["stop"])
                else:
                    self._orders.append(order)


def run_patch(context: AgentContext) -> AgentEnd:
    """The agent without a model; it runs in the worker itself."""
    context.started(os.getpid())
    diff = find_diff(context.spec.issue, context.spec.comments, context.settings.trusted_associations)
    if diff is None:
        question = (
            "There is no diff by a maintainer (a fenced block marked diff) in this issue. What should change?"
        )
        return AgentEnd(Outcome.NEEDS_HELP, "no diff by a maintainer was found", question)
    context.progress("agent", f"applying the diff in {diff.where}")
    question = apply_diff(context.workspace.git, diff, context.workspace.base)
    if question:
        return AgentEnd(Outcome.NEEDS_HELP, f"the diff in {diff.where} does not apply", question)
    return AgentEnd(None, f"applied the diff in {diff.where}")


AGENTS: dict[str, Agent] = {"patch": run_patch, "command": run_command}


class Worker:
    """One attempt in this process."""

    def __init__(self, folder: Path, spec: AttemptSpec, settings: AgentSettings, orders: Orders) -> None:
        self._folder = folder
        self._spec = spec
        self._settings = settings
        self._orders = orders
        self._marks = {process.MARK_ATTEMPT: spec.attempt_id, process.MARK_NODE: settings.node}

    def run(self) -> None:
        """The whole attempt; ends with ``finished.json`` and the last event."""
        end = AgentEnd(None, "")
        try:
            order = self._orders.base()
        except Stopped as stopped:
            self._finish(conclude(self._spec, None, Saved(None), Verdict(Outcome.STOPPED, str(stopped), {}), end))
            return
        if "failed" in order:
            self._finish(_failed_fetch(self._spec, order))
            return
        workspace = Workspace(self._folder, Path(order["mirror"]), order["base"])
        verdict: Verdict | None = None
        sandbox: Sandbox = NoSandbox()
        check: Check | None = None
        try:
            sandbox, check, end = self._work(workspace)
            if end.outcome is not None:
                verdict = Verdict(end.outcome, end.summary, {}, end.question)
        except Stopped as stopped:
            verdict = Verdict(Outcome.STOPPED, str(stopped), {})
        except (AgentError, OSError) as error:
            process.end_descendants()
            verdict = trouble(error)
        saved = Saved(None)
        unsaved = False
        try:
            saved = self._save(workspace)
            verdict = verdict or self._judge(workspace, saved, sandbox, check)
        except (AgentError, OSError) as error:
            verdict = trouble(error)
            unsaved = saved.commit is None and workspace.is_ready
        finished = conclude(self._spec, workspace, saved, verdict, end)
        shown = show(self._spec, workspace, saved.commit, message(self._spec))
        self._finish(replace(finished, shown=shown), unsaved=unsaved)

    def _work(self, workspace: Workspace) -> tuple[Sandbox, Check | None, AgentEnd]:
        spec, settings = self._spec, self._settings
        agent = AGENTS.get(str(spec.agent.get("kind")))
        if agent is None:
            kinds = ", ".join(sorted(AGENTS))
            raise AgentError(f"agent configuration: kind = {spec.agent.get('kind')!r} is not one of {kinds}")
        sandbox = choose(settings, probed=True)
        workspace.prepare(branch=spec.branch, name=spec.agent_name, email=settings.author_email)
        check = read_check(workspace, spec)
        if sandbox.warning:
            self._progress("agent", sandbox.warning)
        reason = self._orders.stop_reason()
        if reason is not None:
            raise Stopped(reason)
        end = agent(
            AgentContext(
                spec, settings, workspace, sandbox, check, self._orders, self._marks,
                nonce=secrets.token_hex(8), started=self._started, progress=self._progress,
            )
        )  # fmt: skip
        question = help_question(workspace.tree, HELP_FILE)
        if question and end.outcome is None and workspace.read_base(HELP_FILE, 1 << 20) is None:
            end = AgentEnd(Outcome.NEEDS_HELP, "the agent asks a question", question, usage=end.usage)
        return sandbox, check, end

    def _save(self, workspace: Workspace) -> Saved:
        self._progress("commit", "saving what was made")
        return workspace.save(sign(self._spec, self._settings), work_bytes_max=self._settings.work_bytes_max)

    def _judge(self, workspace: Workspace, saved: Saved, sandbox: Sandbox, check: Check | None) -> Verdict:
        return prove(
            self._spec, self._settings, workspace, saved, check,
            sandbox=sandbox, control=self._orders, marks=self._marks, progress=self._progress,
        )  # fmt: skip

    def _started(self, pid: int) -> None:
        self._tell(AttemptStarted(self._spec.attempt_id, str(self._spec.agent.get("kind")), pid))

    def _progress(self, phase: str, detail: str) -> None:
        self._tell(AttemptProgressed(self._spec.attempt_id, phase, detail))

    def _finish(self, finished: AttemptFinished, *, unsaved: bool = False) -> None:
        line = event_to_line(finished, unsaved=unsaved)
        with contextlib.suppress(OSError):  # a full disk: the event itself still goes out
            write_whole(self._folder / "finished.json", line)
        self._tell(finished, unsaved=unsaved)

    def _tell(self, event: AttemptEvent, **more: Any) -> None:
        with contextlib.suppress(OSError):  # the node is gone: finished.json tells the next one
            os.write(1, event_to_line(event, **more))


def sign(spec: AttemptSpec, settings: AgentSettings) -> Signature:
    """The signature of an attempt's commit, with the present time."""
    return Signature(spec.agent_name, settings.author_email, message(spec), int(time.time()))


def trouble(error: Exception) -> Verdict:
    """What an error on this machine means for the attempt."""
    text = neutral(str(error), chars_max=1000, lines=False)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"the disk is full: {text}"
    if "disk is full" in text or "No space left" in text:
        return Verdict(Outcome.OUT_OF_BUDGET, f"{text}; free some space in the node's data folder", {})
    if text.startswith(("agent configuration:", "no agent is run without a sandbox")):
        return Verdict(Outcome.AGENT_MISSING, text, {})
    if text.startswith(".bzzz.toml"):
        return Verdict(Outcome.NEEDS_HELP, text, {}, f"The check is configured wrongly: {text}")
    return Verdict(Outcome.CRASHED, text, {})


def conclude(
    spec: AttemptSpec, workspace: Workspace | None, saved: Saved, verdict: Verdict, end: AgentEnd
) -> AttemptFinished:
    """Put the parts together for the node."""
    work = None
    if workspace is not None and saved.commit is not None:
        work = Work(workspace.host, saved.commit, workspace.base, spec.branch)
    summary = verdict.summary
    if saved.omitted and verdict.outcome is not Outcome.OUT_OF_BUDGET:
        summary += f" (not committed: {'; '.join(saved.omitted)})"
    return AttemptFinished(
        attempt_id=spec.attempt_id,
        outcome=verdict.outcome,
        summary=summary,
        work=work,
        check=verdict.check,
        usage=end.usage,
        question=verdict.question,
        retry_after_s=end.retry_after_s if verdict.outcome is Outcome.RATE_LIMITED else None,
    )


def _failed_fetch(spec: AttemptSpec, order: dict[str, Any]) -> AttemptFinished:
    return AttemptFinished(
        spec.attempt_id, Outcome(order["outcome"]), str(order["failed"]), retry_after_s=order.get("retry_after_s")
    )


def main(arguments: list[str]) -> int:
    """Run the attempt whose folder is the one argument."""
    folder = Path(arguments[0])
    process.become_subreaper()
    orders = Orders(0)
    own = process.identify(os.getpid())
    if own is not None:
        word = json.dumps({"pid": own.pid, "started_ticks": own.started_ticks})
        write_whole(folder / "pid.json", word.encode(), durable=False)
    value = read_object(folder / "spec.json")
    if value is None:
        sys.stderr.write(f"{folder}/spec.json is not there or cannot be read\n")
        return 2
    Worker(folder, spec_from_object(value["spec"]), settings_from_object(value["settings"]), orders).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

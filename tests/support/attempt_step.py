"""The steps of an attempt: how to bring a task to each, and hold it there at a well-defined moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.support.chaos_stage import ChaosStage, delivers, path_ends
from tests.support.http_door import Fits, Hold, Passing

from bzzz.demo.stage import OWNER


@dataclass(slots=True)
class Held:
    """A task that stands still at a step."""

    step: str
    repository: str
    number: int
    hold: Hold | None = None
    gate: str = ""

    async def reached(self, chaos: ChaosStage) -> None:
        if self.hold is not None:
            await chaos.within(self.hold.reached.wait(), f"{self.step}: {self.repository}#{self.number}")
        else:
            await chaos.at(self.gate, self.number, self.repository)

    def let_go(self, chaos: ChaosStage) -> None:
        """Nothing stands in the way any more; what was held in the air is lost."""
        if self.hold is not None:
            self.hold.cut()
        else:
            chaos.open_gate(self.gate, self.number, self.repository)


Arrange = Callable[[ChaosStage], Awaitable[Held]]


async def _behind_door(
    chaos: ChaosStage, step: str, fits: Callable[[int], Fits], *, after: bool, repository: str = "work"
) -> Held:
    number = await chaos.draft(repository)
    hold = chaos.door.hold(fits(number), after=after)
    await chaos.publish(number, repository)
    return Held(step, repository, number, hold=hold)


async def _at_gate(chaos: ChaosStage, step: str, gate: str) -> Held:
    return Held(step, "work", await chaos.issue(shut=[gate]), gate=gate)


def _claims(number: int) -> Fits:
    mark, work = f"refs/bzzz/claims/{number}\0".encode(), b"refs/heads/bzzz/task-"
    return lambda request: (
        request.path.endswith("/work.git/git-receive-pack") and mark in request.body and work not in request.body
    )


def _opens_pull(number: int) -> Fits:
    mark = f"bzzz/task-{number}-".encode()
    return lambda request: request.method == "POST" and request.path.endswith("/pulls") and mark in request.body


def fetches_slow(request: Passing) -> bool:
    """An attempt's fetch of the repository ``slow``; the ledger speaks git's protocol too, and says who it is."""
    by_git = "bzzz" not in request.headers.get("user-agent", "")
    return by_git and "/slow.git/" in request.path and "service=git-upload-pack" in request.query


async def claim_landed(chaos: ChaosStage) -> Held:
    """The claim stands in the ledger; its holder has not been told."""
    return await _behind_door(chaos, "claim landed", _claims, after=True)


async def claimed(chaos: ChaosStage) -> Held:
    """Claimed; the issue's comments are being read, and no attempt is there yet."""
    number = await chaos.draft()
    path = f"/repos/{OWNER}/work/issues/{number}/comments"
    await chaos.api("POST", path, {"body": "Soon, please."})
    hold = chaos.door.hold(path_ends("GET", path))
    await chaos.publish(number)
    return Held("claimed", "work", number, hold=hold)


async def fetching(chaos: ChaosStage) -> Held:
    """The worker waits for the repository."""
    return await _behind_door(chaos, "fetching", lambda _: fetches_slow, after=False, repository="slow")


async def at_work(chaos: ChaosStage) -> Held:
    """The agent runs, and has done nothing yet."""
    return await _at_gate(chaos, "agent at work", "agent")


async def worked(chaos: ChaosStage) -> Held:
    """The agent has done all of it, and has not ended."""
    return await _at_gate(chaos, "worked", "worked")


async def checking(chaos: ChaosStage) -> Held:
    """The work is committed; its check runs."""
    return await _at_gate(chaos, "checking", "check")


async def proved(chaos: ChaosStage) -> Held:
    """The delivery was sent, and has not arrived."""
    return await _behind_door(chaos, "proved", delivers, after=False)


async def landed(chaos: ChaosStage) -> Held:
    """The delivery stands on the server; its holder has not been told."""
    return await _behind_door(chaos, "landed", delivers, after=True)


async def delivered(chaos: ChaosStage) -> Held:
    """Delivered; the pull request was asked for, and that has not arrived."""
    return await _behind_door(chaos, "delivered", _opens_pull, after=False)


async def opened(chaos: ChaosStage) -> Held:
    """The pull request is open; its holder has not been told."""
    return await _behind_door(chaos, "opened", _opens_pull, after=True)


STEPS: tuple[Arrange, ...] = (
    claim_landed, claimed, fetching, at_work, worked, checking, proved, landed, delivered, opened,
)  # fmt: skip
UNSENT = frozenset({"worked", "checking", "proved"})
"""Steps at which finished work is only on the holder's machine."""

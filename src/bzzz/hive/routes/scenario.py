"""The scenario that this Hive plays, if it plays one: where it stands, urgent tasks and faults on demand."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from bzzz.hive.part import HiveParts, PartsIn
from bzzz.hive.scenario.director import Director
from bzzz.hive.scenario.script import DELAY_S_MAX, Fault, FaultKind, FaultTarget
from bzzz.hive.schema import DoneAnswer, ErrorAnswer

FAULT_S_MAX = 3600
NAME_CHARACTERS_MAX = 100

router = APIRouter()

ANSWERS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorAnswer, "description": "this Hive plays no scenario"},
    409: {"model": ErrorAnswer},
}


class ScenarioAnswer(BaseModel):
    """Where the scenario stands; ``events`` are the last things that happened, oldest first."""

    name: str
    about: str
    elapsed_s: float
    duration_s: float
    happenings: int
    done: int
    over: bool
    faults: list[str]
    events: list[str]
    counters: dict[str, int]


class UrgentRequest(BaseModel):
    """An urgent task, in one of the scenario's projects or in the next of them."""

    project: str = Field("", max_length=NAME_CHARACTERS_MAX)


class UrgentAnswer(BaseModel):
    """The urgent task, as ``owner/name#number``."""

    success: Literal[True] = True
    task: str


class FaultRequest(BaseModel):
    """A fault that begins now."""

    kind: FaultKind
    target: FaultTarget = "forge"
    for_s: float = Field(10.0, gt=0, le=FAULT_S_MAX)
    share: float = Field(1.0, gt=0, le=1)
    delay_s: float = Field(1.0, ge=0, le=DELAY_S_MAX)


@router.get("/api/bzzz/scenario", responses={404: ANSWERS[404]})
async def show(parts: PartsIn) -> ScenarioAnswer:
    """Where it stands."""
    return ScenarioAnswer.model_validate(_director(parts).status(parts))


@router.post("/api/bzzz/scenario/urgent", responses=ANSWERS)
async def urgent(parts: PartsIn, wanted: UrgentRequest) -> UrgentAnswer:
    """Open an urgent task now."""
    return UrgentAnswer(task=await _director(parts).open_urgent(parts, wanted.project))


@router.post("/api/bzzz/scenario/fault", responses={404: ANSWERS[404]})
async def fault(parts: PartsIn, wanted: FaultRequest) -> DoneAnswer:
    """Let a fault begin now."""
    begun = Fault(wanted.kind, wanted.target, 0.0, wanted.for_s, wanted.share, wanted.delay_s)
    _director(parts).box.begin(begun)
    return DoneAnswer()


@router.delete("/api/bzzz/scenario/fault", responses={404: ANSWERS[404]})
async def end_faults(parts: PartsIn) -> DoneAnswer:
    """End every fault that is on."""
    _director(parts).box.end()
    return DoneAnswer()


def _director(parts: HiveParts) -> Director:
    if parts.director is None:
        raise HTTPException(404, "this Hive plays no scenario; start one with: bzzz hive serve --scenario calm")
    found: Director = parts.director
    return found

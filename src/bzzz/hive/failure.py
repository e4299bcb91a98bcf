"""How a failure becomes an answer: JSON with ``error`` and ``detail``, never a traceback.

A forge or ledger behind Hive that fails is not Hive's own fault and is not the client's: 502 where it
answered wrongly, 503 where trying again later may help.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from bzzz.errors import (
    BzzzError,
    LedgerUncertain,
    ServiceLimited,
    ServiceUnavailable,
    UsageError,
)
from bzzz.hive.schema import ErrorAnswer

RETRY_AFTER_S = 5
FIELDS_NAMED_MAX = 5

_LOG = logging.getLogger("bzzz.hive")

FAILURES: Mapping[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": meaning}
    for code, meaning in {
        401: "no key, or an unknown one",
        403: "the key's role does not suffice; or no key is set and the client is not on this machine",
        413: "the body is too large",
        422: "a field is missing or wrong; the detail names it",
        429: "too many calls with this key, or without one; see Retry-After",
        502: "the forge or the git server answered wrongly",
        503: "the forge, the git server or the database is away",
    }.items()
}
"""Answers that every route may give, for the published interface."""


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` a JSON answer."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(BzzzError, _on_bzzz)
    app.add_exception_handler(SQLAlchemyError, _on_database)
    app.add_exception_handler(Exception, _on_bug)


def answer(status: int, error: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """One failure as an answer."""
    return JSONResponse({"error": error, "detail": detail}, status, headers)


def status_of(error: BzzzError) -> tuple[int, str, dict[str, str]]:
    """Status, short name and headers for an error that left a route."""
    if isinstance(error, UsageError):
        return 409, "conflict", {}
    if isinstance(error, ServiceLimited):
        return 503, "limited", {"Retry-After": str(max(1, round(error.retry_after_s or RETRY_AFTER_S)))}
    if isinstance(error, ServiceUnavailable):
        return 503, "unavailable", {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, LedgerUncertain):
        return 503, "uncertain", {"Retry-After": str(RETRY_AFTER_S)}
    return 502, "bad_gateway", {}


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette chose this handler by that type
    if error.status_code == 400 and not _documents_400(request):
        # The framework's answer to a body that is not even text; one status for all bodies that are not JSON.
        return answer(422, "invalid_request", "the body is not JSON in UTF-8")
    # Python's own phrase for 422 changed between versions; programs read this name.
    phrase = "invalid_request" if error.status_code == 422 else HTTPStatus(error.status_code).phrase
    return answer(error.status_code, phrase.lower().replace(" ", "_"), str(error.detail), error.headers)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    problems = error.errors()
    missing = any(problem["type"] == "missing" for problem in problems)
    old = missing and _documents_400(request)
    given = request.headers.get("content-type", "")
    if "json" not in given and any(tuple(problem["loc"]) == ("body",) for problem in problems):
        # Not read as JSON on purpose: a web page may send any other type to an address of its reader's machine.
        return answer(422, "invalid_request", f"send JSON as 'Content-Type: application/json', not {given[:60]!r}")
    return answer(400 if old else 422, "invalid_request", describe(problems))


def _documents_400(request: Request) -> bool:
    """Whether a route promises the predecessor's answer to a missing field."""
    return 400 in getattr(request.scope.get("route"), "responses", {})


async def _on_bzzz(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BzzzError)  # noqa: S101 - as above
    status, name, headers = status_of(error)
    if status >= 500:
        _LOG.warning("%s %s: %s", request.method, request.url.path, error)
    return answer(status, name, str(error), headers)


async def _on_database(request: Request, error: Exception) -> JSONResponse:
    cause = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())[:200]
    _LOG.error("%s %s: Hive's database failed: %s", request.method, request.url.path, cause)
    detail = "Hive's database does not answer; try again later"
    return answer(503, "database_unavailable", detail, {"Retry-After": str(RETRY_AFTER_S)})


async def _on_bug(_request: Request, _error: Exception) -> JSONResponse:
    # The server logs it with its traceback; the client gets none.
    return answer(500, "internal_error", "a fault in Hive itself; its log has the details")


def describe(problems: Sequence[Any]) -> str:
    """Validation errors in one line that names the fields, without what the client sent."""
    lines = []
    for problem in problems[:FIELDS_NAMED_MAX]:
        place = ".".join(str(part) for part in problem["loc"][1:] if isinstance(part, str | int))
        lines.append(f"{place or problem['loc'][0]}: {problem['msg']}")
    if len(problems) > FIELDS_NAMED_MAX:
        lines.append(f"and {len(problems) - FIELDS_NAMED_MAX} more")
    return "; ".join(lines)
